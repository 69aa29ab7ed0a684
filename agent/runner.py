"""Calls a skill so that nothing it does takes the turn down.

It runs in a thread of its own with a time-out. What it raises, a hang or a wrong result is a
`SkillError`; a skill that fails several times in a row is paused, and one that hangs holds only a
few threads. Knows nothing of conversations.
"""

import copy
import json
import logging
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .arguments import Parameter, parameters_of, problems
from .errors import SkillError
from .skills import Risk, Skill, SkillResult

__all__ = ["FAILURES", "PAUSE", "RUNNING", "Runner"]

log = logging.getLogger(__name__)

FAILURES, PAUSE, RUNNING = 3, 60.0, 8
"""Failures in a row before a pause, its length in seconds, and threads that one skill may hold."""

_MAX_TIMEOUT = 60.0
_MAX_TEXT = 4000


@dataclass(slots=True)
class Runner:
    """A skill in use, with what it declared when it was opened; `clock` counts seconds.

    Python cannot end a thread: one that hangs lives until the process ends, so that the number
    of threads is what is held.
    """

    skill: Skill
    name: str
    description: str
    risk: Risk
    confirms: bool
    timeout: float
    schema: Mapping[str, Any]
    parameters: tuple[Parameter, ...]
    examples: tuple[str, ...]
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _failures: int = 0
    _paused_until: float = float("-inf")
    _running: int = 0

    @classmethod
    def of(
        cls,
        skill: Skill,
        examples: Sequence[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> "Runner":
        """A runner for a skill; `examples` are added to its own.

        Raises:
            ValueError: what the skill declares cannot be used.
        """
        asked = _declared(skill, examples)
        risk, schema = Risk(skill.risk), copy.deepcopy(skill.parameters)
        return cls(
            skill=skill,
            name=str(skill.name),
            description=skill.description,
            risk=risk,
            confirms=skill.confirm or risk is not Risk.READ,
            timeout=float(skill.timeout),
            schema=schema,
            parameters=parameters_of(schema),
            examples=asked,
            clock=clock,
        )

    @property
    def paused(self) -> bool:
        """Whether it is not called now: it failed too often, or all its threads are taken."""
        with self._lock:
            return self._is_paused()

    def run(self, arguments: Mapping[str, object]) -> SkillResult:
        """Call the skill and wait at most its time-out.

        Raises:
            SkillError: it is paused, raised, hung, or gave back what is no result.
        """
        wrong = problems(self.parameters, arguments)
        if wrong:
            raise SkillError(f"skill {self.name}: {wrong[0]}")
        with self._lock:
            if self._is_paused():
                raise SkillError(f"skill {self.name} is paused")
            self._running += 1
        try:
            result = self._called(dict(arguments))
        except SkillError as error:
            self._failed()
            log.warning("skill %s: %s", self.name, error)
            raise
        with self._lock:
            self._failures = 0
        return result

    def _is_paused(self) -> bool:
        return self.clock() < self._paused_until or self._running >= RUNNING

    def _called(self, arguments: dict[str, object]) -> SkillResult:
        """What `run` gives back; its thread dies with the process and gives its place back."""
        given: list[SkillResult] = []
        raised: list[str] = []

        def call() -> None:
            try:
                given.append(_checked(self.skill.run(arguments)))
            except SkillError as error:
                raised.append(str(error))
            except BaseException as error:  # noqa: BLE001 - nothing of it may reach the turn
                raised.append(_place(error))
            finally:
                self._leave()

        thread = threading.Thread(target=call, name=f"skill-{self.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._leave()
            raise SkillError("no thread could be started") from None
        thread.join(self.timeout)
        if raised:
            raise SkillError(raised[0])
        if not given:
            raise SkillError(f"no result within {self.timeout:g} s")
        return given[0]

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1

    def _failed(self) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= FAILURES:
                self._paused_until = self.clock() + PAUSE


def _declared(skill: Skill, more: Sequence[str]) -> tuple[str, ...]:
    """All examples of a skill; ValueError where something it declares cannot be used."""
    if not 0 < float(skill.timeout) <= _MAX_TIMEOUT:
        raise ValueError(f"timeout must be over 0 and at most {_MAX_TIMEOUT:g} s: {skill.timeout}")
    if not isinstance(skill.confirm, bool):
        raise ValueError("confirm must be true or false")
    if not isinstance(skill.description, str) or not skill.description.strip():
        raise ValueError("description must say in a sentence what it does")
    if isinstance(skill.examples, str) or isinstance(more, str):
        raise ValueError("examples must be a list of questions")
    asked = tuple(dict.fromkeys((*skill.examples, *more)))
    if not asked or not all(isinstance(text, str) and text.strip() for text in asked):
        raise ValueError("examples must be questions that call it, at least one")
    return asked


def _place(error: BaseException) -> str:
    """What was raised and where in the skill; never its text, which may hold a customer's data."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    where = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
    return f"{type(error).__name__}{where}"


def _checked(result: object) -> SkillResult:
    """The result, if it is one that can be sent."""
    if not isinstance(result, SkillResult):
        raise SkillError(f"run gave back {type(result).__name__}, not a SkillResult")
    try:
        texts = {"": result.text, **result.texts}
        data = json.loads(json.dumps(dict(result.data), allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise SkillError("texts and data of the result must be what JSON holds") from None
    if not all(isinstance(text, str) and text.strip() for text in texts.values()):
        raise SkillError("the result holds no text")
    short = {language: text[:_MAX_TEXT] for language, text in texts.items()}
    return SkillResult(short.pop(""), data, short, bool(result.again))
