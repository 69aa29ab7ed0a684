"""Builds a bot folder from bot.toml: adapter, generator, index with calibration, self-test.

Each finished step is kept beside the bot folder until the build ends, so that an interrupted
build goes on from the last whole step. Torch work happens in child processes.
"""

import hashlib
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

from .artifacts import Manifest, atomic_folder, place, seal, sha256_of
from .calibration import Calibration, Fit, calibrate
from .catalog import find, local_folder
from .classifier import TextClassifier
from .config import load_config
from .demand import asked, most_asked_first
from .destination import check_destination
from .encoder import ENGLISH, MultilingualUse, WordsOnly, is_latin, open_encoder
from .errors import ConfigError, FeatherdeskError
from .generators import (
    WEIGHTS,
    adapter_folder,
    card,
    ensure_encoder,
    ensure_generator,
    run_featherdesk,
)
from .index import Index
from .ingest import read_faq
from .injection import disarmed
from .out_of_scope import OutOfScope, read_out_of_scope
from .prefill import write_blocks
from .prompt import contract_hash
from .reranker import RERANKER, CrossEncoder
from .risk import Curve, draw
from .skillset import open_skills, skill_entries
from .stages import BotConfig
from .swap import restore
from .types import Author, Entry, RouteKind

__all__ = ["STEPS", "Built", "build"]

STEPS = ("finetune", "generator", "index", "evaluate")
Notify = Callable[[str], None]
_SELF_TEST = 12


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did; times in seconds."""

    folder: str
    entries: int
    languages: tuple[str, ...]
    encoder: str
    answer_threshold: float
    kept: float
    refused: float
    coverage_at_risk: Mapping[str, float]
    model_share: float | None
    seconds: float


def build(
    config_path: Path,
    *,
    out: Path | None = None,
    start: str | None = None,
    quick: bool = False,
    finetune: bool = False,
    notify: Notify = lambda _: None,
) -> Built:
    """Build the bot that a bot.toml describes, into `out` or `bot/` beside it.

    `start` names the step to begin at; what the steps before it made is taken from the bot
    folder. `finetune` trains an adapter on this FAQ first.

    Raises:
        FeatherdeskError: the FAQ, the configuration or a step is at fault; see its message.
    """
    began = time.monotonic()
    config = load_config(config_path)
    out = out or config_path.parent / "bot"
    restore(out)
    check_destination(out, config_path)
    if start is not None and start not in STEPS:
        raise ConfigError(f"--from {start}: no such step; steps are {', '.join(STEPS)}")
    entries = _entries(config_path, config)
    if "injection" not in config.guards.off:
        entries = _disarmed(entries, notify)
    work = out.parent / f".{out.name}.work"
    steps = _Steps(work, out, start, notify)
    adapter = _adapter(config_path, config, steps, finetune=finetune, start=start)
    generator = _generator(config, adapter, out, start, notify)
    skills = skill_entries(open_skills(config.skills, config_path.parent.resolve()), entries)
    told = [*entries, *skills]
    index, calibration = _index(config_path.parent, config, told, steps, out)
    with atomic_folder(out) as folder:
        _fill(folder, config_path, work, generator, calibration)
        if classifier := _classifier(config_path.parent, config):
            place(classifier, folder / "classifier")
        draw(_curves(calibration), folder / "report")
        manifest = _manifest(config, calibration, adapter, entries)
        if manifest.blocks:
            notify("reading the entries once")
            told = most_asked_first(index.entries, asked(out, config.storage.url))
            write_blocks(folder, told, config.generation.writes, config.generation.stored_mb)
        manifest, share = _sealed(folder, manifest, notify, quick=quick)
    shutil.rmtree(work, ignore_errors=True)
    limits = _main(calibration)
    return Built(
        str(out),
        len(entries),
        manifest.languages,
        index.encoder.id,
        limits.answer,
        limits.kept,
        limits.refused,
        {f"{risk:.0%}": limits.curve.covered(risk) for risk in (0.02, 0.05, 0.1)},
        share,
        round(time.monotonic() - began, 1),
    )


def _sealed(
    folder: Path, manifest: Manifest, notify: Notify, *, quick: bool
) -> tuple[Manifest, float | None]:
    """Seal the bot, and let it take its self-test."""
    sealed = seal(folder, manifest)
    if quick:
        return sealed, None
    share = _self_test(folder, notify)
    measured = {"self_test": {"model_share": share, "questions": _SELF_TEST}}
    return seal(folder, replace(sealed, steps=(measured,))), share


def _entries(config_path: Path, config: BotConfig) -> list[Entry]:
    if not config.bot.faq:
        raise ConfigError(f"{config_path}: bot.faq names no file")
    return read_faq(*(config_path.parent / name for name in config.bot.faq))


def _disarmed(entries: Sequence[Entry], notify: Notify) -> list[Entry]:
    """The entries without what reads like an instruction to the model."""
    clean = []
    for entry in entries:
        safe, found = disarmed(entry)
        for sentence in found:
            notify(f"warning: {entry.source}: left out, reads like an instruction: {sentence!r}")
        if safe is not None:
            clean.append(safe)
    return clean


@dataclass(slots=True)
class _Steps:
    """Finished steps under `work`, each with the key of what it was made from."""

    work: Path
    out: Path
    start: str | None
    notify: Notify

    def run(self, name: str, key: str, make: Callable[[Path], None]) -> Path:
        """The folder of a step; made unless an equal one is whole already."""
        folder = self.work / name
        mark = folder / ".done"
        if mark.exists() and mark.read_text(encoding="utf-8") == key:
            self.notify(f"{name}: already done")
            return folder
        self.notify(name)
        with atomic_folder(folder) as fresh:
            make(fresh)
            (fresh / ".done").write_text(key, encoding="utf-8")
        return folder


def _adapter(
    config_path: Path, config: BotConfig, steps: _Steps, *, finetune: bool, start: str | None
) -> Path | None:
    """The adapter that serves: the configured one, or one trained on this FAQ."""
    if not config.generation.writes:
        return None
    trained = config_path.parent / "adapter"
    restore(trained)
    if finetune and start in {None, "finetune"}:
        steps.notify("finetune: training on this FAQ")
        work = steps.work / "adapter"
        run_featherdesk(["finetune", str(config_path), "--out", str(work)])
        with atomic_folder(trained) as fresh:
            for path in work.iterdir():
                if path.is_file():
                    shutil.copy2(path, fresh / path.name)
        return trained
    if config.generation.adapter == "grounded" and (trained / "adapter_config.json").exists():
        return trained
    return adapter_folder(config.generation.adapter)


def _generator(
    config: BotConfig, adapter: Path | None, out: Path, start: str | None, notify: Notify
) -> Path | None:
    """The generator's folder; None for a bot that writes in no language."""
    if not config.generation.writes:
        return None
    made = out / "generator"
    if start in {"index", "evaluate"} and (made / "model.onnx").exists():
        return made
    return ensure_generator(config.generation.base, adapter, notify)


def _index(
    home: Path, config: BotConfig, entries: Sequence[Entry], steps: _Steps, out: Path
) -> tuple[Index, Calibration]:
    """The index step: embeds, calibrates, and keeps both."""
    identity, second = _encoder_id(config, entries), _reranker_id(config, entries)
    encoder = open_encoder(identity, _fetch_encoder(identity, steps.notify))
    reranker = CrossEncoder(ensure_encoder(second, steps.notify), 0, second) if second else None
    classifier = TextClassifier(folder) if (folder := _classifier(home, config)) else None
    own = [q for name in config.bot.out_of_scope for q in read_out_of_scope(home / name)]
    known = {}
    if (out / "knowledge" / "vectors.npy").exists():
        try:
            if Manifest.load(out).encoder == identity:
                known = Index.load(out / "knowledge", encoder).known_vectors()
        except FeatherdeskError:
            known = {}

    def make(folder: Path) -> None:
        strange = OutOfScope.embedded(encoder, {entry.language for entry in entries}, own)
        index = Index.build(entries, encoder, known, strange)
        index.classifier = classifier
        index.save(folder)
        calibration = calibrate(
            index,
            reranker,
            writes=config.generation.writes,
            strange=strange,
            risk=config.routing.risk if config.routing.risk >= 0 else None,
        )
        calibration.save(folder / "calibration.json")

    key = hashlib.sha256(
        json.dumps(
            [
                identity,
                second,
                config.generation.writes,
                own,
                config.retrieval.classifier,
                config.routing.risk,
                [repr(entry) for entry in entries],
            ]
        ).encode()
    ).hexdigest()
    folder = steps.run("knowledge", key, make)
    return Index.load(folder, encoder), Calibration.load(folder / "calibration.json")


def _classifier(home: Path, config: BotConfig) -> Path | None:
    """The folder of the configured classifier."""
    return home / config.retrieval.classifier if config.retrieval.classifier else None


def _main(calibration: Calibration) -> Fit:
    """What was fitted to the script that most of the bot's own questions are in."""
    return max(calibration.latin, calibration.other, key=lambda limits: limits.own)


def _encoder_id(config: BotConfig, entries: Sequence[Entry]) -> str:
    """The configured encoder; `auto` takes MiniLM for English, both for a mixed FAQ."""
    chosen = config.retrieval.encoder
    if chosen == WordsOnly.id:
        return chosen
    if chosen != "auto":
        return "+".join(find(name).id for name in chosen.split("+"))
    english = [entry.language == "en" for entry in entries]
    if all(english):
        return ENGLISH
    return f"{ENGLISH}+{MultilingualUse.id}" if any(english) else MultilingualUse.id


def _reranker_id(config: BotConfig, entries: Sequence[Entry]) -> str:
    """The configured reranker; `auto` takes the English one where all Latin text is English."""
    chosen = config.retrieval.reranker
    if chosen == "auto":
        scripts = defaultdict(list)
        for entry in entries:
            scripts[entry.language].append(is_latin(entry.question))
        latin = {name for name, found in scripts.items() if 2 * sum(found) > len(found)}
        return RERANKER if latin == {"en"} else ""
    return "" if chosen == "none" else find(chosen).id


def _fetch_encoder(identity: str, notify: Notify) -> Path:
    """The folder with an encoder's files; the multilingual one is an installed package.

    For an encoder without files it is a path that does not exist.
    """
    if identity == WordsOnly.id:
        return Path(WordsOnly.id)
    folders = [ensure_encoder(name, notify) for name in identity.split("+")]
    return folders[0]


def _curves(calibration: Calibration) -> list[tuple[str, Curve, float]]:
    """The risk-coverage curves of the scripts that were fitted, with what was chosen."""
    named = [("Questions in Latin script", calibration.latin), ("Others", calibration.other)]
    seen = named[:1] if calibration.latin == calibration.other else named
    return [(name, fit.curve, fit.answer) for name, fit in seen]


def _fill(
    folder: Path, config_path: Path, work: Path, generator: Path | None, calibration: Calibration
) -> None:
    shutil.copy2(config_path, folder / "bot.toml")
    place(work / "knowledge", folder / "knowledge")
    (folder / "knowledge" / ".done").unlink(missing_ok=True)
    if generator is not None:
        place(generator, folder / "generator")
    (folder / "encoder").mkdir()
    source = _fetch_encoder(calibration.encoder, lambda _: None)
    if source.is_dir():
        place(source, folder / "encoder")
    if calibration.reranker:
        place(ensure_encoder(calibration.reranker, lambda _: None), folder / "reranker")


def _manifest(
    config: BotConfig, calibration: Calibration, adapter: Path | None, entries: Sequence[Entry]
) -> Manifest:
    told = card(adapter) if adapter else {}
    base = config.generation.base
    refusal, slope = (
        float(str(told.get(f"refusal_{name}", usual)))
        for name, usual in (("threshold", 0.5), ("slope", 0.0))
    )
    return Manifest(
        name=config.bot.name,
        base=base,
        base_sha256="" if local_folder(base) else find(base).sha256,
        adapter=str(told.get("name") or (adapter.name if adapter else "none")),
        prompt_contract=contract_hash(),
        writes=config.generation.writes,
        encoder=calibration.encoder,
        reranker=calibration.reranker,
        entries=len(entries),
        languages=tuple(sorted({entry.language for entry in entries})),
        refusal=refusal,
        refusal_slope=slope,
        blocks=bool(told.get("blocks")) and bool(config.generation.writes),
        adapter_sha256=sha256_of(adapter / WEIGHTS) if adapter else "",
    )


def _self_test(folder: Path, notify: Notify) -> float | None:
    """Ask some of the bot's own questions; the share the model answered itself."""
    from .engine import Agent

    agent = Agent.load(folder)
    own = [
        e
        for e in agent.router.index.entries
        if e.language in agent.manifest.writes and not e.verbatim and not e.expired(date.today())
    ]
    if not own:
        return None
    chosen = own[:: max(1, len(own) // _SELF_TEST)][:_SELF_TEST]
    replies = []
    for number, entry in enumerate(chosen, start=1):
        notify(f"self-test {number}/{len(chosen)}")
        replies.append(agent.reply(entry.questions[-1]))
    report = folder / "report"
    report.mkdir(exist_ok=True)
    rows = [
        {
            "entry_id": e.id,
            "route": r.route.kind.value,
            "author": r.author.value,
            "first": r.entry_id == e.id,
            "ms": dict(r.ms),
        }
        for e, r in zip(chosen, replies, strict=True)
    ]
    (report / "report.json").write_text(json.dumps({"self_test": rows}, indent=1))
    answered = [r for r in replies if r.route.kind is RouteKind.ANSWER]
    return sum(r.author is Author.MODEL for r in answered) / max(1, len(answered))


def summary(built: Built) -> dict[str, object]:
    """The result as a JSON object."""
    return asdict(built)
