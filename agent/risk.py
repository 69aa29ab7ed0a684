"""Risk and coverage: of the questions a bot answers, how many it answers wrong.

Selective classification (Geifman and El-Yaniv, arXiv 1705.08500) over scores made monotone by
isotonic regression (pool adjacent violators). A deployer names a risk, the curve gives the
threshold. Knows nothing of where scores come from.
"""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["TRAFFIC", "Curve", "Judged", "draw", "isotonic"]

TRAFFIC = (0.6, 0.2, 0.2)
"""The traffic that is assumed: questions an entry answers, near misses, strange questions."""

_POINTS = 60
Vector = NDArray[np.float64]
Judged = tuple[float, bool]
"""The best score of a question, and whether its entry is the right one."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Rising thresholds with the share of traffic answered and of answers that are wrong."""

    thresholds: tuple[float, ...] = ()
    coverage: tuple[float, ...] = ()
    risk: tuple[float, ...] = ()

    @classmethod
    def of(
        cls,
        own: Sequence[Judged],
        near: Sequence[Judged],
        strange: Sequence[Judged],
        again: Sequence[Judged] = (),
    ) -> "Curve":
        """The curve of calibration questions, each group weighed as in `TRAFFIC`.

        `own` are asked in words that no entry has, `again` in an entry's words but for a typing
        mistake; of the questions that an entry answers half are taken to be of each kind.
        """
        if not own:
            return cls()
        inside, *outside = TRAFFIC
        shares = (inside / 2, inside / 2) if again else (inside, 0.0)
        told = zip((own, again, near, strange), (*shares, *outside), strict=True)
        groups = [(group, share) for group, share in told if group]
        scores = np.array([score for group, _ in groups for score, _ in group])
        right = np.array([float(ok) for group, _ in groups for _, ok in group])
        weight = np.concatenate(
            [np.full(len(group), share / len(group)) for group, share in groups]
        )
        order = np.argsort(-scores, kind="stable")
        scores, weight = scores[order], weight[order] / weight.sum()
        sure = isotonic(scores[::-1], right[order][::-1], weight[::-1])[::-1]
        covered = np.cumsum(weight)
        risk = np.cumsum(weight * (1 - sure)) / covered
        last = np.flatnonzero(np.append(np.diff(scores) < 0, True))
        places = last[np.unique(np.linspace(0, len(last) - 1, _POINTS).round().astype(int))][::-1]
        return cls(
            *(tuple(round(float(v), 5) for v in line[places]) for line in (scores, covered, risk))
        )

    def threshold(self, risk: float) -> float | None:
        """The lowest threshold that keeps a risk; None where no answer is that sure."""
        for threshold, wrong in zip(self.thresholds, self.risk, strict=True):
            if wrong <= risk:
                return threshold
        return None

    def covered(self, risk: float) -> float:
        """The share of traffic that is answered when a risk is kept."""
        threshold = self.threshold(risk)
        return 0.0 if threshold is None else self.at(threshold)[0]

    def at(self, threshold: float) -> tuple[float, float]:
        """Coverage and risk at a threshold."""
        for place, tried in enumerate(self.thresholds):
            if tried >= threshold:
                return self.coverage[place], self.risk[place]
        return 0.0, 0.0


def isotonic(x: Vector, y: Vector, weight: Vector) -> Vector:
    """The rising values closest to `y` over `x` sorted upwards; ties of `x` share a value."""
    starts = np.flatnonzero(np.append(True, np.diff(x) > 0))
    total = np.add.reduceat(weight, starts)
    value = np.add.reduceat(weight * y, starts) / total
    counts = np.diff(np.append(starts, len(x)))
    blocks: list[tuple[float, float, int]] = []
    for v, w, n in zip(value, total, counts, strict=True):
        block = (float(v), float(w), int(n))
        while blocks and blocks[-1][0] >= block[0]:
            before = blocks.pop()
            both = before[1] + block[1]
            block = (
                (before[0] * before[1] + block[0] * block[1]) / both,
                both,
                before[2] + block[2],
            )
        blocks.append(block)
    return np.repeat([b[0] for b in blocks], [b[2] for b in blocks])


def draw(curves: Sequence[tuple[str, Curve, float]], folder: Path) -> None:
    """Write risk-coverage.html (it opens offline), and .png where matplotlib is installed.

    Each curve comes with a name and the threshold that was chosen. Where no threshold could be
    tried there is no picture, and the page says so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [one for one in curves if one[1].thresholds]
    body = "\n".join(_svg(*one) for one in drawn) or "<p>Too few questions to draw a curve.</p>"
    (folder / "risk-coverage.html").write_text(_PAGE.format(body=body), encoding="utf-8")
    if drawn:
        _png(drawn, folder / "risk-coverage.png")


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<title>Risk and coverage</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;
color:#1e293b}}svg{{width:100%;height:auto}}td,th{{padding:.1rem 1rem .1rem 0;text-align:right}}
</style><h1>Risk and coverage</h1>
<p>Of all questions a customer may ask, the share that is answered (coverage) and the share of those
answers that stands on the wrong entry (risk), for every threshold. Assumed traffic: 60 % questions
that an entry answers, 20 % near misses, 20 % out of scope. <code>routing.risk</code> in bot.toml
moves the dot.</p>
{body}</html>
"""
_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 300, 56, 16


def _svg(name: str, curve: Curve, chosen: float) -> str:
    """One curve with its chosen point and a small table."""
    high = max(0.05, *curve.risk)

    def point(coverage: float, risk: float) -> tuple[float, float]:
        return (
            _LEFT + coverage * (_WIDTH - _LEFT - 16),
            _TOP + (1 - risk / high) * (_HEIGHT - _TOP - 40),
        )

    points = [point(*pair) for pair in zip(curve.coverage, curve.risk, strict=True)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = point(*curve.at(chosen))
    ticks = "".join(_tick(point, share / 4, high * share / 4) for share in range(5))
    rows = "".join(
        f"<tr><td>{risk:.0%}</td><td>{_told(curve, risk)}</td></tr>" for risk in (0.02, 0.05, 0.1)
    )
    return (
        f"<h2>{html.escape(name)}</h2><svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' "
        f"aria-label='risk over coverage'>{ticks}<polyline points='{line}' fill='none' "
        f"stroke='#059669' stroke-width='2.5'/><circle cx='{x:.1f}' cy='{y:.1f}' r='6' "
        f"fill='#b45309'/><text x='{_WIDTH // 2}' y='{_HEIGHT - 4}' text-anchor='middle' "
        "font-size='13'>coverage</text></svg>"
        f"<table><tr><th>risk</th><th>coverage</th></tr>{rows}</table>"
    )


def _tick(point: Callable[[float, float], tuple[float, float]], share: float, risk: float) -> str:
    x, base = point(share, 0.0)
    left, y = point(0.0, risk)
    line = f"x1='{left:.0f}' x2='{_WIDTH - 16}' y1='{y:.0f}' y2='{y:.0f}'"
    beside = f"x='{left - 8:.0f}' y='{y + 4:.0f}' text-anchor='end' font-size='12'"
    below = f"x='{x:.0f}' y='{base + 18:.0f}' text-anchor='middle' font-size='12'"
    return (
        f"<line {line} stroke='#e2e8f0'/><text {beside}>{risk:.1%}</text>"
        f"<text {below}>{share:.0%}</text>"
    )


def _told(curve: Curve, risk: float) -> str:
    covered = curve.covered(risk)
    return f"{covered:.0%}" if covered else "no answer is that sure"


def _png(curves: Sequence[tuple[str, Curve, float]], path: Path) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, curve, chosen in curves:
        (line,) = axes.plot(curve.coverage, curve.risk, label=name)
        axes.plot(*curve.at(chosen), "o", color=line.get_color())
    axes.set_xlabel("coverage: share of questions answered")
    axes.set_ylabel("risk: share of answers that are wrong")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
