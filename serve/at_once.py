"""Texts at once, in a child of `bench`: our batch, and transformers as one serves with it.

Every side reads the same token ids and is fed the same further ones, whatever it would choose; it
brings what it chose to the host in every step, as a server must to see the end of a turn. Knows
nothing of the other sides.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from ..agent.batch import Batch, Feed, Request, Work, in_chunks
from ..agent.decoder import Decoder
from ..agent.errors import DeviceError
from .contender import Settings, Told
from .peers import Peer

__all__ = ["AT_ONCE", "Memory", "Runtime", "Timed", "Transformers"]

Rows = Sequence[Sequence[int]]
_COPIED = 2**30
_COMPILED = 64
"""Shapes that may be compiled: torch gives up at eight."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds that reading the prompts of all rows took, and seconds of every step behind them
    that fed each row a token; `chosen` are the likeliest next tokens, row by row: behind the
    prompt, and behind every token that was fed."""

    prefill: float
    steps: tuple[float, ...]
    chosen: tuple[tuple[int, ...], ...]


class Runtime:
    """The batch of our runtime on a generator folder, without the queue before it.

    With `graphs` a GPU replays its steps as CUDA graphs.
    """

    def __init__(self, settings: Settings) -> None:
        import onnxruntime

        folder, self._threads = Path(settings["folder"]), settings["threads"]
        self._info = f"onnxruntime {onnxruntime.__version__}, driven by featherdesk"
        self._info += ", steps as CUDA graphs" if settings["graphs"] else ""
        began = time.perf_counter()
        self._decoder = Decoder(
            folder,
            self._threads,
            settings["device"],
            rows=settings["rows"],
            static=settings["graphs"],
        )
        self._load = time.perf_counter() - began
        self._weights = sum(path.stat().st_size for path in folder.glob("model.onnx*"))

    def told(self) -> Told:
        """onnxruntime's version."""
        return Told(self._info, self._threads, round(self._load, 2))

    def sizes(self) -> dict[str, int]:
        """Bytes of the weights, and of keys and values of a token."""
        return {"weights": self._weights, "token": self._decoder.bytes_a_token}

    def batch(self, rows: Rows, read: int) -> Timed:
        """Read the first `read` tokens of all rows, then feed the others step by step."""
        batch: Batch[int] = Batch(self._decoder, lambda _tokens, _seconds: None)
        room = len(rows[0]) + 1
        began = time.perf_counter()
        asked = self._seated(batch, [_reading(row[:read], len(rows)) for row in rows], room)
        while not all(one.ended for one in asked):
            batch.step(asked)
        prefill = time.perf_counter() - began
        _check(asked)
        chosen = [[*one.items] for one in asked]
        seated = self._seated(batch, [_writing(row[read:], read) for row in rows], room)
        times = []
        for place in range(read, len(rows[0])):
            began = time.perf_counter()
            batch.step(seated)
            times.append(time.perf_counter() - began)
            _check(seated)
            assert all(len(one.items) == place - read + 1 for one in seated)
        for own, one in zip(chosen, seated, strict=True):
            own += one.items
        return Timed(prefill, tuple(times), tuple(tuple(own) for own in chosen))

    def _seated(
        self, batch: Batch[int], works: Sequence[Callable[[Request[int]], Work]], room: int
    ) -> list[Request[int]]:
        """A request a row; what rows hold of earlier ones stays."""
        asked = [
            Request(work, room, inf, lambda: False, "", 0.0, threading.Condition(), row=row)
            for row, work in enumerate(works)
        ]
        for one in asked:
            batch.begin(one, len(works))
        _check(asked)
        return asked


def _check(requests: Sequence[Request[int]]) -> None:
    for one in requests:
        if one.error is not None:
            raise one.error


def _reading(ids: Sequence[int], rows: int) -> Callable[[Request[int]], Work]:
    def work(request: Request[int]) -> Work:
        rest, past = yield from in_chunks(ids, 0, lambda: rows)
        logits = yield Feed(rest, past, reading=True, last=1)
        request.put(int(logits[-1].argmax()))

    return work


def _writing(ids: Sequence[int], past: int) -> Callable[[Request[int]], Work]:
    def work(request: Request[int]) -> Work:
        for place, token in enumerate(ids, start=past):
            logits = yield Feed((token,), place)
            request.put(int(logits[-1].argmax()))

    return work


class Transformers:
    """transformers on a Hugging Face folder, float32 on a CPU and float16 on a GPU.

    Eager with a cache that grows; or `compiled`: torch.compile over steps with a static cache, as
    its `generate` does it (the prompt is read uncompiled there too); `backend` is what compiles.
    """

    def __init__(self, settings: Settings) -> None:
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        self._torch, self._transformers = torch, transformers
        self._device, self._threads = settings["device"], settings["threads"]
        _check_torch(torch, self._device)
        torch.set_num_threads(self._threads)
        began = time.perf_counter()
        half = torch.float16 if self._device == "cuda" else torch.float32
        model = transformers.AutoModelForCausalLM.from_pretrained(settings["folder"], dtype=half)
        self._model = model.to(self._device).eval()
        self._step: Any = self._model.forward
        self._compiled, self._caches = settings["compiled"], dict[tuple[int, int], Any]()
        if self._compiled:
            torch._dynamo.config.recompile_limit = _COMPILED
            told: dict[str, Any] = {"backend": settings["backend"]}
            if self._device == "cuda":
                told["mode"] = "reduce-overhead"
            self._step = torch.compile(self._step, fullgraph=True, dynamic=False, **told)
        self._load = time.perf_counter() - began

    def told(self) -> Told:
        """Versions, and how it runs."""
        how = "steps by torch.compile, static cache" if self._compiled else "eager, growing cache"
        versions = f"transformers {self._transformers.__version__} on torch"
        info = f"{versions} {self._torch.__version__}, {how}"
        if self._device == "cuda":
            info += f", {self._torch.cuda.get_device_name()}"
        return Told(info, self._threads, round(self._load, 2))

    def sizes(self) -> dict[str, int]:
        """Bytes of the weights that a step reads, and of keys and values of a token."""
        model, config = self._model, self._model.config.get_text_config()
        weights = sum(one.numel() * one.element_size() for one in model.parameters())
        table = model.get_input_embeddings().weight
        if model.get_output_embeddings().weight is not table:
            weights -= table.numel() * table.element_size()  # a step reads one row of it
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * size
        return {"weights": weights, "token": numbers * table.element_size()}

    def batch(self, rows: Rows, read: int) -> Timed:
        """Read the first `read` tokens of all rows, then feed the others step by step."""
        torch = self._torch
        ids = torch.tensor(rows, device=self._device)
        places = torch.arange(ids.shape[1], device=self._device)
        with torch.no_grad():
            cache = self._cache(*ids.shape)
            self._wait()
            began = time.perf_counter()
            chosen = [self._fed(self._model, ids[:, :read], cache, places[:read])]
            prefill = time.perf_counter() - began
            times = []
            for place in range(read, ids.shape[1]):
                began = time.perf_counter()
                at = slice(place, place + 1)
                chosen.append(self._fed(self._step, ids[:, at], cache, places[at]))
                times.append(time.perf_counter() - began)
        return Timed(prefill, tuple(times), tuple(zip(*chosen, strict=True)))

    def _fed(self, run: Any, ids: Any, cache: Any, places: Any) -> list[int]:
        """Feed tokens to all rows; the likeliest next of each. The host waits for them."""
        out = run(
            input_ids=ids,
            past_key_values=cache,
            cache_position=places,
            use_cache=True,
            logits_to_keep=1,
        )
        return [int(token) for token in out.logits[:, -1].argmax(-1).tolist()]

    def _cache(self, rows: int, length: int) -> Any:
        if not self._compiled:
            return self._transformers.DynamicCache(config=self._model.config)
        if (rows, length) not in self._caches:
            made = self._transformers.StaticCache(config=self._model.config, max_cache_len=length)
            self._caches[rows, length] = made
        self._caches[rows, length].reset()
        return self._caches[rows, length]

    def _wait(self) -> None:
        if self._device == "cuda":
            self._torch.cuda.synchronize()


class Memory:
    """The memory of a device, as torch copies in it."""

    def __init__(self, settings: Settings) -> None:
        import torch

        self._torch, self._device = torch, settings["device"]
        _check_torch(torch, self._device)

    def told(self) -> Told:
        """torch's version."""
        return Told(f"torch {self._torch.__version__}", 0, 0.0)

    def copied(self, size: int = _COPIED) -> dict[str, float]:
        """Bytes that a copy of `size` bytes reads and writes a second, in GB: the best of ten."""
        torch, best = self._torch, inf
        here = torch.ones(size, dtype=torch.uint8, device=self._device)
        there = torch.zeros_like(here)
        for _ in range(10):
            self._wait()
            began = time.perf_counter()
            there.copy_(here)
            self._wait()
            best = min(best, time.perf_counter() - began)
        return {"gb_a_second": round(2 * size / max(best, 1e-9) / 1e9, 2)}

    def _wait(self) -> None:
        if self._device == "cuda":
            self._torch.cuda.synchronize()


def _check_torch(torch: Any, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"torch {torch.__version__} sees no NVIDIA GPU: install a build of torch with CUDA "
            "beside featherdesk[train]"
        )


AT_ONCE = {
    "memory": Peer(Memory, "train"),
    "rows": Peer(Runtime, "cpu"),
    "torch-rows": Peer(Transformers, "train"),
}
