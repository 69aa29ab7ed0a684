"""Many requests over one decoder: the same answers, a fair queue, places that are freed at once.

The decoder is a toy that keeps what each row was fed, and finds the next token from all of it, so
that a row that is mixed up, moved wrongly or fed out of order answers something else.
"""

import math
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
from featherdesk.agent.batch import CHUNK, Feed, Request, Work, _neighbours
from featherdesk.agent.errors import BusyError, GenerationError
from featherdesk.agent.scheduler import Scheduler
from numpy.typing import NDArray

WORDS = 31


def _next(tokens: Sequence[int]) -> int:
    return sum((place + 3) * token for place, token in enumerate(tokens)) % WORDS


@dataclass
class Toy:
    """Passes over rows of tokens; `seen` tells what was fed in each."""

    movable: bool = True
    slots: int = 0
    seen: list[tuple[str, int]] = field(default_factory=list)
    held: list[list[int]] = field(default_factory=list)
    fails: int = 0
    before: Callable[[], None] = lambda: None
    released: int = 0
    prepared: int = 0
    tried: int = 0

    @property
    def rows(self) -> int:
        return len(self.held)

    def reserve(self, rows: int, room: int) -> None:
        self.held += [[] for _ in range(rows - len(self.held))]

    def release(self) -> None:
        self.held = []
        self.released += 1

    def prepare(self) -> None:
        self.prepared += 1

    def give_up(self) -> None:
        self.slots = 0

    def staged(self, row: int) -> bool:
        return False

    def clear(self, row: int) -> None:
        self.held[row] = []

    def move(self, row: int, to: int) -> None:
        assert not self.held[to]
        self.held[to], self.held[row] = self.held[row], []

    def alone(
        self, row: int, tokens: Sequence[int], past: int, *, kept: bool = False, last: int = 0
    ) -> NDArray[np.float32]:
        self._run("alone", *tokens)
        self.held[row][past:] = tokens
        rows = range(len(tokens))[-last:]
        return np.array([self._row(row, past + n + 1) for n in rows])

    def together(self, first: int, feeds: Sequence[tuple[int, int] | None]) -> NDArray[np.float32]:
        self._run("together", *(feed[0] for feed in feeds if feed is not None))
        out = np.zeros((len(feeds), WORDS), np.float32)
        for number, feed in enumerate(feeds):
            if feed is not None:
                self.held[first + number][feed[1] :] = [feed[0]]
                out[number] = self._row(first + number, len(self.held[first + number]))
        return out

    def several(
        self, feeds: Mapping[int, tuple[Sequence[int], int, int]]
    ) -> dict[int, NDArray[np.float32]]:
        self.tried += 1
        assert len({row // self.slots for row in feeds}) == 1
        self._run("several", *(token for tokens, _, _ in feeds.values() for token in tokens))
        out = {}
        for row, (tokens, past, last) in feeds.items():
            self.held[row][past:] = tokens
            rows = range(len(tokens))[-last:]
            out[row] = np.array([self._row(row, past + n + 1) for n in rows])
        return out

    def _run(self, what: str, *tokens: int) -> None:
        self.before()
        if max(tokens) >= 10**6:
            raise RuntimeError("no such token")
        if self.fails:
            self.fails -= 1
            raise RuntimeError("the card is gone")
        self.seen.append((what, len(tokens)))

    def _row(self, row: int, count: int) -> NDArray[np.float32]:
        found: NDArray[np.float32] = np.eye(WORDS, dtype=np.float32)[_next(self.held[row][:count])]
        return found


def writes(prompt: Sequence[int], count: int) -> Callable[[Request[int]], Work]:
    """Reads a prompt, chunk by chunk, and writes."""

    def work(request: Request[int]) -> Work:
        rest, past = tuple(prompt), 0
        while len(rest) > CHUNK:
            yield Feed(rest[:CHUNK], past, reading=True)
            rest, past = rest[CHUNK:], past + CHUNK
        rows = yield Feed(rest, past, reading=True)
        past += len(rest)
        for number in range(count):
            token = int(rows[-1].argmax())
            request.put(token)
            if number + 1 < count:
                rows = yield Feed((token,), past)
                past += 1

    return work


def guesses(prompt: Sequence[int], count: int, guess: int) -> Callable[[Request[int]], Work]:
    """Reads a prompt and writes, guessing every third time `guess` tokens, the last one wrong."""
    right = wanted(prompt, count + guess)

    def work(request: Request[int]) -> Work:
        rows = yield Feed(tuple(prompt), 0, reading=True)
        past, done = len(prompt), 0
        while True:
            for row in rows:
                token = int(row.argmax())
                request.put(token)
                done += 1
                if done == count:
                    return
            tokens: tuple[int, ...] = (token,)
            if done % 3 == 0:
                tokens = (
                    *right[done - 1 : done + guess - 2],
                    (right[done + guess - 2] + 1) % WORDS,
                )
            rows = yield Feed(tokens, past)
            rows = rows[: max(1, len(tokens) - 1)]
            past += len(rows)

    return work


def wanted(prompt: Sequence[int], count: int) -> list[int]:
    told = list(prompt)
    for _ in range(count):
        told.append(_next(told))
    return told[len(prompt) :]


def asked(
    scheduler: Scheduler[int], prompt: Sequence[int], count: int, **options: object
) -> Generator[int, None, None]:
    return scheduler.run(writes(prompt, count), 500, **options)  # type: ignore[arg-type]


def told_by(scheduler: Scheduler[int], prompt: Sequence[int], count: int) -> list[int]:
    return list(asked(scheduler, prompt, count))


def at_once(works: Sequence[Callable[[], list[int]]]) -> list[list[int] | Exception]:
    """What each says, all started at one moment in threads of their own."""
    told: list[list[int] | Exception] = [[] for _ in works]
    gate = threading.Barrier(len(works))

    def one(number: int) -> None:
        gate.wait()
        try:
            told[number] = works[number]()
        except (BusyError, GenerationError) as error:
            told[number] = error

    threads = [threading.Thread(target=one, args=(n,)) for n in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "somebody waits for ever"
    return told


@pytest.mark.parametrize(("movable", "slots"), [(True, 0), (False, 0), (True, 3), (True, 8)])
def test_a_crowd_gets_what_each_gets_alone(movable: bool, slots: int) -> None:
    toy = Toy(movable, slots, before=lambda: time.sleep(0.0002))
    scheduler: Scheduler[int] = Scheduler(toy, 4, 64)
    prompts = [(list(range(1, 2 + n % 5)), 1 + n % 7) for n in range(24)]
    told = at_once([partial(told_by, scheduler, p, c) for p, c in prompts])
    assert told == [wanted(*one) for one in prompts]
    assert scheduler.company == scheduler.waiting == 0
    assert scheduler.tally.admitted == 24
    assert scheduler.tally.tokens == sum(len(p) + c - 1 for p, c in prompts)
    assert scheduler.tally.rows == sum(c for _, c in prompts)


@pytest.mark.parametrize("slots", [0, 8])
def test_wrong_guesses_of_some_change_nothing(slots: int) -> None:
    toy = Toy(slots=slots, before=lambda: time.sleep(0.0002))
    scheduler: Scheduler[int] = Scheduler(toy, 4, 64)

    def one(number: int) -> list[int]:
        return list(scheduler.run(guesses([1 + number], 20, 3 + number % 3), 90))

    told = at_once([partial(one, n) for n in range(12)])
    assert told == [wanted([1 + n], 20) for n in range(12)]


def test_the_memory_of_a_crowd_is_given_back_and_that_of_one_is_kept() -> None:
    toy = Toy()
    scheduler: Scheduler[int] = Scheduler(toy, 4, 64)
    list(asked(scheduler, [1], 2))
    assert (toy.rows, toy.released) == (1, 0)
    first, second = (asked(scheduler, [n], 9) for n in (1, 2))
    next(first), next(second)
    assert toy.rows == 4
    first.close()
    second.close()
    assert (toy.rows, toy.released) == (0, 1)


def test_all_with_one_token_share_a_pass() -> None:
    toy = Toy()
    scheduler: Scheduler[int] = Scheduler(toy, 3, 64)
    running = [asked(scheduler, [n], 9) for n in range(3)]
    for one in running:
        next(one)
    toy.seen.clear()
    told = [[next(one) for _ in range(4)] for one in running]
    assert told == [wanted([n], 9)[1:5] for n in range(3)]
    assert ("together", 3) in toy.seen
    assert [what for what, _ in toy.seen].count("alone") == 0


def test_a_crowd_shares_a_pass_whatever_each_brings() -> None:
    toy = Toy(slots=8)
    scheduler: Scheduler[int] = Scheduler(toy, 3, 64)
    writer = asked(scheduler, [1], 9)
    next(writer), next(writer)
    assert toy.prepared == 0
    for n in (2, 3):  # they wait, and the writer's thread leads for all
        scheduler._entered(guesses([n], 9, 4), 90, math.inf, lambda: False, "")
    toy.seen.clear()
    assert list(writer) == wanted([1], 9)[2:]
    assert toy.prepared > 0
    assert toy.seen[0] == ("several", 3)
    assert {what for what, count in toy.seen if count > 3} == {"several"}


def test_one_that_spoils_a_shared_pass_spoils_its_own_answer() -> None:
    toy = Toy(slots=8)
    scheduler: Scheduler[int] = Scheduler(toy, 4, 64)
    running = [asked(scheduler, [n, n], 9) for n in (1, 2)]
    for one in running:
        next(one)

    def spoils(request: Request[int]) -> Work:
        yield Feed((1, 10**6), 0, reading=True)

    spoiled = scheduler._entered(spoils, 90, math.inf, lambda: False, "")
    assert [list(one) for one in running] == [wanted([n, n], 9)[1:] for n in (1, 2)]
    assert "no such token" in str(spoiled.error)
    assert toy.tried > 0
    assert toy.slots == 8


def test_a_shared_pass_that_never_works_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    toy = Toy(slots=8)
    toy.several = lambda _feeds: 1 / 0  # type: ignore[assignment, method-assign, return-value]
    scheduler: Scheduler[int] = Scheduler(toy, 4, 64)
    writer = asked(scheduler, [1], 9)
    next(writer)
    for n in (2, 3):
        scheduler._entered(guesses([n], 9, 4), 90, math.inf, lambda: False, "")
    assert list(writer) == wanted([1], 9)[1:]
    assert toy.slots == 0
    assert caplog.text.count("a pass for 3 customers failed") == 1


def test_those_beyond_a_full_group_of_slots_are_fed_as_without_it() -> None:
    toy = Toy(slots=3)
    scheduler: Scheduler[int] = Scheduler(toy, 5, 64)
    running = [asked(scheduler, [n], 9) for n in range(4)]
    for one in running:
        next(one), next(one)
    toy.seen.clear()
    scheduler._entered(guesses([9], 9, 4), 90, math.inf, lambda: False, "")
    assert [list(one) for one in running] == [wanted([n], 9)[2:] for n in range(4)]
    assert [what for what, _ in toy.seen[:3]] == ["several", "alone", "alone"]


def test_a_place_that_is_left_is_filled_from_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy()
    moves: list[tuple[int, int]] = []

    def moved(row: int, to: int) -> None:
        moves.append((row, to))
        Toy.move(toy, row, to)

    monkeypatch.setattr(toy, "move", moved)
    scheduler: Scheduler[int] = Scheduler(toy, 4, 64)
    running = [asked(scheduler, [n], 20) for n in range(4)]
    heads = [[next(one)] for one in running]
    running[0].close()
    told = [head + list(one) for head, one in zip(heads[1:], running[1:], strict=True)]
    assert told == [wanted([n], 20) for n in (1, 2, 3)]
    assert moves[0] == (3, 0)


def test_a_long_prompt_does_not_keep_those_waiting_who_write() -> None:
    toy = Toy()
    scheduler: Scheduler[int] = Scheduler(toy, 4, 64)
    writer = asked(scheduler, [5], 60)
    next(writer), next(writer)
    toy.seen.clear()
    for n in (1, 2):  # they wait, and the writer's thread leads for all
        scheduler._entered(writes([n] * (3 * CHUNK), 1), 500, math.inf, lambda: False, "")
    rest = list(writer)
    assert rest == wanted([5], 60)[2:]
    between, longest = 0, 0
    for _, count in toy.seen:
        between = 0 if count == 1 else between + count
        longest = max(longest, between)
    assert longest <= 2 * CHUNK  # one step's, and the next one's before its single token


def test_ten_questions_of_one_user_do_not_starve_another() -> None:
    toy = Toy()
    scheduler: Scheduler[int] = Scheduler(toy, 1, 64)
    served: list[str] = []

    def work(name: str) -> Callable[[Request[int]], Work]:
        def made(request: Request[int]) -> Work:
            served.append(name)
            yield Feed((1,), 0)
            request.put(1)

        return made

    entered = [(f"a{n}", "a") for n in range(10)] + [("b0", "b"), ("c0", ""), ("c1", "")]
    for name, user in entered:
        scheduler._entered(work(name), 8, math.inf, lambda: False, user)
    while scheduler.waiting or scheduler.company:
        scheduler._step()
        with scheduler._lock:
            scheduler._dismiss()
    assert served.index("b0") <= 7
    assert [name for name in served if name[0] == "a"] == [f"a{n}" for n in range(10)]
    assert served.index("c0") < served.index("c1") < served.index("a9")


def test_a_full_queue_says_when_to_come_back() -> None:
    scheduler: Scheduler[int] = Scheduler(Toy(), 1, 2)
    running = asked(scheduler, [1], 9)
    next(running)
    for _ in range(2):
        scheduler._entered(writes([1], 1), 8, math.inf, lambda: False, "")
    scheduler._served = 7.0
    with pytest.raises(
        BusyError, match="2 questions are waiting already; ask again in 21 s"
    ) as told:
        next(asked(scheduler, [1], 1))
    assert told.value.retry_after == 21
    assert scheduler.tally.refused == 1
    assert scheduler.waiting == 2


def test_nobody_is_sent_away_while_there_are_seats() -> None:
    scheduler: Scheduler[int] = Scheduler(Toy(), 8, 1)
    for _ in range(8 + 1):  # all come before the next step
        scheduler._entered(writes([1], 1), 8, math.inf, lambda: False, "")
    with pytest.raises(BusyError):
        scheduler._entered(writes([1], 1), 8, math.inf, lambda: False, "")


def test_rows_around_one_that_has_yet_to_go_over_are_fed_apart() -> None:
    turn = threading.Condition()
    seated = [
        Request(writes([1], 1), 8, math.inf, lambda: False, "", 0.0, turn, row=row)
        for row in (0, 2, 3)
    ]
    rows = [[one.row for one in group] for group in _neighbours(seated, {1}.__contains__)]
    assert rows == [[0], [2, 3]]
    assert len(list(_neighbours(seated, set().__contains__))) == 1


def test_one_user_takes_half_of_the_queue_at_most() -> None:
    scheduler: Scheduler[int] = Scheduler(Toy(), 1, 4)
    next(asked(scheduler, [1], 9, user="a"))
    enter = scheduler._entered
    for _ in range(2):
        enter(writes([1], 1), 8, math.inf, lambda: False, "a")
    with pytest.raises(BusyError):
        enter(writes([1], 1), 8, math.inf, lambda: False, "a")
    assert enter(writes([1], 1), 8, math.inf, lambda: False, "b")


def test_who_is_gone_frees_the_place_in_the_same_step() -> None:
    toy = Toy()
    scheduler: Scheduler[int] = Scheduler(toy, 1, 8)
    gone = threading.Event()
    first = asked(scheduler, [1], 99, stopped=gone.is_set)
    next(first)
    toy.before = lambda: gone.set() if scheduler.waiting else None
    assert list(asked(scheduler, [2], 3)) == wanted([2], 3)
    assert len(toy.seen) == 1 + 1 + 3
    assert len(list(first)) == 1
    assert scheduler.company == 0


def test_who_is_late_frees_the_place_in_the_same_step() -> None:
    toy = Toy()
    scheduler: Scheduler[int] = Scheduler(toy, 1, 8)
    first = asked(scheduler, [1], 99)
    next(first)
    late = scheduler._seated[0]

    def overtaken() -> None:
        if scheduler.waiting:
            late.deadline = time.monotonic() - 1

    toy.before = overtaken
    assert list(asked(scheduler, [2], 3)) == wanted([2], 3)
    assert len(toy.seen) == 1 + 1 + 3  # its first step, the one it was late in, those of the other
    with pytest.raises(GenerationError, match=r"took too long$"):
        list(first)
    assert scheduler.company == 0


def test_who_gives_up_while_waiting_leaves_the_queue() -> None:
    toy = Toy()
    scheduler: Scheduler[int] = Scheduler(toy, 1, 8)
    first = asked(scheduler, [1], 99)
    head = next(first)
    gone = threading.Event()
    toy.before = lambda: gone.set() if scheduler.waiting else None
    assert list(asked(scheduler, [2], 3, stopped=gone.is_set)) == []
    assert scheduler.waiting == 0
    assert [head, *first] == wanted([1], 99)


def test_a_deadline_is_told_apart_from_a_wait() -> None:
    scheduler: Scheduler[int] = Scheduler(Toy(), 1, 8)
    running = asked(scheduler, [1], 99)
    next(running)
    with pytest.raises(GenerationError, match="too long: the generator was busy"):
        list(asked(scheduler, [2], 3, deadline=time.monotonic() - 1))
    scheduler._seated[0].deadline = time.monotonic() - 1
    with pytest.raises(GenerationError, match=r"took too long$"):
        list(running)
    assert scheduler.company == 0


def test_a_session_that_fails_is_everybodys_error_and_the_next_question_works() -> None:
    toy = Toy()
    scheduler: Scheduler[int] = Scheduler(toy, 4, 64)
    toy.fails = 10**6
    told = at_once([partial(told_by, scheduler, [n], 5) for n in range(12)])
    assert all(isinstance(one, GenerationError) for one in told)
    assert "the card is gone" in str(told[0])
    toy.fails = 0
    assert list(asked(scheduler, [3], 5)) == wanted([3], 5)


def test_one_bad_request_spoils_no_other() -> None:
    scheduler: Scheduler[int] = Scheduler(Toy(), 4, 64)
    good = asked(scheduler, [1], 9)
    head = next(good)

    def bad(request: Request[int]) -> Work:
        yield Feed((1, 2), 0)
        raise ValueError("a block is damaged")

    with pytest.raises(ValueError, match="a block is damaged"):
        list(scheduler.run(bad, 9))
    assert [head, *good] == wanted([1], 9)


def test_a_leader_that_is_interrupted_leaves_the_others_to_go_on() -> None:
    toy = Toy()
    scheduler: Scheduler[int] = Scheduler(toy, 4, 64)
    first, second = asked(scheduler, [1], 9), asked(scheduler, [2], 9)
    heads = next(first), next(second)
    toy.before = _raise_interrupt
    with pytest.raises(KeyboardInterrupt):
        list(first)
    toy.before = lambda: None
    assert [heads[1], *second] == wanted([2], 9)
    assert scheduler.company == 0


def _raise_interrupt() -> None:
    raise KeyboardInterrupt


def test_leaving_at_random_loses_nobody() -> None:
    scheduler: Scheduler[int] = Scheduler(Toy(), 3, 100)
    rng = np.random.default_rng(0)
    cuts = [int(cut) for cut in rng.integers(0, 9, 60)]

    def one(number: int, cut: int) -> list[int]:
        told = []
        steps = asked(scheduler, [number % WORDS], 8, user=str(number % 4))
        for token in steps:
            told.append(token)
            if len(told) == cut:
                steps.close()
        return told

    told = at_once([partial(one, n, cut) for n, cut in enumerate(cuts)])
    for number, (got, cut) in enumerate(zip(told, cuts, strict=True)):
        if isinstance(got, BusyError):
            continue
        assert got == wanted([number % WORDS], 8)[: cut or 8]
    assert scheduler.company == scheduler.waiting == 0
