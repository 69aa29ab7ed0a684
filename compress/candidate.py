"""Ways to compress a model, what a person asks of the result, and what was measured of one.

Knows nothing of how candidates are made or chosen.
"""

from dataclasses import dataclass

from ..agent.errors import ConfigError

__all__ = ["UNCOMPRESSED", "Budget", "Candidate", "Trial"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to compress: layers removed, tokens kept (0: all), weights, threads (0: all cores), the
    share of the feed-forward channels kept (0: all)."""

    layers: int = 0
    vocabulary: int = 0
    precision: str = "int4"
    block_size: int = 32
    threads: int = 0
    channels: float = 0.0

    @property
    def pruned(self) -> bool:
        """Whether it must be healed before it is a result."""
        return bool(self.layers or self.vocabulary or self.channels)

    @property
    def key(self) -> str:
        """A name for people, files and resuming."""
        parts = [f"layers-{self.layers}"] if self.layers else []
        parts += [f"vocabulary-{self.vocabulary}"] if self.vocabulary else []
        parts += [f"channels-{100 * self.channels:.0f}"] if self.channels else []
        block = f"-block-{self.block_size}" if self.precision == "int4" else ""
        parts.append(f"{self.precision}{block}")
        return "_".join([*parts, *([f"threads-{self.threads}"] if self.threads else [])])


UNCOMPRESSED = Candidate(precision="fp32")


@dataclass(frozen=True, slots=True)
class Budget:
    """What is asked for: MB (10^6 bytes) of the generator folder, ms to the first token with
    `users` at once (median), and minutes of planning. 0 MB or ms: any."""

    max_mb: float = 0.0
    max_ms: float = 0.0
    users: int = 1
    minutes: float = 90.0

    def __post_init__(self) -> None:
        if self.minutes <= 0 or self.users < 1 or self.max_mb < 0 or self.max_ms < 0:
            raise ConfigError("plan: minutes above 0, users from 1, MB and ms not below 0")

    def fits(self, trial: "Trial") -> bool:
        """Whether a trial keeps it."""
        small = not self.max_mb or trial.size_mb <= self.max_mb
        return small and (not self.max_ms or trial.first_ms <= self.max_ms)


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate measured in a rung: `first_ms` and `rate` (characters/s) with the users asked
    for, `alone_ms` with one; `correct` 0..1, `surprise` in nats a character of right answers.

    `healing` are minutes of healing in this rung, `healed_s` the same in seconds of all its work.
    """

    candidate: Candidate
    rung: int
    healing: float
    size_mb: float
    first_ms: float
    alone_ms: float
    rate: float
    peak_mb: float
    correct: float
    surprise: float
    seconds: float
    healed_s: float = 0.0

    @property
    def result(self) -> bool:
        """Whether it may be offered: what is pruned must be healed."""
        return self.healing > 0 or not self.candidate.pruned

    @property
    def costs(self) -> tuple[float, ...]:
        """What the Pareto front is of, all better when smaller."""
        return (self.size_mb, self.first_ms, -self.rate, self.peak_mb, -self.correct)
