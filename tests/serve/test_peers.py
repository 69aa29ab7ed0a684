"""Peers: llama.cpp's wrapper with a stand-in for its library, the others with tiny real models."""

import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from featherdesk.serve.peers import GenAI, LlamaCpp, Transformers, not_native

from ..tiny_llama import TALKATIVE, make_llama

IDS = [1, *range(10, 30)]
ORDER: dict[str, Any] = {"ids": IDS, "texts": ("ab", "cd"), "blocks": (), "sources": (), "limit": 6}
SETTINGS: dict[str, Any] = {
    "model": "x.gguf",
    "n_ctx": 512,
    "n_batch": 64,
    "threads": 2,
    "lookup": False,
    "cache": "off",
    "flash_attn": False,
    "device": "cpu",
    "own_ids": False,
    "ends": [2],
}


class _State:
    def __init__(self, ids: list[int]) -> None:
        self.input_ids = np.array(ids)


class _Llama:
    """As much of llama_cpp.Llama as is used: it counts up from the last token, then ends."""

    made: "list[_Llama]" = []  # noqa: RUF012

    def __init__(self, **settings: Any) -> None:
        self.settings, self.n_tokens, self.input_ids = settings, 0, np.zeros(512, int)
        self.evaluated: list[list[int]] = []
        self.loaded = 0
        _Llama.made.append(self)

    def token_eos(self) -> int:
        return 2

    def reset(self) -> None:
        self.n_tokens = 0

    def eval(self, tokens: list[int]) -> None:
        self.evaluated.append(list(tokens))
        self.input_ids[self.n_tokens : self.n_tokens + len(tokens)] = tokens
        self.n_tokens += len(tokens)

    def generate(self, ids: list[int], **settings: Any) -> Iterator[int]:
        assert settings == {"temp": 0.0, "top_k": 1, "repeat_penalty": 1.0}
        self.n_tokens = self.longest_token_prefix(
            self.input_ids[: self.n_tokens].tolist(), ids[:-1]
        )
        self.eval(ids[self.n_tokens :])
        for token in (7, 8, 9, 2):
            yield token
            self.eval([token])

    def tokenize(self, text: bytes, *, add_bos: bool, special: bool) -> list[int]:
        assert (add_bos, special) == (False, True)
        return list(text)

    def detokenize(self, tokens: list[int]) -> bytes:
        return " ".join(map(str, tokens)).encode()

    def save_state(self) -> _State:
        return _State(self.input_ids[: self.n_tokens].tolist())

    def load_state(self, state: _State) -> None:
        self.loaded += 1
        self.n_tokens = len(state.input_ids)
        self.input_ids[: self.n_tokens] = state.input_ids

    @staticmethod
    def longest_token_prefix(a: list[int], b: list[int]) -> int:
        return next(
            (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
        )


class _Cache:
    def __init__(self) -> None:
        self.states: dict[tuple[int, ...], _State] = {}

    def __contains__(self, ids: list[int]) -> bool:
        return bool(self.states)

    def __getitem__(self, ids: list[int]) -> _State:
        return max(
            self.states.items(), key=lambda one: _Llama.longest_token_prefix(list(one[0]), ids)
        )[1]

    def __setitem__(self, ids: list[int], state: _State) -> None:
        self.states[tuple(ids)] = state


@pytest.fixture
def llama(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("llama_cpp")
    vars(module).update(
        Llama=_Llama,
        LlamaRAMCache=_Cache,
        __version__="0.0",
        llama_print_system_info=lambda: b"CPU : AVX2 = 1 | FMA = 1 | ",
    )
    speculative = types.ModuleType("llama_cpp.llama_speculative")
    vars(speculative)["LlamaPromptLookupDecoding"] = lambda: "lookup"
    monkeypatch.setitem(sys.modules, "llama_cpp", module)
    monkeypatch.setitem(sys.modules, "llama_cpp.llama_speculative", speculative)
    _Llama.made.clear()


@pytest.mark.usefixtures("llama")
def test_llama_cpp_is_given_the_same_ids_and_counted_the_same() -> None:
    peer = LlamaCpp(SETTINGS)
    told = peer.write(ORDER)
    (one,) = _Llama.made
    assert one.evaluated[0] == IDS
    assert told.text == "7 8 9"
    assert (told.tokens, told.ended, told.steps) == (3, True, 4)
    assert told.fed == len(IDS) + 3
    assert one.settings["draft_model"] is None
    assert not one.settings["logits_all"]
    assert (one.settings["n_threads"], one.settings["n_threads_batch"]) == (2, 2)
    assert "AVX2 = 1" in peer.told().info
    short = peer.write({**ORDER, "limit": 2})
    assert (short.tokens, short.ended) == (2, False)


@pytest.mark.usefixtures("llama")
def test_llama_cpp_looks_up_with_room_for_all_logits() -> None:
    LlamaCpp({**SETTINGS, "lookup": True, "device": "cuda"})
    told = _Llama.made[0].settings
    assert told["draft_model"] == "lookup"
    assert told["logits_all"]
    assert told["n_gpu_layers"] == -1


@pytest.mark.usefixtures("llama")
@pytest.mark.parametrize(("cache", "fed"), [("off", len(IDS)), ("prefix", 1), ("ram", 1)])
def test_what_llama_cpp_knows_of_earlier_prompts(cache: str, fed: int) -> None:
    peer = LlamaCpp({**SETTINGS, "cache": cache})
    peer.write(ORDER)
    (one,) = _Llama.made
    one.evaluated.clear()
    peer.write(ORDER)
    assert len(one.evaluated[0]) == fed


@pytest.mark.usefixtures("llama")
def test_a_kept_state_is_taken_when_it_is_closer_than_what_stands() -> None:
    peer = LlamaCpp({**SETTINGS, "cache": "ram"})
    peer.write(ORDER)
    peer.write({**ORDER, "ids": [90, 91, 92]})
    (one,) = _Llama.made
    assert one.loaded == 0
    one.evaluated.clear()
    peer.write(ORDER)
    assert one.loaded == 1
    assert len(one.evaluated[0]) == 1


@pytest.mark.usefixtures("llama")
def test_another_model_encodes_the_text_itself() -> None:
    LlamaCpp({**SETTINGS, "own_ids": True}).write(ORDER)
    assert _Llama.made[0].evaluated[0] == list(b"abcd")


def test_a_build_that_is_not_native_is_seen() -> None:
    units = ("avx2", "fma", "avx512f", "avx512_vnni")
    info = "llama-cpp-python 0.3: CPU : SSE3 = 1 | AVX2 = 1 | FMA = 1 | AVX512 = 1 | "
    assert not_native(info, units) == ["AVX512_VNNI"]
    assert not_native(info + "AVX512_VNNI = 1", units) == []
    assert not_native("CPU : NEON = 1", ()) == []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny seeded llama whose answers wander."""
    return make_llama(tmp_path_factory.mktemp("model"), 2, **TALKATIVE)


def test_others_write_what_our_runtime_writes(model: Path, tmp_path: Path) -> None:
    from featherdesk.agent.runtime import OnnxGenerator
    from featherdesk.compress.export import Quantization, export

    export(model, tmp_path / "g", Quantization("fp32"))
    ours = OnnxGenerator(tmp_path / "g", 1)
    steps = ours.generate(IDS, max_tokens=6, deadline=time.monotonic() + 600, stopped=lambda: False)
    wanted = ours.decode([step.token for step in steps]).strip()
    told = {"threads": 1, "device": "cpu", "ends": [2]}
    genai = GenAI({**told, "folder": str(tmp_path / "g")})
    torch = Transformers({**told, "folder": str(model)})
    for peer in (genai, torch):
        found = peer.write(ORDER)
        assert found.text == wanted
        assert found.tokens == 6
        assert not found.ended
        assert 0 < found.first < found.whole
        assert found.fed == len(IDS) + 5
        assert peer.tokens("boots") == ours.encode("boots")
    assert "1 threads" in genai.told().info
    assert "as it comes" in GenAI({**told, "threads": 0, "folder": str(tmp_path / "g")}).told().info
    assert "eager" in torch.told().info


@pytest.mark.slow
@pytest.mark.end_to_end
def test_the_real_llama_cpp_answers_in_every_setting(tmp_path: Path) -> None:
    """The base model in Q4_0: lookup and caches change no token, and prompts are encoded alike."""
    from featherdesk.agent.prompt import render
    from featherdesk.agent.types import Entry
    from featherdesk.compress.assemble import assemble_base
    from featherdesk.compress.gguf_file import export_gguf
    from tokenizers import Tokenizer

    base = assemble_base("smollm2-135m-instruct")
    export_gguf(base, tmp_path / "base", kind="Q4_0")
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    entry = Entry("a", "How long does delivery take?", "It takes 3 to 5 working days.")
    texts = render((entry,), "how long until it comes?").texts
    parts = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    order = {**ORDER, "ids": [i for part in parts for i in part], "texts": texts, "limit": 24}
    said = set()
    for lookup in (False, True):
        for cache in ("off", "prefix", "ram"):
            settings = {**SETTINGS, "model": str(tmp_path / "base" / "base.gguf")}
            peer = LlamaCpp({**settings, "lookup": lookup, "cache": cache})
            assert [peer.tokens(text) for text in texts] == parts
            first, again = peer.write(order), peer.write(order)
            said |= {first.text, again.text}
            assert first.first <= first.whole
            assert again.fed < first.fed or cache == "off"
            assert first.steps <= first.tokens + 1
    assert len(said) == 1
    assert "AVX" in peer.told().info or "NEON" in peer.told().info
