"""Opens a generator folder and writes: greedy decoding, stored blocks, guesses that are verified.

Several threads may ask at once: what each does is given to a scheduler, which feeds them together.
Knows nothing of prompts, entries or grounding.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .batch import CROWD, Feed, Request, Work, in_chunks
from .blocks import Block, BlockStore, Rotary, block_key
from .decoder import Decoder
from .errors import ArtifactError
from .lookup import FIRST, MOST, Guess, Lookup, Pace
from .scheduler import Scheduler

__all__ = ["Generator", "OnnxGenerator", "Step"]

T = TypeVar("T")
Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Step:
    """One greedy token; `more`: others of the same pass follow at once."""

    token: int
    more: bool = False


class Generator(Protocol):
    """What the engine needs of a generator."""

    @property
    def stores(self) -> bool:
        """Whether it reads the blocks of a prompt without each other."""
        ...

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
        user: str = "",
    ) -> Iterator[Step]:
        """Greedy tokens after `ids` until the end of turn, without it.

        `blocks` are the lengths of the blocks that `ids` begins with, each of which may be read
        without the others and kept. `sources` are texts that the answer may be copied from.
        `user` names who asks, so that nobody waits for ten questions of another.
        """
        ...


class OnnxGenerator:
    """A causal LM in a generator folder (model.onnx, genai_config.json, tokenizer.json).

    At most `seats` texts are written at a time and `bound` others may wait. With `graphs` a GPU
    captures its steps as CUDA graphs. With `shared` a crowd shares passes, where it can.
    """

    def __init__(
        self,
        folder: Path,
        threads: int = 0,
        device: str = "cpu",
        store: BlockStore | None = None,
        *,
        seats: int = 8,
        bound: int = 64,
        graphs: bool = False,
        shared: bool = True,
    ) -> None:
        try:
            end = json.loads((folder / "genai_config.json").read_text())["model"]["eos_token_id"]
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(f"{folder} is not a generator folder: {error}") from None
        self._ends = frozenset(end if isinstance(end, list) else [end])
        self._decoder = Decoder(folder, threads, device, rows=seats, static=graphs, shared=shared)
        self._pace = Pace()
        self.scheduler: Scheduler[Any] = Scheduler(self._decoder, seats, bound, self._pace.timed)
        self._rotary = Rotary.load(folder)
        usable = self._decoder.holds_floats and self._rotary is not None
        self.store = store if usable else None

    @property
    def stores(self) -> bool:
        """Whether it can use what is stored: floats, with keys turned in the known way."""
        return self.store is not None

    def expect_crowd(self) -> None:
        """Open now what the first crowd would open; for those who measure."""
        self._decoder.prepare(wait=True)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; marks such as `<|im_end|>` become their own ids."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def logits(self, ids: Sequence[int]) -> Logits:
        """Logits of every position, shape (len(ids), vocabulary)."""

        def work(request: Request[Logits]) -> Work:
            rows = yield Feed(tuple(ids), 0, reading=True)
            request.put(rows.copy())

        return self._one(work, len(ids))

    def first(
        self, ids: Sequence[int], tokens: Sequence[int], blocks: Sequence[int] = ()
    ) -> Logits:
        """Probabilities of `tokens` as the next token after `ids`; `blocks` as in `generate`."""

        def work(request: Request[Logits]) -> Work:
            past = yield from self._placed(request, ids, blocks)
            rest, past = yield from self._reading(ids[past:], past)
            rows = yield Feed(rest, past, reading=True, last=1)
            request.put(np.asarray(_softmax(rows[-1])[list(tokens)], np.float32))

        return self._one(work, len(ids))

    def block(self, ids: Sequence[int]) -> Block:
        """The keys and values of a block that sees only itself."""

        def work(request: Request[Block]) -> Work:
            request.put((yield from self._read(request, ids)))

        return self._one(work, len(ids))

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
        user: str = "",
    ) -> Iterator[Step]:
        """Greedy tokens after `ids` until the end of turn, without it.

        `blocks` are the lengths of the blocks that `ids` begins with: with a store each is read
        once, on its own, and kept; without one they are read with the rest. `sources` are texts
        that the answer may be copied from: tokens are guessed from them. `deadline` is a
        `time.monotonic()` value. `first_veto` is a token with a probability: as the first token
        it is chosen exactly when it is at least that likely. `user` names who asks, so that nobody
        waits for ten questions of another.

        Raises:
            BusyError: too many wait already.
            GenerationError: the deadline passed, or the session failed.
        """

        def work(request: Request[Step]) -> Work:
            past = yield from self._placed(request, ids, blocks)
            lookup = Lookup([*sources, ids] if sources else ())
            yield from self._written(request, ids[past:], past, lookup, max_tokens, first_veto)

        room = len(ids) + max_tokens + MOST + 1
        run = self.scheduler.run
        yield from run(work, room, deadline=deadline, stopped=stopped, user=user)

    def _one(self, work: Callable[[Request[T]], Work], count: int) -> T:
        """The one item that a work over so many tokens puts."""
        (told,) = self.scheduler.run(work, count + 1)
        item: T = told
        return item

    def _written(
        self,
        request: Request[Step],
        prompt: Sequence[int],
        past: int,
        lookup: Lookup,
        max_tokens: int,
        veto: tuple[int, float] | None,
    ) -> Work:
        """Tokens behind a prompt whose first `past` are in place; guesses are verified in the
        same pass that takes them in."""
        written: list[int] = []
        fed, past = yield from self._reading(prompt, past)
        guess = self._tried(lookup.opening(FIRST))
        while True:
            tokens, last = (*fed, *guess.tokens), 1 + len(guess.tokens)
            rows = yield Feed(tokens, past, reading=not written, last=last)
            past += len(fed)
            right, before = 0, len(written)
            for row in rows:
                token = int(row.argmax())
                if veto is not None and not written:
                    token = _vetoed(row, *veto)
                guessed = guess.tokens[right : right + 1] == (token,)
                right += guessed
                ended = token in self._ends
                if not ended:
                    written.append(token)
                    ended = len(written) == max_tokens
                if ended or not guessed:
                    break
            fresh = written[before:]
            for left, one in enumerate(fresh, 1 - len(fresh)):
                request.put(Step(one, more=left < 0))
            self._pace.judged(guess, right)
            if ended:
                return
            past += right
            fed, guess = (token,), self._tried(lookup.after(written, MOST))

    def _tried(self, guess: Guess) -> Guess:
        """As much of a guess as pays."""
        company = self.scheduler.company
        shared = self._decoder.slots > 0 and company >= CROWD
        most = self._pace.most(guess.matched, company, shared=shared)
        if guess.tokens and not most and company <= 1:
            self._pace.passed_over(guess.matched)
        return replace(guess, tokens=guess.tokens[:most])

    def _reading(
        self, ids: Sequence[int], past: int, *, kept: bool = False
    ) -> Coroutine[Feed, Logits, tuple[tuple[int, ...], int]]:
        """Read tokens but for the last chunk; returns that and its place."""
        return (yield from in_chunks(ids, past, lambda: self.scheduler.company, kept=kept))

    def _placed(
        self, request: Request[T], ids: Sequence[int], blocks: Sequence[int]
    ) -> Coroutine[Feed, Logits, int]:
        """Put the leading blocks in their places, as the store has them; returns their tokens."""
        if self.store is None or self._rotary is None:
            return 0
        found, past = [], 0
        for length in blocks:
            block = yield from self._kept(request, self.store, ids[past : past + length])
            found.append((past, block))
            past += length
        for start, block in found:
            places = self._decoder.places(request.row, start, block.keys.shape[2])
            block.put(self._rotary, start, *places)
        return past

    def _kept(
        self, request: Request[T], store: BlockStore, ids: Sequence[int]
    ) -> Coroutine[Feed, Logits, Block]:
        key = block_key(ids)
        block = store.get(key)
        if block is None:
            block = yield from self._read(request, ids)
            store.add(key, block)
        return block

    def _read(self, request: Request[T], ids: Sequence[int]) -> Coroutine[Feed, Logits, Block]:
        rest, past = yield from self._reading(ids, 0, kept=True)
        yield Feed(rest, past, reading=True, kept=True, last=1)
        return Block.of(*self._decoder.read(request.row, len(ids)))


def _vetoed(row: NDArray[np.float32], token: int, threshold: float) -> int:
    if _softmax(row)[token] >= threshold:
        return token
    others = row.copy()
    others[token] = -np.inf
    return int(others.argmax())


def _softmax(row: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = np.exp(row - row.max())
    return np.asarray(shifted / shifted.sum())
