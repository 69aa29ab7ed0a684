"""Several texts written over one session: what each says is what it says alone."""

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from featherdesk.agent.blocks import BlockStore
from featherdesk.agent.decoder import Decoder
from featherdesk.agent.errors import ArtifactError, DeviceError, GenerationError
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.agent.wide import RAGGED, SLOTS

RNG = np.random.default_rng(4)
BLOCKS = [RNG.integers(10, 300, n).tolist() for n in (7, 30, 90)]
QUESTIONS = [RNG.integers(10, 300, 3 + 2 * n).tolist() for n in range(8)]
MANY = [RNG.integers(10, 300, 4 + n % 9).tolist() for n in range(12)]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [("std::bad_alloc", MemoryError), ("Protobuf parsing failed.", ArtifactError)],
)
def test_a_damaged_graph_and_too_little_memory_are_told_apart(
    said: str, wanted: type[Exception], exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails:
        def __init__(self, *_: object, **__: object) -> None:
            raise Exception(said)

    monkeypatch.setattr("onnxruntime.InferenceSession", Fails)
    with pytest.raises(wanted, match=said.split(":")[-1]):
        Decoder(exported, 1)


@pytest.fixture(scope="module", params=["fp32", "int4"])
def exported(
    request: pytest.FixtureRequest, talkative: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    from featherdesk.compress.export import Quantization, export

    out = tmp_path_factory.mktemp("together") / "g"
    export(talkative, out, Quantization(request.param))
    return out


def says(
    generator: OnnxGenerator,
    question: Sequence[int],
    blocks: Sequence[Sequence[int]] = (),
    *,
    sources: Sequence[Sequence[int]] = (),
    stopped: Callable[[], bool] = lambda: False,
) -> list[int]:
    ids = [token for block in (*blocks, question) for token in block]
    steps = generator.generate(
        ids,
        max_tokens=20,
        deadline=time.monotonic() + 600,
        stopped=stopped,
        blocks=[len(block) for block in blocks],
        sources=sources,
    )
    return [step.token for step in steps]


def at_once(works: Sequence[Callable[[], Any]]) -> list[Any]:
    told: list[Any] = [None] * len(works)
    gate = threading.Barrier(len(works))

    def one(number: int) -> None:
        gate.wait()
        told[number] = works[number]()

    threads = [threading.Thread(target=one, args=(n,)) for n in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
        assert not thread.is_alive(), "somebody waits for ever"
    return told


@pytest.mark.parametrize("stored", [False, True])
def test_eight_at_once_say_what_each_says_alone(exported: Path, stored: bool) -> None:
    def opened() -> OnnxGenerator:
        return OnnxGenerator(exported, 1, store=BlockStore(10**8) if stored else None)

    alone = opened()
    asked = [(question, BLOCKS[: n % 4]) for n, question in enumerate(QUESTIONS)]
    wanted = [says(alone, *one) for one in asked]
    assert len({tuple(one) for one in wanted}) == 8
    assert alone.scheduler.tally.rows == alone.scheduler.tally.passes
    crowd = opened()
    for _ in range(3):
        assert at_once([partial(says, crowd, *one) for one in asked]) == wanted
    assert crowd.scheduler.tally.tokens <= 3 * alone.scheduler.tally.tokens


def test_rows_in_a_pass_do_not_see_each_other(exported: Path) -> None:
    decoder = Decoder(exported, 1)
    decoder.reserve(8, 64)
    wanted = []
    for row, question in enumerate(QUESTIONS):
        decoder.alone(row, question, 0)
        wanted.append([decoder.alone(row, [9 + n], len(question) + n)[0].copy() for n in range(3)])
    for row, question in enumerate(QUESTIONS):
        decoder.clear(row)
        decoder.alone(row, question, 0)
    feeds: list[tuple[int, int] | None] = [(9, len(question)) for question in QUESTIONS]
    feeds[2] = None
    first = decoder.together(0, feeds).copy()
    decoder.move(7, 2)  # where nobody was fed
    second = decoder.together(1, [(10, len(QUESTIONS[row]) + 1) for row in (1, 7, 3)]).copy()
    assert np.abs(first[0] - wanted[0][0]).max() < 1e-4
    for row in (1, 3, 4, 5, 6, 7):
        assert np.abs(first[row] - wanted[row][0]).max() < 1e-4
    for place, row in enumerate((1, 7, 3)):
        assert np.abs(second[place] - wanted[row][1]).max() < 1e-4


def shares(generator: OnnxGenerator) -> OnnxGenerator:
    """The same, with passes that a crowd shares."""
    generator._decoder.prepare(wait=True)
    return generator


@pytest.fixture(scope="module")
def rounded(talkative: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from featherdesk.compress.export import Quantization, export

    out = tmp_path_factory.mktemp("ragged") / "g"
    export(talkative, out, Quantization())
    return out


@pytest.fixture
def shared(rounded: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A generator folder with a graph for ragged batches, opened wherever the tests run."""
    monkeypatch.setattr("featherdesk.agent.sessions.sums_bytes", lambda: True)
    return rounded


@pytest.mark.parametrize("seats", [5, 8, 12])
@pytest.mark.parametrize("stored", [False, True])
def test_a_crowd_that_shares_passes_says_what_each_says_alone(
    shared: Path, stored: bool, seats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened() -> OnnxGenerator:
        store = BlockStore(10**8) if stored else None
        return OnnxGenerator(shared, 1, store=store, seats=seats)

    alone = opened()
    asked = [(question, BLOCKS[: n % 4]) for n, question in enumerate(MANY[:seats])]
    wanted = [says(alone, *one) for one in asked]
    crowd = shares(opened())
    assert crowd._decoder.slots == SLOTS
    several, groups = crowd._decoder.several, set[int]()

    def counted(feeds: Any) -> Any:
        told = several(feeds)  # which does not fail
        groups.add(min(feeds) // SLOTS)
        return told

    fed = crowd._decoder._fed

    def slow(*args: Any) -> Any:
        time.sleep(0.003)  # so that all of them are there
        return fed(*args)

    monkeypatch.setattr(crowd._decoder, "several", counted)
    monkeypatch.setattr(crowd._decoder, "_fed", slow)
    crowd._pace.accepted = [0.9] * 5
    crowd.scheduler._batch._timed = lambda *_: None
    crowd._pace.sums = [100.0, 400.0, 1.04, 2000.0, 4.2]  # a further token costs next to nothing
    sources = [[wanted[0]], [], [wanted[2][:7] + [5] * 9], []] * 3
    works = [partial(says, crowd, *one, sources=sources[n]) for n, one in enumerate(asked)]
    for _ in range(3):
        assert at_once(works) == wanted
    assert groups == set(range(-(-seats // SLOTS)))
    assert crowd._decoder.slots == SLOTS, "it was given up"


def test_slots_do_not_see_each_other(shared: Path) -> None:
    decoder, other = Decoder(shared, 1), Decoder(shared, 1)
    decoder.prepare(wait=True)
    for one in (decoder, other):
        one.reserve(8, 64)
    wanted = {row: other.alone(row, ids, 0).copy() for row, ids in enumerate(QUESTIONS)}
    feeds = {row: (QUESTIONS[row], 0, len(QUESTIONS[row])) for row in (0, 3, 7)}
    told = {row: rows.copy() for row, rows in decoder.several(feeds).items()}
    later = decoder.several({row: (QUESTIONS[row], 0, 1) for row in (1, 2, 4, 5, 6)})
    for row, rows in wanted.items():
        got = told[row] if row in told else later[row]
        assert np.abs(got - rows[-len(got) :]).max() < 1e-4
    more = decoder.several({row: ([9, 8], len(QUESTIONS[row]), 2) for row in range(8)})
    for row in range(8):
        wanted_rows = other.alone(row, [9, 8], len(QUESTIONS[row]))
        assert np.abs(more[row] - wanted_rows).max() < 1e-4


def test_a_folder_that_holds_another_model_by_now_opens_no_graph_for_crowds(
    shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A bot may be replaced while it serves; the one that serves keeps to its own weights."""
    shutil.copytree(shared, tmp_path / "g")
    generator = OnnxGenerator(tmp_path / "g", 1)
    shutil.copytree(shared, tmp_path / "other")
    (tmp_path / "g").rename(tmp_path / "old")
    (tmp_path / "other").rename(tmp_path / "g")
    assert shares(generator)._decoder.slots == 0
    assert "holds another model by now" in caplog.text


def test_where_passes_are_not_to_be_shared_no_graph_is_opened(shared: Path) -> None:
    generator = shares(OnnxGenerator(shared, 1, shared=False))
    assert generator._decoder.slots == 0
    assert generator._decoder._opening is None


def test_a_graph_for_crowds_that_is_damaged_is_told_and_left_out(
    shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(shared, tmp_path / "g")
    (tmp_path / "g" / RAGGED).write_bytes(b"nothing")
    generator = shares(OnnxGenerator(tmp_path / "g", 1))
    assert generator._decoder.slots == 0
    assert "ragged.onnx cannot be opened" in caplog.text
    wanted = [says(generator, question) for question in QUESTIONS]
    assert at_once([partial(says, generator, one) for one in QUESTIONS]) == wanted


def test_rows_and_places_are_added_under_a_running_answer(exported: Path) -> None:
    generator = OnnxGenerator(exported, 1)
    wanted = says(generator, QUESTIONS[2])
    steps = generator.generate(
        QUESTIONS[2], max_tokens=20, deadline=time.monotonic() + 600, stopped=lambda: False
    )
    told = [next(steps).token for _ in range(3)]
    says(generator, BLOCKS[2] * 3)  # a row more, and a longer one
    assert told + [step.token for step in steps] == wanted


@pytest.mark.parametrize("stored", [False, True])
def test_guesses_and_single_tokens_mix(exported: Path, stored: bool) -> None:
    alone = OnnxGenerator(exported, 1)
    wanted = [says(alone, question) for question in QUESTIONS[:4]]
    store = BlockStore(10**8) if stored else None
    crowd = OnnxGenerator(exported, 1, store=store)
    crowd._pace.accepted = [0.9] * 5
    crowd.scheduler._batch._timed = lambda *_: None
    crowd._pace.sums = [100.0, 400.0, 1.04, 2000.0, 4.2]  # a further token costs next to nothing
    sources = [[wanted[0]], [], [wanted[2][:7] + [5] * 9], []]
    works = [partial(says, crowd, QUESTIONS[n], sources=sources[n]) for n in range(4)]
    for _ in range(3):
        assert at_once(works) == wanted


def test_steps_say_which_others_came_with_them(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = OnnxGenerator(exported, 1)
    wanted = says(generator, QUESTIONS[1])
    generator._pace.accepted = [0.9] * 5
    generator.scheduler._batch._timed = lambda *_: None
    generator._pace.sums = [100.0, 400.0, 1.04, 2000.0, 4.2]  # as above
    passes: list[int] = []
    alone = generator._decoder.alone

    def counted(*args: Any, **told: Any) -> Any:
        passes.append(1)
        return alone(*args, **told)

    monkeypatch.setattr(generator._decoder, "alone", counted)
    told = {"max_tokens": 20, "deadline": time.monotonic() + 600, "stopped": lambda: False}
    steps = list(generator.generate(QUESTIONS[1], sources=[wanted], **told))
    assert [step.token for step in steps] == wanted
    assert len(passes) < len(steps)
    assert sum(not step.more for step in steps) in (len(passes), len(passes) - 1)
    assert not steps[-1].more


def test_a_row_that_is_filled_on_the_host_goes_over(exported: Path) -> None:
    """What a GPU needs, on a CPU: rows with a copy on the host, addresses that stay."""
    plain = OnnxGenerator(exported, 1, store=BlockStore(10**8))
    asked = [(question, BLOCKS[: n % 4]) for n, question in enumerate(QUESTIONS)]
    wanted = [says(plain, *one) for one in asked]
    for static in (False, True):
        other = OnnxGenerator(exported, 1, store=BlockStore(10**8))
        other._decoder = other.scheduler._batch._passes = Apart(exported, static=static)
        assert [says(other, *one) for one in asked] == wanted
        works = [partial(says, other, *one) for one in asked]
        assert at_once(works) == wanted


class Apart(Decoder):
    """One whose places lie elsewhere than their copies on the host, and are not added to."""

    movable = False

    def __init__(self, folder: Path, *, static: bool) -> None:
        super().__init__(folder, 1, static=static, mirrored=True)
        self._make(8, 512)
        self._there = {name: np.zeros_like(array) for name, array in self._arrays.items()}
        self._at = {name: array.ctypes.data for name, array in self._there.items()}


def test_a_cancelled_answer_frees_its_place(exported: Path) -> None:
    generator = OnnxGenerator(exported, 1, seats=1, bound=4)
    gone = threading.Event()
    steps = generator.generate(
        QUESTIONS[1], max_tokens=400, deadline=time.monotonic() + 600, stopped=gone.is_set
    )
    next(steps)
    gone.set()
    wanted = says(OnnxGenerator(exported, 1), QUESTIONS[0])
    assert says(generator, QUESTIONS[0]) == wanted
    assert len(list(steps)) <= 1


def test_a_token_that_does_not_exist_spoils_one_answer(exported: Path) -> None:
    generator = OnnxGenerator(exported, 1)
    wanted = says(generator, QUESTIONS[0])

    def bad() -> str:
        with pytest.raises(GenerationError, match="the generator failed"):
            says(generator, [10**6])
        return "failed"

    told = at_once([bad, lambda: says(generator, QUESTIONS[0])])
    assert told == ["failed", wanted]
    assert generator.scheduler.company == 0


def test_cuda_is_asked_for_where_there_is_none(exported: Path) -> None:
    with pytest.raises(GenerationError, match="no CUDA here: install featherdesk\\[gpu\\]"):
        OnnxGenerator(exported, 1, device="cuda")


def test_a_gpu_that_onnxruntime_leaves_out_is_told(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing itself, and computes on the CPU."""
    opened = onnxruntime.InferenceSession

    def on_the_cpu(path: str, options: Any, **_: object) -> Any:
        return opened(path, options, providers=["CPUExecutionProvider"])

    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_the_cpu)
    with pytest.raises(DeviceError, match="could not open the GPU: see that `nvidia-smi` lists"):
        Decoder(exported, 1, "cuda")


@pytest.mark.needs_gpu
@pytest.mark.parametrize("precision", ["fp16", "int4"])
@pytest.mark.parametrize("graphs", [False, True])
def test_a_gpu_says_what_it_says_alone(
    precision: str, graphs: bool, talkative: Path, tmp_path: Path
) -> None:
    """With stored blocks, guesses and eight at once, also where steps are captured."""
    from featherdesk.compress.export import Quantization, export
    from featherdesk.compress.graph import has_cuda

    if not has_cuda():
        pytest.skip("no CUDA here")
    export(talkative, tmp_path / "g", Quantization(precision, provider="cuda"))

    def opened() -> OnnxGenerator:
        store = BlockStore(10**8)
        return OnnxGenerator(tmp_path / "g", device="cuda", store=store, graphs=graphs)

    alone = opened()
    asked = [(question, BLOCKS[: n % 4]) for n, question in enumerate(QUESTIONS)]
    wanted = [says(alone, *one) for one in asked]
    assert len({tuple(one) for one in wanted}) == 8
    works = [partial(says, opened(), *one, sources=[wanted[n]]) for n, one in enumerate(asked)]
    assert [work() for work in works] == wanted
    crowd = opened()
    assert at_once([partial(says, crowd, *one) for one in asked]) == wanted


def test_a_folder_without_a_graph_is_told(exported: Path, tmp_path: Path) -> None:
    for name in ("genai_config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    with pytest.raises(ArtifactError, match=r"model\.onnx is missing"):
        OnnxGenerator(tmp_path)
