"""Fits again, with a new generator, when a bot takes its model's refusal, and the risk it runs.

    python -m featherdesk.compress.recalibrate BOT [--generator FOLDER] [--dev DEV.jsonl]
        [--parent BOT]

A compressed model doubts differently: the threshold of its parent would refuse too much or too
little. Asked are the bot's own wordings, each held out from its entry; some with their entry taken
away, and near misses of topics that no adapter saw, which nothing answers. With a dev file its rows
are asked instead.

Beside a parent both are asked all of these, and the threshold is where as many are refused as the
parent refuses. A threshold is a quantile of few doubts: fitted to each model for itself it moved by
more than the models differ. Knows nothing of how the generator was made.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from ..agent.artifacts import Manifest
from ..agent.blocks import BlockStore
from ..agent.calibration import Calibration
from ..agent.cli import run
from ..agent.engine import Agent
from ..agent.errors import FeatherdeskError
from ..agent.risk import Curve, draw
from ..agent.runtime import Generator, OnnxGenerator
from ..agent.scoring import from_odds, log_odds
from .doubts import Probed, ask_dev, ask_own
from .refusal import Asked, fit_refusal

__all__ = [
    "curve_of",
    "fitted",
    "matched",
    "recalibrate",
    "recalibrated",
    "store_thresholds",
]

KEPT, KEPT_DEV = 0.96, 0.97
"""The share of questions found right that the model must not refuse."""

_ROOM = 200_000_000
"""Bytes for what the model keeps of the entries while it is asked."""

_LEAST = 12
"""Questions of either sort below which nothing is fitted."""

_EDGE = 9.0
"""Log-odds that a stored threshold can hold."""


def fitted(probed: Sequence[Probed], kept: float, before: Manifest) -> dict[str, Any]:
    """`refusal` and `refusal_slope`; those of `before` where too little was asked to fit them."""
    asked = [one.asked for one in probed]
    right = sum(one.answerable and one.first for one in asked)
    wrong = sum(not one.answerable for one in asked)
    told: dict[str, Any] = {"questions": len(asked), "found_right": right, "unanswerable": wrong}
    if min(right, wrong) < _LEAST:
        old = {"refusal": before.refusal, "refusal_slope": before.refusal_slope}
        return {**old, **told, "fitted": False}
    fit = fit_refusal(asked, kept)
    return {
        "refusal": fit["refusal_threshold"],
        "refusal_slope": fit["refusal_slope"],
        "unanswerable_refused": fit["near_misses_refused"],
        "kept": kept,
        **told,
        "fitted": True,
    }


def matched(probed: Sequence[Probed], parent: Manifest) -> dict[str, Any]:
    """The parent's `refusal_slope`, and the `refusal` at which as many questions are refused as
    the parent refuses of them; the parent's own where too few were asked."""
    slope, edge = parent.refusal_slope, log_odds(parent.refusal)
    theirs = sum(one.parent - slope * one.asked.router >= edge for one in probed)
    fits = len(probed) >= 2 * _LEAST
    if fits:
        ours = sorted((p.asked.refusal - slope * p.asked.router for p in probed), reverse=True)
        ends = [ours[0] + 1.0, *ours, ours[-1] - 1.0]
        edge = min(max((ends[theirs] + ends[theirs + 1]) / 2, -_EDGE), _EDGE)
    right = [one.asked for one in probed if one.asked.answerable and one.asked.first]
    wrong = [one.asked for one in probed if not one.asked.answerable]

    def refused(asked: Sequence[Asked]) -> float:
        taken = sum(one.refusal - slope * one.router >= edge for one in asked)
        return round(taken / max(1, len(asked)), 4)

    return {
        "refusal": round(from_odds(edge), 5),
        "refusal_slope": slope,
        "unanswerable_refused": refused(wrong),
        "kept": round(1 - refused(right), 4),
        "questions": len(probed),
        "found_right": len(right),
        "unanswerable": len(wrong),
        "fitted": fits,
        "as_parent": theirs,
    }


def curve_of(
    probed: Sequence[Probed], refusal: float, slope: float
) -> tuple[Curve, tuple[float, float]]:
    """Risk and coverage of the model's answers over how sure it is, and both as they are set.

    How sure: the router's log-odds, weighed by the slope, less those of the model's refusal.
    """
    groups: dict[str, list[tuple[float, bool]]] = {"own": [], "away": [], "near": []}
    for one in probed:
        sure = from_odds(slope * one.asked.router - one.asked.refusal)
        groups[one.group].append((sure, one.right))
    curve = Curve.of(groups["own"], groups["away"] or groups["near"], groups["near"])
    return curve, curve.at(from_odds(-log_odds(refusal)))


def recalibrated(
    bot: Path,
    generator: Path,
    seed: int = 4,
    dev: Path | None = None,
    parent: Path | None = None,
) -> dict[str, Any]:
    """`refusal` and `refusal_slope` of a bot with another generator, and what they stand on.

    `coverage` and `risk` are those of the thresholds, `curve` those of every other. `parent` is
    the bot it came from.

    Raises:
        FeatherdeskError: a bot, generator or dev file cannot be read.
    """
    agent = Agent.load(bot, generate=False)
    return _measured(agent, _opened(agent, generator), seed, dev, parent)


def _measured(
    agent: Agent, generator: Generator, seed: int, dev: Path | None, parent: Path | None
) -> dict[str, Any]:
    if parent is not None:
        theirs = _opened(agent, parent / "generator", Manifest.load(parent))
        probed = ask_own(agent, generator, seed, theirs)
        probed += ask_dev(agent, generator, dev, theirs) if dev else []
    else:
        probed = ask_dev(agent, generator, dev) if dev else ask_own(agent, generator, seed)
    if parent is not None and probed:
        told = matched(probed, Manifest.load(parent))
    else:
        told = fitted(probed, KEPT_DEV if dev else KEPT, agent.manifest)
    curve, (coverage, risk) = curve_of(probed, told["refusal"], told["refusal_slope"])
    return told | {"coverage": coverage, "risk": risk, "curve": asdict(curve)}


def recalibrate(
    bot: Path,
    generator: Path | Generator | None = None,
    *,
    seed: int = 4,
    dev: Path | None = None,
    parent: Path | None = None,
) -> dict[str, Any]:
    """Fit, and store with the bot: thresholds in its manifest, the curve in its report/.

    `generator` is a folder or an open generator; left out, it is the bot's own. `parent` is the
    bot it came from: see `matched`.

    Raises:
        FeatherdeskError: the bot writes in no language, or cannot be read or written.
    """
    agent = Agent.load(bot, generate=False)
    if not agent.manifest.writes:
        raise FeatherdeskError(f"{bot} has no generator: there is nothing to calibrate")
    opened = generator or bot / "generator"
    opened = _opened(agent, opened) if isinstance(opened, Path) else opened
    told = _measured(agent, opened, seed, dev, parent)
    store_thresholds(bot, told)
    return told


def store_thresholds(bot: Path, told: Mapping[str, Any]) -> None:
    """Store what `recalibrated` has told, or JSON of it: thresholds in the bot's manifest, the
    curve in its report/.

    Raises:
        FeatherdeskError: the bot cannot be read or written.
    """
    curve = Curve(**{name: tuple(values) for name, values in told["curve"].items()})
    edge = from_odds(-log_odds(told["refusal"]))
    routed = Calibration.load(bot / "knowledge" / "calibration.json").latin
    curves = [
        ("Answers of the model, by how sure it is", curve, edge),
        ("Questions in Latin script", routed.curve, routed.answer),
    ]
    with _replacing(bot / "report") as fresh:
        draw(curves, fresh)
        (fresh / "recalibration.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    short = {name: value for name, value in told.items() if name != "curve"}
    manifest = Manifest.load(bot)
    steps = tuple(step for step in manifest.steps if "recalibrated" not in step)
    manifest = replace(
        manifest,
        refusal=told["refusal"],
        refusal_slope=told["refusal_slope"],
        steps=(*steps, {"recalibrated": short}),
    )
    with _replacing(bot) as fresh:
        text = json.dumps(asdict(manifest), indent=1, ensure_ascii=False)
        (fresh / "manifest.json").write_text(text, encoding="utf-8")


def _opened(agent: Agent, folder: Path, manifest: Manifest | None = None) -> OnnxGenerator:
    """A generator that reads entries as it does when it serves the bot of a manifest."""
    kept = (manifest or agent.manifest).blocks and agent.config.generation.stored_mb
    return OnnxGenerator(folder, store=BlockStore(_ROOM) if kept else None)


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A place to write files that then take their places in `folder`, each in one step.

    Files of a bot may be links to another bot's: they are replaced, never written to.
    """
    folder.mkdir(exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".fresh-", dir=folder))
    try:
        yield fresh
        for path in sorted(fresh.iterdir()):
            os.replace(path, folder / path.name)
    except OSError as error:
        raise FeatherdeskError(f"{folder} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@click.command()
@click.argument("bot", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--generator", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--dev", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--parent", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--seed", type=int, default=4, show_default=True)
def main(
    bot: Path, *, generator: Path | None, dev: Path | None, parent: Path | None, seed: int
) -> None:
    """Fit a bot's refusal and risk again, and store both with it."""
    told = recalibrate(bot, generator, seed=seed, dev=dev, parent=parent)
    click.echo(json.dumps({name: value for name, value in told.items() if name != "curve"}))


if __name__ == "__main__":
    run(main, "python -m featherdesk.compress.recalibrate")
