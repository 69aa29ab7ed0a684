"""Many customers at once: answered or told when to come back, and nothing is left behind."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from featherdesk.agent.artifacts import Manifest, place, seal
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.encoder import MiniLM
from featherdesk.agent.errors import BusyError
from featherdesk.agent.index import Index
from featherdesk.agent.prompt import contract_hash
from featherdesk.agent.runtime import Step
from featherdesk.agent.types import Entry
from featherdesk.serve.api import create_app
from featherdesk.serve.bubbles import bubble
from featherdesk.serve.words import WORDS

from ..tiny_llama import TALKATIVE, make_llama

ASKED = "when will my package arrive?"
USERS = 12
ENTRIES = (
    Entry(
        "delivery",
        "How long does delivery take?",
        "Standard delivery takes 3 to 5 working days and costs £4.95.",
        ("when will my parcel arrive", "delivery time", "how many days until it comes"),
    ),
    Entry("worn", "Can I return worn boots?", "No, worn boots cannot be returned."),
    Entry("pay", "How can I pay?", "We accept Visa.", ("payment methods", "can I use a card")),
    Entry("hours", "When is the store open?", "Monday to Saturday, 9:30 to 18:00."),
    Entry("invoice", "Where do I find my invoice?", "Under My Orders.", ("i need a receipt",)),
)


class Full:
    """A generator whose queue is full."""

    def __init__(self) -> None:
        self.users: list[str] = []

    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    def generate(self, ids: Sequence[int], *, user: str = "", **_: object) -> Iterator[Step]:
        self.users.append(user)
        raise BusyError(64, 7)
        yield


def _asked(url: str, *, stream: bool = False, user: str = "") -> httpx.Response:
    body = {"messages": [{"role": "user", "content": ASKED}], "stream": stream, "user": user}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=300)


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_queue_is_told_by_status_and_header(
    bot_of: Callable[..., Any], serving: Callable[[Any], str], stream: bool
) -> None:
    full = Full()
    answer = _asked(serving(create_app(bot_of(full))), stream=stream, user="ann")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "7"
    assert "ask again in 7 s" in answer.json()["error"]["message"]
    assert full.users == ["ann"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_asks_kindly_and_keeps_the_question(
    bot_of: Callable[..., Any], language: str
) -> None:
    from featherdesk.serve.chat import _Page

    full = Full()
    bot = bot_of(full)
    last: Any = list(_Page(bot).turn(ASKED, [], [], "key-of-ann", language))[-1]
    shown, question, ids, _ = last
    assert shown[-1] == bubble("assistant", WORDS[language].busy)
    assert question == ASKED
    assert len(ids) == len(shown)
    assert bot.store.history("key-of-ann") == []
    assert full.users == ["key-of-ann"]


def test_a_client_that_hangs_up_without_streaming_stops_the_model(
    bot_of: Callable[..., Any], endless: Any, serving: Callable[[Any], str]
) -> None:
    url = serving(create_app(bot_of(endless)))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{url}/v1/chat/completions",
            json={"messages": [{"role": "user", "content": ASKED}]},
            timeout=httpx.Timeout(60, read=1),
        )
    assert endless.ended.wait(60)


@dataclass
class Shop:
    """A running server over a bot with a tiny model."""

    server: Any

    @property
    def url(self) -> str:
        return str(self.server.url)

    def figure(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics", timeout=60).text
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    def fed(self) -> float:
        """Tokens that were fed to the model so far."""
        return self.figure("featherdesk_pass_tokens_sum")

    def idle(self) -> bool:
        return self.figure("featherdesk_writing") == self.figure("featherdesk_queue_length") == 0

    def resident_mb(self) -> float:
        lines = Path(f"/proc/{self.server.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@pytest.fixture(scope="module")
def tiny_shop(
    encoder_folder: Path, start: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """Two places to write, three to wait; what the tiny model writes is nonsense."""
    folder = tmp_path_factory.mktemp("tiny") / "bot"
    yield from _opened(folder, encoder_folder, start, "fp32", batch=2, queue=3)


@pytest.fixture(scope="module")
def roomy_shop(
    encoder_folder: Path, start: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """Eight places to write, in int4: where the processor sums products of bytes a crowd shares
    its passes."""
    folder = tmp_path_factory.mktemp("roomy") / "bot"
    yield from _opened(folder, encoder_folder, start, "int4", batch=8, queue=64)


def _opened(
    folder: Path, encoder_folder: Path, start: Any, precision: str, *, batch: int, queue: int
) -> Iterator[Shop]:
    index = Index.build(ENTRIES, MiniLM(encoder_folder, 1))
    index.save(folder / "knowledge")
    calibrate(index, writes=("en",)).save(folder / "knowledge" / "calibration.json")
    place(encoder_folder, folder / "encoder")
    _write_generator(folder / "generator", precision)
    (folder / "bot.toml").write_text(
        f'[bot]\nname = "b"\n[generation]\nbatch = {batch}\nqueue = {queue}\ncached = 0\n'
        "threads = 1\ntimeout = 600\n"
    )
    encoder, count = index.encoder.id, len(ENTRIES)
    seal(folder, Manifest("b", "", "", "none", contract_hash(), ("en",), encoder, count, ("en",)))
    server = start(folder, "--no-page").wait(page=False)
    shop = Shop(server)
    until = time.monotonic() + 300  # the warm-up takes a place too, and is counted where none is
    while not shop.fed() or not shop.idle():
        assert time.monotonic() < until, "the warm-up does not end"
        time.sleep(0.05)
    yield shop
    assert "Traceback" not in server.stop()


def _write_generator(out: Path, precision: str) -> None:
    from featherdesk.compress.export import Quantization, export

    place = out.parent.parent / "model"
    model = make_llama(place, 2, **TALKATIVE, max_position_embeddings=2048)
    export(model, out, Quantization(precision))


def _crowd(work: Callable[[int], None], count: int = USERS) -> None:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
        assert not thread.is_alive(), "a customer waits for ever"


def test_every_customer_is_answered_or_told_when_to_come_back(tiny_shop: Shop) -> None:
    answers: list[httpx.Response] = []

    def customer(number: int) -> None:
        for turn in range(3):
            answers.append(_asked(tiny_shop.url, stream=(number + turn) % 2 == 0, user=str(number)))

    resident = []
    for _ in range(4):
        _crowd(customer)
        resident.append(tiny_shop.resident_mb())
    assert len(answers) == 4 * 3 * USERS
    assert {answer.status_code for answer in answers} == {200, 503}  # five places for twelve
    for answer in answers:
        if answer.status_code == 503:
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
        elif answer.headers["content-type"].startswith("text/event-stream"):
            assert answer.text.endswith("data: [DONE]\n\n")
        else:
            assert answer.json()["choices"][0]["message"]["content"]
    assert resident[-1] < resident[1] + 30
    assert tiny_shop.idle()
    refused = sum(answer.status_code == 503 for answer in answers)
    assert tiny_shop.figure("featherdesk_refused_total") == refused
    assert tiny_shop.figure("featherdesk_wait_seconds_count") >= len(answers) - refused
    assert tiny_shop.fed() > 0


def test_a_crowd_is_told_what_each_is_told_alone(roomy_shop: Shop) -> None:
    questions = [f"{word} when will my package arrive?" for word in ("hi", "ok", "so", "hey")]
    questions += [entry.question for entry in ENTRIES[:4]]

    def said(number: int) -> str:
        body = {"messages": [{"role": "user", "content": questions[number]}], "user": str(number)}
        answer = httpx.post(f"{roomy_shop.url}/v1/chat/completions", json=body, timeout=300)
        return str(answer.json()["choices"][0]["message"]["content"])

    wanted = [said(number) for number in range(8)]
    told: dict[tuple[int, int], str] = {}
    resident = []
    for turn in range(4):

        def customer(number: int, turn: int = turn) -> None:
            told[turn, number] = said(number)

        _crowd(customer, 8)
        resident.append(roomy_shop.resident_mb())
    assert told == {(turn, number): wanted[number] for turn in range(4) for number in range(8)}
    passes = roomy_shop.figure("featherdesk_pass_requests_count")
    assert roomy_shop.figure("featherdesk_pass_requests_sum") > passes
    assert resident[-1] < resident[1] + 30
    assert roomy_shop.idle()


def test_customers_who_leave_free_their_places(tiny_shop: Shop) -> None:
    begun = tiny_shop.fed()
    _asked(tiny_shop.url)
    whole = tiny_shop.fed() - begun

    def customer(number: int) -> None:
        body = {"messages": [{"role": "user", "content": ASKED}], "stream": number % 2 == 0}
        with httpx.Client(timeout=httpx.Timeout(60, read=0.05)) as client:
            try:
                with client.stream(
                    "POST", f"{tiny_shop.url}/v1/chat/completions", json=body
                ) as sent:
                    next(sent.iter_bytes(), b"")
            except httpx.ReadTimeout:
                pass

    begun, admitted = tiny_shop.fed(), tiny_shop.figure("featherdesk_wait_seconds_count")
    _crowd(customer)
    until = time.monotonic() + 300
    while not tiny_shop.idle():
        assert time.monotonic() < until, "a place was never freed"
        time.sleep(0.1)
    admitted = tiny_shop.figure("featherdesk_wait_seconds_count") - admitted
    assert admitted > 0
    assert tiny_shop.fed() - begun < 0.9 * admitted * whole  # not all to the end
    answer = _asked(tiny_shop.url)
    assert answer.status_code == 200
    assert json.loads(answer.text)["featherdesk"]["entry_id"] == "delivery"
