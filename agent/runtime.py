"""The one module that opens an ONNX generator: greedy decoding with keys and values in place.

Drives the graph of onnxruntime-genai's builder through plain onnxruntime with I/O binding; past
and present share one buffer a layer. Knows nothing of prompts, entries or grounding.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .blocks import Block, BlockStore, Rotary, block_key
from .encoder import onnxruntime_or_error
from .errors import ArtifactError, GenerationError
from .lookup import LONGEST, MOST, Guess, Lookup, Pace

__all__ = ["Generator", "OnnxGenerator", "Step"]

_BFLOAT16 = 16  # numpy has no such type: the number is onnx's
_TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(bfloat16)": _BFLOAT16,
    "tensor(int8)": np.int8,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One greedy token with its probability (0..1)."""

    token: int
    probability: float


class Generator(Protocol):
    """What the engine needs of a generator."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; marks such as `<|im_end|>` become their own ids."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        ...

    def first(
        self, ids: Sequence[int], tokens: Sequence[int], blocks: Sequence[int] = ()
    ) -> NDArray[np.float32]:
        """Probabilities of `tokens` as the next token after `ids`; `blocks` as in `generate`."""
        ...

    def generate(
        self,
        ids: Sequence[int],
        *,
        max_tokens: int,
        deadline: float,
        stopped: Callable[[], bool],
        first_veto: tuple[int, float] | None = None,
        blocks: Sequence[int] = (),
        sources: Sequence[Sequence[int]] = (),
    ) -> Iterator[Step]:
        """Greedy tokens after `ids` until the end of turn, without it.

        `blocks` are the lengths of the blocks that `ids` begins with, each of which may be read
        without the others and kept. `sources` are texts that the answer may be copied from.
        """
        ...


class OnnxGenerator:
    """A causal LM in a generator folder (model.onnx, genai_config.json, tokenizer.json)."""

    def __init__(
        self,
        folder: Path,
        threads: int = 0,
        device: str = "cpu",
        store: BlockStore | None = None,
    ) -> None:
        onnxruntime = onnxruntime_or_error()
        self._ort = onnxruntime
        try:
            config = json.loads((folder / "genai_config.json").read_text())["model"]
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(f"{folder} is not a generator folder: {error}") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        if device == "cuda":
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise GenerationError(
                    "no CUDA here: install featherdesk[gpu] in place of featherdesk[cpu] on a "
                    "machine with an NVIDIA GPU, or leave --device at cpu"
                )
            providers.insert(0, "CUDAExecutionProvider")
        path = folder / "model.onnx"
        if not path.exists():
            raise ArtifactError(f"{path} is missing")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        end = config["eos_token_id"]
        self._ends = frozenset(end if isinstance(end, list) else [end])
        decoder = config["decoder"]
        self._shape = (1, decoder["num_key_value_heads"], decoder["head_size"])
        self._inputs = {item.name: item for item in self._session.get_inputs()}
        self._past = [name for name in self._inputs if name.startswith("past_key_values.")]
        self._dtype = _TYPES[self._inputs[self._past[0]].type]
        self._device = "cuda" if device == "cuda" else "cpu"
        self._lock = threading.Lock()
        self._buffers: dict[str, Any] = {}
        self._arrays: dict[str, NDArray[Any]] = {}
        self._room = 0
        self._pace = Pace()
        self.steps = self.fed = 0
        """Forward steps so far, and the tokens that were fed to them: for measuring."""
        self._rotary = Rotary.load(folder)
        floats = self._device == "cpu" and self._dtype in (np.float32, np.float16)
        self._store = store if floats and self._rotary is not None else None

    @property
    def stores(self) -> bool:
        """Whether it can use what is stored: on a CPU, with keys turned in the known way."""
        return self._store is not None

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; marks such as `<|im_end|>` become their own ids."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits of every position, shape (len(ids), vocabulary)."""
        with self._lock:
            self._reserve(len(ids) + 1)
            return self._forward(ids, 0)

    def first(
        self, ids: Sequence[int], tokens: Sequence[int], blocks: Sequence[int] = ()
    ) -> NDArray[np.float32]:
        """Probabilities of `tokens` as the next token after `ids`; `blocks` as in `generate`."""
        with self._lock:
            self._reserve(len(ids) + 1)
            past = self._placed(ids, blocks)
            row = self._forward(ids[past:], past)[-1]
        return np.asarray(_softmax(row)[list(tokens)], np.float32)

    def block(self, ids: Sequence[int]) -> Block:
        """The keys and values of a block that sees only itself."""
        with self._lock:
            self._reserve(len(ids) + 1)
            return self._read(ids)

    def generate(
        self,
        ids: Sequence[int],
        *,
        max_tokens: int,
        deadline: float,
        stopped: Callable[[], bool],
        first_veto: tuple[int, float] | None = None,
        blocks: Sequence[int] = (),
        sources: Sequence[Sequence[int]] = (),
    ) -> Iterator[Step]:
        """Greedy tokens after `ids` until the end of turn, without it.

        `blocks` are the lengths of the blocks that `ids` begins with: with a store each is read
        once, on its own, and kept; without one they are read with the rest. `sources` are texts
        that the answer may be copied from: tokens are guessed from them. `deadline` is a
        `time.monotonic()` value. `first_veto` is a token with a probability: as the first token
        it is chosen exactly when it is at least that likely. One generation runs at a time;
        others wait.

        Raises:
            GenerationError: the deadline passed.
        """
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise GenerationError("the answer took too long: the generator was busy")
        try:
            self._reserve(len(ids) + max_tokens + MOST + 1)
            past = self._placed(ids, blocks)
            lookup = Lookup([*sources, ids] if sources else ())
            yield from self._written(
                ids[past:], past, lookup, max_tokens, deadline, stopped, first_veto
            )
        finally:
            self._lock.release()

    def _written(
        self,
        prompt: Sequence[int],
        past: int,
        lookup: Lookup,
        max_tokens: int,
        deadline: float,
        stopped: Callable[[], bool],
        veto: tuple[int, float] | None,
    ) -> Iterator[Step]:
        """Tokens behind a prompt whose first `past` are in place; guesses are verified in the
        same step that takes them in."""
        written: list[int] = []
        fed, guess = list(prompt), lookup.opening(self._pace.most(LONGEST))
        while True:
            if time.monotonic() > deadline:
                raise GenerationError("the answer took too long")
            if stopped():
                return
            began = time.perf_counter()
            rows = self._forward([*fed, *guess.tokens], past)[len(fed) - 1 :]
            if written:
                self._pace.timed(len(fed) + len(guess.tokens), time.perf_counter() - began)
            past += len(fed)
            right = 0
            for row in rows:
                token = int(row.argmax())
                if veto is not None and not written:
                    token = _vetoed(row, *veto)
                if token in self._ends:
                    return
                written.append(token)
                yield Step(token, float(_softmax(row)[token]))
                if len(written) == max_tokens:
                    return
                if right == len(guess.tokens) or guess.tokens[right] != token:
                    break
                right += 1
            self._pace.judged(guess, right)
            past += right
            fed, guess = [token], self._guess(lookup, written)

    def _guess(self, lookup: Lookup, written: Sequence[int]) -> Guess:
        guess = lookup.after(written, MOST)
        return replace(guess, tokens=guess.tokens[: self._pace.most(guess.matched)])

    def _reserve(self, tokens: int) -> None:
        """Key and value buffers of at least `tokens` places, kept between generations."""
        if tokens <= self._room:
            return
        self._room = -(-tokens // 256) * 256
        batch, heads, size = self._shape
        shape = [batch, heads, self._room, size]
        if self._store is None:
            self._buffers = {
                name: self._ort.OrtValue.ortvalue_from_shape_and_type(
                    shape, self._dtype, self._device
                )
                for name in self._past
            }
            return
        self._arrays = {name: np.zeros(shape, self._dtype) for name in self._past}
        self._buffers = {  # on a CPU it is the array's own memory
            name: self._ort.OrtValue.ortvalue_from_numpy(array)
            for name, array in self._arrays.items()
        }

    def _placed(self, ids: Sequence[int], blocks: Sequence[int]) -> int:
        """Put the leading blocks in their places, as the store has them; returns their tokens."""
        if self._store is None or self._rotary is None:
            return 0
        found, past = [], 0
        for length in blocks:
            found.append((past, length, self._kept(self._store, ids[past : past + length])))
            past += length
        for start, length, block in found:
            keys, values = block.floats(self._rotary, start)
            for layer, (name, value) in enumerate(self._pairs()):
                self._arrays[name][0, :, start : start + length] = keys[layer]
                self._arrays[value][0, :, start : start + length] = values[layer]
        return past

    def _kept(self, store: BlockStore, ids: Sequence[int]) -> Block:
        key = block_key(ids)
        block = store.get(key)
        if block is None:
            block = self._read(ids)
            store.add(key, block)
        return block

    def _read(self, ids: Sequence[int]) -> Block:
        self._forward(ids, 0)
        parts = [
            np.stack([self._arrays[name][0, :, : len(ids)] for name in names])
            for names in zip(*self._pairs(), strict=True)
        ]
        return Block.of(*(np.asarray(part, np.float32) for part in parts))

    def _pairs(self) -> Iterator[tuple[str, str]]:
        """The names of the key and value buffers, layer by layer."""
        keys = [name for name in self._past if name.endswith(".key")]
        return zip(keys, [name[:-4] + ".value" for name in keys], strict=False)

    def _forward(self, ids: Sequence[int], past: int) -> NDArray[np.float32]:
        self.steps += 1
        self.fed += len(ids)
        binding = self._session.io_binding()
        total = past + len(ids)
        feed = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(past, total, dtype=np.int64)[None],
        }
        for name, value in feed.items():
            if name in self._inputs:
                binding.bind_cpu_input(name, value)
        for name in self._past:
            buffer = self._buffers[name]
            binding.bind_ortvalue_input(name, buffer)
            binding.bind_ortvalue_output(name.replace("past_key_values", "present"), buffer)
        binding.bind_output("logits", "cpu")
        self._session.run_with_iobinding(binding)
        return np.asarray(binding.get_outputs()[-1].numpy()[0], np.float32)


def _vetoed(row: NDArray[np.float32], token: int, threshold: float) -> int:
    if _softmax(row)[token] >= threshold:
        return token
    others = row.copy()
    others[token] = -np.inf
    return int(others.argmax())


def _softmax(row: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = np.exp(row - row.max())
    return np.asarray(shifted / shifted.sum())
