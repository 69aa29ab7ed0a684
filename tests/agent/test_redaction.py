"""Names leave what is stored, in the background; nothing is lost when the recognizer dies."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from featherdesk.agent import redaction
from featherdesk.agent.addresses import addresses
from featherdesk.agent.conversations import Store
from featherdesk.agent.errors import FeatherdeskError, MissingExtraError
from featherdesk.agent.names import Token, names
from featherdesk.agent.redaction import NameFinder, Redactor, Waiting, public_words, wanted
from featherdesk.agent.types import Author, Citation, Match, Reply, Route, RouteKind
from featherdesk.agent.unredacted import Unredacted

sys.path.insert(0, str(Path(__file__).parents[1]))
import measure_guards

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ECHO = (
    "import sys, json\n"
    "for line in sys.stdin:\n"
    "    texts = json.loads(line)['texts']\n"
    "    if 'die' in texts: sys.exit(1)\n"
    "    if 'sleep' in texts:\n"
    "        import time; time.sleep(60)\n"
    "    print(json.dumps({'texts': [t.upper() for t in texts]}), flush=True)\n"
)


@dataclass
class Fake:
    """A finder that writes upper case, and fails on some texts or on all."""

    bad: frozenset[str] = frozenset()
    broken: bool = False
    hold: threading.Event | None = None
    closed: bool = False

    def masked(self, texts: Sequence[str]) -> list[str]:
        if self.hold is not None:
            self.hold.wait(30)
        if self.broken or self.bad & set(texts):
            raise FeatherdeskError("died")
        return [text.upper() for text in texts]

    def close(self) -> None:
        self.closed = True


@dataclass
class Shelf:
    """An outbox in memory."""

    items: list[Waiting]
    done: dict[int, str] = field(default_factory=dict)

    def waiting(self, limit: int) -> list[Waiting]:
        return self.items[:limit]

    def settle(self, item: Waiting, text: str) -> None:
        self.items.remove(item)
        self.done[item.id] = text


def _shelf(*texts: str) -> Shelf:
    return Shelf([Waiting(number, text) for number, text in enumerate(texts)])


def _reply(text: str = "yes", quote: str = "") -> Reply:
    cited = (Citation("e", quote),) if quote else ()
    return Reply(
        text, Route(RouteKind.ANSWER, 0.9, 0.5, (Match("e", 0.9),)), Author.MODEL, citations=cited
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'c.db'}"


def test_a_redactor_works_off_all_that_waits_and_closes_its_finder() -> None:
    shelf, finder = _shelf(*"abcdefghijklmnopqrstuvwxyz"), Fake()
    redactor = Redactor(shelf, finder)
    redactor.wake()
    redactor.close()
    assert [shelf.done[number] for number in range(26)] == list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert finder.closed


def test_a_text_that_kills_the_recognizer_is_kept_and_the_others_are_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    shelf = _shelf("a", "poison of Ann Lee", "c")
    redactor = Redactor(shelf, Fake(bad=frozenset({"poison of Ann Lee"})))
    redactor.wake()
    redactor.close()
    assert shelf.done == {0: "A", 1: "poison of Ann Lee", 2: "C"}
    assert "Ann" not in caplog.text


def test_what_waits_stays_when_the_recognizer_is_broken() -> None:
    shelf = _shelf("a", "b")
    redactor = Redactor(shelf, Fake(broken=True))
    redactor.wake()
    redactor.close()
    assert len(shelf.items) == 2


def test_the_reply_does_not_wait_for_the_recognizer(url: str) -> None:
    store, hold = Store(url), threading.Event()
    store.redact_with(Fake(hold=hold))
    store.add("k", "my name is ann", _reply())
    assert store.history("k")[0].text == "my name is ann"
    hold.set()
    store.close()
    after = Store(url)
    assert [m.text for m in after.history("k")] == ["MY NAME IS ANN", "yes"]
    after.close()


def test_patterns_are_masked_before_the_recognizer_sees_anything(url: str) -> None:
    store, hold = Store(url), threading.Event()
    store.redact_with(Fake(hold=hold))
    store.add("k", "a@b.example, 12 Main Street", _reply())
    assert store.history("k")[0].text == "[e-mail], [address]"
    hold.set()
    store.close()


def test_notes_and_reasons_lose_their_names_too(url: str) -> None:
    store = Store(url)
    store.redact_with(Fake())
    told = store.add("k", "q", _reply())
    store.rate(told, good=False, reason="says ann")
    store.hand_off("k", "requested", "call ann")
    store.close()
    after = Store(url)
    notes = {item.kind: item.note for item in after.inbox()}
    assert (notes["thumb_down"], notes["handoff"]) == ("SAYS ANN", "CALL ANN")
    after.close()


def test_what_waited_is_done_at_the_next_start(url: str) -> None:
    first = Store(url)
    first.redact_with(Fake(broken=True))
    first.add("k", "my name is ann", _reply())
    first.close()
    second = Store(url)
    second.redact_with(Fake())
    second.close()
    third = Store(url)
    assert third.history("k")[0].text == "MY NAME IS ANN"
    third.close()


def test_a_note_written_anew_meanwhile_is_not_overwritten(url: str) -> None:
    store = Store(url)
    store.redact_with(Fake(broken=True))
    store.hand_off("k", "requested", "first")
    outbox = Unredacted(store._engine)
    seen = outbox.waiting(1)[0]
    store.hand_off("k", "requested", "second")
    outbox.settle(seen, "FIRST")
    assert store.inbox()[0].note == "second"
    assert [item.text for item in outbox.waiting(9)] == ["second"]
    store.close()


def test_what_a_source_says_is_not_masked_in_a_stored_reply(url: str) -> None:
    store = Store(url)
    text = "Write to help@larkfell.example or call 01904 555 010."
    store.add("k", "how do I reach you?", _reply(text, f"{text} We answer within a day."))
    store.add("k", "and you?", _reply("Write to me@private.example."))
    assert [m.text for m in store.history("k")][1::2] == [text, "Write to [e-mail]."]
    store.close()


def test_a_child_that_died_is_started_again() -> None:
    finder = NameFinder(command=(sys.executable, "-c", ECHO))
    assert finder.masked(["a"]) == ["A"]
    with pytest.raises(FeatherdeskError, match=r"featherdesk\[pii\]"):
        finder.masked(["die"])
    assert finder.masked(["b", "c"]) == ["B", "C"]
    finder.close()


def test_a_child_that_hangs_is_ended() -> None:
    finder = NameFinder(command=(sys.executable, "-c", ECHO), patience=0.5)
    with pytest.raises(FeatherdeskError, match="could not be recognized"):
        finder.masked(["sleep"])
    assert finder._process is None


def test_a_child_that_is_not_there_is_a_clear_error() -> None:
    finder = NameFinder(command=("/no/such/program",))
    with pytest.raises(FeatherdeskError, match="could not be recognized"):
        finder.masked(["a"])


def test_on_without_the_extra_names_it_and_auto_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redaction, "installed", lambda: False)
    caplog.set_level(logging.INFO)
    with pytest.raises(MissingExtraError, match=r"featherdesk\[pii\]"):
        wanted("on")
    assert wanted("auto") is False
    assert caplog.text.count("featherdesk[pii]") == 1
    assert wanted("off") is False


def test_words_of_the_entries_are_public(tmp_path: Path) -> None:
    path = tmp_path / "entries.jsonl"
    path.write_text('{"question": "Is the Ridge 40 sold in York?", "answer": "No."}\n')
    assert public_words(path) == ["is", "no", "ridge", "york"]
    assert public_words(tmp_path / "none.jsonl") == []


def _tokens(text: str, *proper: str, entity: str = "") -> list[Token]:
    place, found = 0, []
    for word in text.split():
        start = text.index(word, place)
        place = start + len(word)
        plain = word.strip(".,?!:")
        tag = "NNP" if plain in proper else "NN"
        found.append(Token(plain, start + word.index(plain), tag, entity if tag == "NNP" else ""))
    return found


def _names(
    text: str, *proper: str, known: Sequence[str] = (), lexicon: Sequence[str] = ()
) -> list[str]:
    spans = names(text, _tokens(text, *proper), frozenset(known), frozenset(lexicon))
    return [text[start:end] for start, end in spans]


def test_proper_nouns_are_names_with_their_initials() -> None:
    text = "I spoke to Zuzana K. Nowak about it"
    assert _names(text, "Zuzana", "K", "Nowak") == ["Zuzana K. Nowak"]


def test_words_of_the_entries_months_countries_and_brands_stay() -> None:
    text = "Is the Ridge from PayPal in Spain sold in March?"
    assert _names(text, "Ridge", "PayPal", "Spain", "March", known=["ridge"]) == []


@pytest.mark.parametrize(
    ("text", "wanted_names"),
    [
        ("my name is borna jerkovic and i wait", ["borna jerkovic"]),
        ("Name: ann lee", ["ann lee"]),
        ("ask mrs. okafor", ["okafor"]),
        ("everyone calls me jay", ["jay"]),
        ("hello, this is ann lee", ["ann lee"]),
        ("my name is not on the card", []),
        ("我叫王小明，我的快递到哪了", ["王小明"]),
        ("我是李先生", ["李"]),
    ],
)
def test_introduced_names_are_found_in_any_case(text: str, wanted_names: list[str]) -> None:
    assert _names(text) == wanted_names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I live at 12 Main Street, Leeds LS1 4AB, please help", "12 Main Street, Leeds LS1 4AB"),
        ("deliver to 221b baker street please", "221b baker street"),
        ("my address is Hauptstraße 5, 10115 Berlin", "Hauptstraße 5, 10115 Berlin"),
        ("to 18 rue de la Paix 75002 Paris", "18 rue de la Paix 75002 Paris"),
        ("it is Calle Mayor 12, Madrid", "Calle Mayor 12, Madrid"),
        ("send it to P.O. Box 12, Leeds", "P.O. Box 12, Leeds"),
        ("Flat 3, 12 Elm Court\nYork\nYO1 7HH", "Flat 3, 12 Elm Court\nYork\nYO1 7HH"),
        ("我住在上海市浦东新区张江路88号3栋502室，什么时候到", "上海市浦东新区张江路88号3栋502室"),
        ("请寄到广东省深圳市南山区科技园", "广东省深圳市南山区科技园"),
    ],
)
def test_addresses_are_found_by_their_shape(text: str, found: str) -> None:
    assert [text[start:end].strip() for start, end in addresses(text)] == [found]


@pytest.mark.parametrize(
    "text",
    [
        "Order 12 Ridge 40 jackets",
        "I bought 2 pairs of Trail boots",
        "after 2 days on the road it broke",
        "I walked 5 km up the hill in York Park",
        "Box 12 of my order is missing",
        "size 42 Trail Boots in 3 colours",
        "does Unit 5 fit the Summit 200?",
        "my email address is down",
        "订单在路上3号到吗",
    ],
)
def test_products_and_parcels_are_no_addresses(text: str) -> None:
    assert addresses(text) == []


@pytest.fixture(scope="module")
def finder() -> Iterator[NameFinder]:
    """The real recognizer."""
    made = NameFinder(("ridge", "york"))
    yield made
    made.close()


def test_the_real_recognizer_masks_names_and_keeps_what_the_shop_says(finder: NameFinder) -> None:
    told = finder.masked(
        [
            "Hi, Zuzana Novak here: is the Ridge 40 in York, and do you take PayPal in Spain?",
            "hi, my name is john smith, where is my parcel?",
            "How long does delivery take?",
            "",
        ]
    )
    assert told == [
        "Hi, [name] here: is the Ridge 40 in York, and do you take PayPal in Spain?",
        "hi, my name is [name], where is my parcel?",
        "How long does delivery take?",
        "",
    ]


def test_a_store_beside_a_bot_redacts_by_itself_and_imports_no_spacy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from featherdesk.agent.conversations import Store\n"
        "from featherdesk.agent.types import *\n"
        "store = Store.beside(Path(sys.argv[1]), '', 'on')\n"
        "route = Route(RouteKind.HANDOFF, 0.1, 0.5)\n"
        "store.add('k', 'I am Zuzana Novak', Reply('yes', route, Author.CURATED))\n"
        "store._redactor.close(120)\n"
        "print(store.history('k')[0].text)\n"
        "print(sorted({'spacy', 'presidio_analyzer', 'thinc'} & set(sys.modules)))\n"
    )
    (tmp_path / "bot").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bot")],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.split("\n")[:2] == ["I am [name]", "[]"]


@pytest.mark.needs_shared
def test_recall_of_names_and_addresses_on_the_synthetic_set() -> None:
    """Every fourth text; measure_guards.py has the figures of all."""
    rows = measure_guards.sentences(DATA)[::4]
    finder = NameFinder()
    counts, lost = measure_guards.measure_names(rows, finder)
    finder.close()
    assert counts["PERSON"].there > 150
    assert counts["PERSON"].recall >= 0.85
    assert counts["STREET_ADDRESS"].recall >= 0.85
    assert lost < 0.08
