"""Passes over an ONNX graph, with keys and values in rows of places.

Drives the graph of onnxruntime-genai's builder through plain onnxruntime with I/O binding. Past
and present share one buffer a layer; a row of it is one request's, and a pass runs over one row or
over neighbouring rows, each in place. onnxruntime's attention (GroupQueryAttention, 1.32) takes
several rows only where each brings one token; a graph with a node of it a row (`ragged.onnx`) takes
as many as each brings. Knows nothing of requests, prompts or sampling.
"""

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .encoder import onnxruntime_or_error
from .errors import ArtifactError, GenerationError
from .ragged import laid_out
from .resources import mapped_apart, pages
from .sessions import Opener
from .wide import SLOTS

__all__ = ["Decoder"]

Floats = NDArray[np.float32]
_LAST = "logits_from"
"""An input of wide graphs: from which token on there are logits, counted from the end. Other graphs
compute them all."""

_log = logging.getLogger(__name__)

_STEP = 256
_LONGEST = 2048
_KEPT = 144
"""Rows of logits whose memory is used again: a crowd's with all their guesses. What is not used
takes none."""
_TYPES: dict[str, tuple[Any, Any]] = {  # what numpy holds, what onnxruntime is told
    "tensor(float)": (np.float32, np.float32),
    "tensor(float16)": (np.float16, np.float16),
    "tensor(bfloat16)": (np.uint16, 16),  # numpy has no such type: the number is onnx's
    "tensor(int8)": (np.int8, np.int8),
}


@dataclass(frozen=True, slots=True)
class _Frozen:
    """A binding whose shapes and addresses stay, and what is bound beside keys and values."""

    binding: Any
    values: dict[str, Any]


class Decoder:
    """A causal LM in a generator folder, with places for keys and values.

    On a GPU `rows` of places are made at once and stay. A `mirrored` row is filled and read on the
    host, and goes over with the next pass: so it is on a GPU. With `static`, passes of one token a
    row keep their shapes and addresses; a GPU captures them as CUDA graphs. Only where it is
    `shared` and on a CPU several rows are fed in one pass.
    """

    def __init__(
        self,
        folder: Path,
        threads: int = 0,
        device: str = "cpu",
        *,
        rows: int = 8,
        static: bool = False,
        mirrored: bool = False,
        shared: bool = True,
    ) -> None:
        self._ort = onnxruntime_or_error()
        try:
            config = json.loads((folder / "genai_config.json").read_text())
            told = config["model"]["decoder"]
            self._heads, self._size = told["num_key_value_heads"], told["head_size"]
            words = config["model"].get("vocab_size", 0)
            longest = int(config.get("search", {}).get("max_length", _LONGEST))
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(f"{folder} is not a generator folder: {error}") from None
        self._device, self._static = device, static
        self._mirrored = mirrored or device != "cpu"
        self._shared = shared and not (self._mirrored or static)
        self._opener = Opener(folder, threads, device, captured=static)
        self._session = self._opener.open()
        self._ragged: Any = None
        self._opening: threading.Thread | None = None
        types = {item.name: item.type for item in self._session.get_inputs()}
        self._names = frozenset(types)
        self._past = [name for name in types if name.startswith("past_key_values.")]
        self._dtype, self._element = _TYPES[types[self._past[0]]]
        logits = next(item for item in self._session.get_outputs() if item.name == "logits")
        words = logits.shape[-1] if isinstance(logits.shape[-1], int) else words
        self._logits = np.zeros((_KEPT, words), _TYPES[logits.type][0])
        self._logits_element = _TYPES[logits.type][1]
        self.release()
        if device != "cpu":
            self._make(rows, longest)

    @property
    def holds_floats(self) -> bool:
        """Whether keys and values are floats that can be read and written."""
        return self._dtype in (np.float32, np.float16)

    @property
    def movable(self) -> bool:
        """Whether rows can be moved and added: on a CPU."""
        return self._device == "cpu"

    def reserve(self, rows: int, room: int) -> None:
        """See that there are so many rows and places; what rows hold stays.

        Raises:
            GenerationError: a GPU has fewer places.
        """
        if rows <= self.rows and room <= self._room:
            return
        if not self.movable:
            raise GenerationError(
                f"a prompt and its answer may have {self._room} tokens on this device, not {room}"
            )
        self._make(max(rows, self.rows), max(self._room, -(-room // _STEP) * _STEP))

    def release(self) -> None:
        """Give the memory back, where it can be made again."""
        self._held: NDArray[Any] = np.zeros((2, 0, 0, 0, 0, 0), self._dtype)
        self._arrays: dict[str, NDArray[Any]] = {}
        self._values: dict[str, Any] = {}
        self._at: dict[str, int] = {}
        self._bindings: dict[tuple[int, int], Any] = {}
        self._frozen: dict[int, _Frozen] = {}
        self._staged: set[int] = set()
        self._used: list[int] = []
        self._room = 0

    @property
    def bytes_a_token(self) -> int:
        """What keys and values of a token take in all layers."""
        return len(self._past) * int(self._heads * self._size * np.dtype(self._dtype).itemsize)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self._used)

    def alone(
        self, row: int, tokens: Sequence[int], past: int, *, kept: bool = False, last: int = 0
    ) -> Floats:
        """Take tokens in behind `past` places of a row; logits of shape (tokens, vocabulary).

        They stand until the next pass. `kept`: what they leave is asked for with `read`. `last`:
        so many of the tokens need logits, the last ones; 0 for all.
        """
        ids = np.array([tokens], np.int64)
        self._used[row] = past + len(tokens)
        if self._static and len(tokens) == 1 and row == 0 and not (kept or row in self._staged):
            return self._replayed(ids, [past])
        binding = self._bound(row, 1)
        if self._mirrored and (kept or row in self._staged):
            binding = self._session.io_binding()
            self._bind(binding, row, 1, host_past=True, host_present=kept)
            if not kept:
                self._staged.discard(row)
        return self._run(binding, ids, [past], last or len(tokens))

    def together(self, first: int, feeds: Sequence[tuple[int, int] | None]) -> Floats:
        """One token, and the places before it, for each row from `first` on.

        A row without one is fed a place that what comes next will overwrite. Logits have the shape
        (rows, vocabulary).
        """
        rows = range(first, first + len(feeds))
        assert not self._staged.intersection(rows)
        filled = [
            feed or (0, min(self._used[row], self._room - 1))
            for row, feed in zip(rows, feeds, strict=True)
        ]
        for row, feed in zip(rows, feeds, strict=True):
            if feed is not None:
                self._used[row] = feed[1] + 1
        ids = np.array([[token] for token, _ in filled], np.int64)
        pasts = [past for _, past in filled]
        if self._static and not first:
            return self._replayed(ids, pasts)
        return self._run(self._bound(first, len(feeds)), ids, pasts, 1)

    def prepare(self, *, wait: bool = False) -> None:
        """Open the graph that `several` needs, in a thread of its own; once.

        It packs the weights anew, so they lie in memory twice from then on.
        """
        if not self._shared:
            return
        if self._opening is None:
            self._opening = threading.Thread(target=self._open_ragged)
            self._opening.start()
        if wait:
            self._opening.join()

    def give_up(self) -> None:
        """Feed no several rows in a pass any more."""
        self._ragged = None

    @property
    def slots(self) -> int:
        """How many neighbouring rows `several` feeds in a pass; 0 where it cannot, or not yet."""
        return SLOTS if self._ragged is not None else 0

    def several(self, feeds: Mapping[int, tuple[Sequence[int], int, int]]) -> dict[int, Floats]:
        """Tokens, the places before them and how many need logits, for rows of one group of slots.

        Logits by row, of shape (those that need them, vocabulary). Rows of the group that are not
        fed are fed a place that what comes next will overwrite.
        """
        first = min(feeds) // SLOTS * SLOTS
        self.reserve(first + SLOTS, self._room)
        rows = range(first, first + SLOTS)
        filled = [feeds.get(row) or ((0,), min(self._used[row], self._room - 1), 0) for row in rows]
        for row, (tokens, past, _) in feeds.items():
            self._used[row] = past + len(tokens)
        told, places = laid_out(filled)
        made = self._fed(self._ragged, self._bound_slots(first), told, 1, places[-1].stop)
        told_by = zip(rows, places, strict=True)
        return {row: self._floats(made[place]) for row, place in told_by if row in feeds}

    def staged(self, row: int) -> bool:
        """Whether a row has yet to go over, with a pass of its own."""
        return row in self._staged

    def places(self, row: int, start: int, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """So many places of a row from `start` on, (layers, heads, count, size) for keys and for
        values, to be filled."""
        self._used[row] = start + count
        if self._mirrored:
            self._staged.add(row)
        keys, values = self._held[:, :, row, :, start : start + count]
        return keys, values

    def read(self, row: int, count: int) -> tuple[Floats, Floats]:
        """Keys and values (layers, heads, count, size) of a row's first places."""
        keys, values = np.array(self._held[:, :, row, :, :count], np.float32)
        return keys, values

    def move(self, row: int, to: int) -> None:
        """Copy what a row holds to another."""
        used = self._used[to] = self._used[row]
        self._held[:, :, to, :, :used] = self._held[:, :, row, :, :used]
        self._staged |= {to} if row in self._staged else set()
        self.clear(row)

    def clear(self, row: int) -> None:
        """Forget what a row holds."""
        if row < len(self._used):  # else there was no memory for it
            self._used[row] = 0
        self._staged.discard(row)

    def _open_ragged(self) -> None:
        try:
            with mapped_apart():
                self._ragged = self._opener.open_ragged()
        except Exception as error:  # noqa: BLE001 onnxruntime's have no base of their own
            _log.warning("several customers share no pass: %s", error)

    def _make(self, rows: int, room: int) -> None:
        """Places, and in them what was there; memory counts from the first use on."""
        shape = (rows, self._heads, room, self._size)
        keys = [name for name in self._past if name.endswith(".key")]
        whole = (2, len(keys), *shape)
        size = int(np.prod(whole)) * np.dtype(self._dtype).itemsize
        made = np.frombuffer(pages(size), self._dtype).reshape(whole)  # may fail
        old, used = self._held, self._used
        self.release()
        self._held = made
        for layer, name in enumerate(keys):
            self._arrays[name] = made[0, layer]
            self._arrays[f"{name[:-4]}.value"] = made[1, layer]
        for row, count in enumerate(used):
            made[:, :, row, :, :count] = old[:, :, row, :, :count]
        self._used, self._room = used + [0] * (rows - len(used)), room
        self._at = {name: array.ctypes.data for name, array in self._arrays.items()}
        if self._device != "cpu":
            make = self._ort.OrtValue.ortvalue_from_shape_and_type
            self._values = {n: make(shape, self._element, self._device) for n in self._past}
            self._at = {name: value.data_ptr() for name, value in self._values.items()}

    def _bound(self, first: int, count: int) -> Any:
        """A binding of neighbouring rows, made once."""
        known = self._bindings.get((first, count))
        if known is None:
            known = self._bindings[first, count] = self._session.io_binding()
            self._bind(known, first, count)
        return known

    def _bind(
        self,
        binding: Any,
        first: int,
        count: int,
        *,
        host_past: bool = False,
        host_present: bool = False,
    ) -> None:
        shape = (count, self._heads, self._room, self._size)
        skipped = first * self._heads * self._room * self._size * np.dtype(self._dtype).itemsize
        for name in self._past:
            here, there = self._arrays[name].ctypes.data, self._at[name]
            for bind, named, host in (
                (binding.bind_input, name, host_past),
                (binding.bind_output, name.replace("past_key_values", "present"), host_present),
            ):
                place = (here if host else there) + skipped
                bind(named, "cpu" if host else self._device, 0, self._element, shape, place)

    def _bound_slots(self, first: int) -> Any:
        """A binding of a group of slots, made once; a row is a tensor of its own."""
        known = self._bindings.get((first, 0))
        if known is None:
            known = self._bindings[first, 0] = self._ragged.io_binding()
            shape = (1, self._heads, self._room, self._size)
            for name in self._past:
                for slot in range(SLOTS):
                    place = self._arrays[name][first + slot].ctypes.data
                    present = name.replace("past_key_values", "present")
                    told = ("cpu", 0, self._element, shape, place)
                    known.bind_input(f"{name}.{slot}", *told)
                    known.bind_output(f"{present}.{slot}", *told)
        return known

    def _run(self, binding: Any, ids: NDArray[np.int64], pasts: Sequence[int], last: int) -> Floats:
        """A pass; logits of the `last` tokens of every row."""
        width = max(pasts) + ids.shape[1]
        made = last if _LAST in self._names else ids.shape[1]
        told = self._told(ids, pasts, width, last)
        out = self._fed(self._session, binding, told, len(ids), made)
        return self._floats(out[-last:] if len(ids) == 1 else out)

    def _fed(
        self, session: Any, binding: Any, told: Mapping[str, Any], rows: int, made: int
    ) -> NDArray[Any]:
        """A pass of a session; the logits that it makes, so many a row, one behind the other."""
        for name, value in told.items():
            binding.bind_cpu_input(name, value)
        count, words = rows * made, self._logits.shape[1]
        out = self._logits[:count]
        if count > len(self._logits):
            out = np.empty((count, words), self._logits.dtype)
        shape = (rows, made, words)
        binding.bind_output("logits", "cpu", 0, self._logits_element, shape, out.ctypes.data)
        session.run_with_iobinding(binding, self._options(-1))
        return out

    def _told(
        self, ids: NDArray[np.int64], pasts: Sequence[int], width: int, last: int
    ) -> dict[str, NDArray[np.int64]]:
        """What the graph is told beside keys and values."""
        before = np.array(pasts, np.int64)[:, None]
        told = {
            "input_ids": ids,
            "attention_mask": (np.arange(width) < before + ids.shape[1]).astype(np.int64),
            "position_ids": before + np.arange(ids.shape[1]),
            _LAST: np.array([-last], np.int64),
        }
        return {name: value for name, value in told.items() if name in self._names}

    def _replayed(self, ids: NDArray[np.int64], pasts: Sequence[int]) -> Floats:
        """A pass of one token for each of the first rows, with the same addresses every time."""
        told = self._told(ids, pasts, self._room, 1)
        frozen = self._frozen.get(len(ids))
        if frozen is None:
            frozen = self._frozen[len(ids)] = self._freeze(told, len(ids))
        for name, value in told.items():
            frozen.values[name].update_inplace(value)
        self._session.run_with_iobinding(frozen.binding, self._options(len(ids)))
        return self._floats(frozen.values["logits"].numpy()[:, 0])

    def _freeze(self, told: dict[str, NDArray[np.int64]], count: int) -> "_Frozen":
        make = self._ort.OrtValue.ortvalue_from_shape_and_type
        binding = self._session.io_binding()
        self._bind(binding, 0, count)
        values = {name: make(value.shape, np.int64, self._device) for name, value in told.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        shape = (count, 1, self._logits.shape[1])
        values["logits"] = make(shape, self._logits_element, self._device)
        binding.bind_ortvalue_output("logits", values["logits"])
        return _Frozen(binding, values)

    def _floats(self, logits: NDArray[Any]) -> Floats:
        if self._logits_element == 16:  # the upper half of a float's bits
            return np.asarray((logits.astype(np.uint32) << 16).view(np.float32))
        return np.asarray(logits, np.float32)

    def _options(self, graph: int) -> Any:
        """Which CUDA graph a pass is captured as and replayed from; -1 for none."""
        if not (self._static and self._device == "cuda"):
            return None
        options = self._ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(graph))
        return options
