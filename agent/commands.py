"""The commands that need no torch and no web server: init, check, build, ask, batch, ..."""

import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import FeatherdeskError, InputError
from .receipt import Receipt, model_name
from .types import Reply, Turn

if TYPE_CHECKING:
    from .conversations import InboxItem, Store

__all__ = [
    "ask",
    "batch",
    "build",
    "chat",
    "check",
    "evaluate",
    "explain",
    "inbox",
    "init",
]

_BOT = click.argument("bot", type=click.Path(path_type=Path))
_DEVICE = click.Choice(["cpu", "cuda"])
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _say(text: str) -> None:
    click.echo(text, err=True)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=1))


def reply_json(reply: Reply, identity: str = "") -> dict[str, Any]:
    """A reply in the format of `batch`; a skill's also names it and holds its data."""
    use = reply.skill
    return {
        "id": identity,
        "route": reply.route.kind.value,
        "author": reply.author.value,
        "confidence": round(reply.route.confidence, 4),
        "entry_id": reply.entry_id,
        "candidates": [
            {"entry_id": m.entry_id, "score": round(m.score, 4)} for m in reply.route.matches
        ],
        "passed": list(reply.route.passed),
        "parts": reply.route.parts,
        "text": reply.text,
        "raw_text": reply.raw_text,
        "citations": [{"entry_id": c.entry_id, "quote": c.quote} for c in reply.citations],
        "grounded": reply.grounded,
        "handoff": None if reply.handoff is None else reply.handoff.to_json(),
        "ms": dict(reply.ms),
        "threshold": round(reply.route.threshold, 4),
        "guards": list(reply.guards),
        "unsupported": list(reply.unsupported),
        "model": model_name(reply.base, reply.model, reply.bits),
        "cached": reply.cached,
        **(
            {
                "skill": {
                    "name": use.name,
                    "state": use.state.value,
                    "arguments": list(use.arguments),
                    "data": dict(use.data),
                }
            }
            if use
            else {}
        ),
    }


@click.command()
@click.argument("name")
@click.option("--faq", type=click.Path(path_type=Path), required=True, help="Your FAQ file.")
def init(name: str, faq: Path) -> None:
    """Write NAME/bot.toml for a FAQ file."""
    from .config import write_config
    from .ingest import read_faq

    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise FeatherdeskError(f"{name!r} cannot be a folder name; use letters, digits and dashes")
    entries = read_faq(faq)
    folder = Path(name)
    target = folder / "bot.toml"
    if target.exists():
        raise FeatherdeskError(f"{target} exists already; edit it, or choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(*[".."] * len(folder.parts), faq) if not faq.is_absolute() else faq
    write_config(target, name, path.as_posix())
    click.echo(f"{target} ({len(entries)} entries). Next: featherdesk build {target}")


@click.command()
@click.argument("faq", type=click.Path(path_type=Path))
@_JSON
def check(faq: Path, *, as_json: bool) -> None:
    """Entries, duplicates, conflicts, empty answers, with line numbers."""
    from .check import check_file

    report = check_file(faq, date.today())
    if as_json:
        _print_json(report.to_json())
    else:
        for finding in report.findings:
            click.echo(f"{finding.level:7} {', '.join(finding.sources)}: {finding.message}")
        click.echo(f"{report.entries} entries, {len(report.findings)} findings")
    if any(finding.level == "error" for finding in report.findings):
        sys.exit(1)


@click.command()
@click.argument("config", metavar="BOT.toml", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The bot folder [bot/ beside it].")
@click.option("--from", "start", metavar="STEP", help="finetune, generator, index or evaluate.")
@click.option("--quick", is_flag=True, help="Skip the self-test.")
@click.option("--finetune", "train", is_flag=True, help="Train an adapter on this FAQ first.")
@_JSON
def build(
    config: Path, *, out: Path | None, start: str | None, quick: bool, train: bool, as_json: bool
) -> None:
    """Build a bot folder from a bot.toml."""
    from .build import build as run

    built = run(config, out=out, start=start, quick=quick, finetune=train, notify=_say)
    if as_json:
        _print_json(asdict(built))
        return
    click.echo(
        f"{built.folder}: {built.entries} entries ({', '.join(built.languages)}) in "
        f"{built.seconds:.0f} s. On its own wordings it keeps {built.kept:.0%} and refuses "
        f"{built.refused:.0%} of out-of-scope questions."
    )
    told = ", ".join(f"{share:.0%} at {risk}" for risk, share in built.coverage_at_risk.items())
    click.echo(f"Share of questions answered by risk (routing.risk): {told}.")
    click.echo(f"Next: featherdesk serve {built.folder}")


@click.command()
@_BOT
@click.argument("question")
@_JSON
def ask(bot: Path, question: str, *, as_json: bool) -> None:
    """One reply."""
    from .engine import Agent

    reply = Agent.load(bot).reply(question)
    if as_json:
        _print_json(reply_json(reply))
        return
    click.echo(reply.text)
    for citation in reply.citations:
        click.echo(f"  source: {citation.question} [{citation.entry_id}] {citation.url}".rstrip())


@click.command()
@_BOT
@click.argument("question")
@_JSON
def explain(bot: Path, question: str, *, as_json: bool) -> None:
    """The receipt of a reply: why it came out as it did."""
    from .engine import Agent

    reply = Agent.load(bot).reply(question)
    receipt = Receipt.of(reply)
    if as_json:
        _print_json({**receipt.to_json(), "text": reply.text, "raw_text": reply.raw_text})
        return
    click.echo(receipt.to_text())
    if reply.unsupported:
        click.echo(f"The model wrote: {reply.raw_text}")
    click.echo(f"\n{reply.text}")


def read_questions(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a JSONL file with a `question`, with their line numbers.

    Raises:
        InputError: the file is missing, empty, or a line is not such an object.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(path, "no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read as UTF-8 text: {error}") from None
    rows = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise InputError(path, "the file is empty; write one JSON object a line")
    for number, line in rows:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(path, f"not JSON ({error}); write one object a line", number) from None
        if not isinstance(row, dict) or not isinstance(row.get("question"), str):
            raise InputError(path, 'needs an object with a "question" text', number)
        history_of(path, number, row)
        yield number, row


def history_of(path: Path, number: int, row: dict[str, Any]) -> list[Turn]:
    """The turns of a row's `history`."""
    turns = []
    told = row.get("history") or []
    for turn in told if isinstance(told, list) else [told]:
        role = turn.get("role") if isinstance(turn, dict) else None
        if role not in {"user", "assistant"} or not isinstance(turn.get("content"), str):
            raise InputError(
                path, 'history must be [{"role": "user"|"assistant", "content": ...}]', number
            )
        turns.append(Turn(role, turn["content"]))
    return turns


@click.command()
@_BOT
@click.argument("source", metavar="IN.jsonl", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT.jsonl", type=click.Path(path_type=Path))
@click.option("--route-only", is_flag=True, help="Generate nothing.")
def batch(bot: Path, source: Path, target: Path, *, route_only: bool) -> None:
    """Answer a file of questions, in order."""
    from .engine import Agent
    from .progress import track

    rows = list(read_questions(source))
    agent = Agent.load(bot, generate=not route_only)
    partial = target.with_name(f".{target.name}.part")
    try:
        with partial.open("w", encoding="utf-8") as file:
            for number, row in track(rows, "answering"):
                history = history_of(source, number, row)
                reply = (agent.route if route_only else agent.reply)(row["question"], history)
                told = reply_json(reply, str(row.get("id", number)))
                file.write(json.dumps(told, ensure_ascii=False) + "\n")
        partial.replace(target)
    except OSError as error:
        raise FeatherdeskError(f"{target} cannot be written: {error.strerror}") from None


@click.command()
@_BOT
def chat(bot: Path) -> None:
    """Chat in the terminal."""
    from .conversations import Store, new_key
    from .engine import Agent
    from .handoff import taken

    agent = Agent.load(bot)
    storage = agent.config.storage
    store = Store.beside(bot, storage.url, storage.redact_names)
    key = new_key()
    _say("Type a question; an empty line ends the chat.")
    for question in _typed():
        shown, reply = "", None
        for event in agent.stream(question, store.turns(key)):
            click.echo(event.delta, nl=False)
            shown += event.delta
            reply = event.reply or reply
        assert reply is not None
        reply = taken(store, key, reply, agent.config.handoff)
        if reply.text != shown:
            click.echo(("\n" if shown else "") + reply.text, nl=False)
        click.echo("".join(f"\n  [{c.entry_id}]" for c in reply.citations))
        store.add(key, question, reply)
    store.close()


def _typed() -> Iterator[str]:
    """Lines typed until an empty one."""
    while True:
        try:
            question = input("> ").strip()
        except EOFError:
            return
        if not question:
            return
        yield question


@click.command()
@_BOT
@click.argument("number", required=False)
@_JSON
@click.option("--csv", "as_csv", is_flag=True, help="FAQ rows to fill in, that `build` reads.")
@click.option("--resend", is_flag=True, help="Send again what was given up.")
def inbox(bot: Path, *, number: str | None, as_json: bool, as_csv: bool, resend: bool) -> None:
    """Hand-offs, thumbs down, unanswered questions and those answered by a choice; with NUMBER,
    one hand-off's summary.

    The rows of --csv go into a file that bot.faq names after the FAQ: a choice is a new wording of
    its entry as it stands, the others wait for an answer.
    """
    from .artifacts import Manifest
    from .config import load_config
    from .conversations import Store
    from .handoff import summarize

    name = Manifest.load(bot).name
    store = Store.beside(bot, load_config(bot / "bot.toml").storage.url)
    if resend:
        click.echo(f"{store.outbox.resend()} to be sent again by `featherdesk serve`")
        return
    if number is not None:
        summary = summarize(store, number, name)
        if summary is None:
            raise FeatherdeskError(f"there is no hand-off {number}; `featherdesk inbox` lists them")
        if as_json:
            _print_json(summary.to_json())
        else:
            click.echo(summary.to_text(), nl=False)
        return
    items = store.inbox()
    if as_json:
        _print_json([_item_json(store, item, name) for item in items])
    elif as_csv:
        _write_csv(items)
    else:
        for item in items:
            click.echo(_inbox_line(item))
        click.echo(f"{len(items)} to look at")


def _item_json(store: "Store", item: "InboxItem", bot: str) -> dict[str, Any]:
    from .handoff import summarize

    summary = summarize(store, item.number, bot) if item.kind == "handoff" else None
    return {**asdict(item), "summary": None if summary is None else summary.to_json()}


def _write_csv(items: Sequence["InboxItem"]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(["id", "question", "answer", "kind", "entry_id", "note", "at"])
    for item in items:
        known = item.entry_id if item.kind == "choice" else ""
        told = [item.answer, item.kind, item.entry_id, item.note, item.at]
        writer.writerow([known, item.question, *told])


def _inbox_line(item: "InboxItem") -> str:
    notes = [note for note in (item.note, item.contact, item.delivery) if note]
    told = f"  ({'; '.join(' '.join(note.split()) for note in notes)})" if notes else ""
    return f"{item.at[:16]}  {item.kind:11} {item.number:8} {item.question}{told}"


@click.command()
@_BOT
@click.argument("test", metavar="TEST.jsonl", type=click.Path(path_type=Path))
@click.option("--device", type=_DEVICE, default="cpu", show_default=True)
@click.option("--against", type=_DEVICE, help="Compare the replies with those of this device.")
@_JSON
def evaluate(bot: Path, test: Path, *, device: str, against: str | None, as_json: bool) -> None:
    """Score a bot on a test file; with --against, say whether another device answers the same."""
    from .evaluate import evaluate_bot, table

    result = evaluate_bot(bot, test, device, against)
    if as_json:
        _print_json(result)
    else:
        click.echo(table(result))
