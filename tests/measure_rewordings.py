"""How much harder the gate's rewordings are than the questions they were made from, for the router.

    python tests/measure_rewordings.py BOT TEST.jsonl [TEST.jsonl ...] [--count 1500]

Routes every question of the files and so many rewordings of them, without a model, and prints a
table by kind: shares of the right entry first, and of refusals where nothing answers. Every wording
of a question counts in its kind; kinds without entries are those that lie out of scope.
"""

from collections.abc import Iterable
from pathlib import Path

import click
from featherdesk.agent.engine import Agent
from featherdesk.agent.evaluate import Case, load_cases
from featherdesk.agent.progress import track
from featherdesk.agent.router import Router
from featherdesk.agent.types import RouteKind
from featherdesk.compress.rewordings import reworded_cases

_ANSWERING = (RouteKind.ANSWER, RouteKind.VERBATIM, RouteKind.SKILL)


def right(router: Router, case: Case) -> bool:
    """Whether the right entry comes first; out of scope, whether nothing is answered."""
    route = router.route(case.question, case.history)
    if case.out_of_scope:
        return route.kind not in _ANSWERING
    return bool(route.matches) and route.matches[0].entry_id in case.entry_ids


def _counted(router: Router, cases: Iterable[Case]) -> dict[str, list[bool]]:
    told: dict[str, list[bool]] = {}
    for case in cases:
        found = right(router, case)
        rows = "out of scope, refused" if case.out_of_scope else "in scope, right entry first"
        kind = f"- {case.kind.replace('_', ' ') or 'no kind'}"
        for name in (rows, *([] if case.out_of_scope else [kind])):
            told.setdefault(name, []).append(found)
    return told


def _share(values: list[bool]) -> str:
    return f"{100 * sum(values) / len(values):.1f} % of {len(values)}" if values else ""


@click.command()
@click.argument("bot", type=click.Path(path_type=Path))
@click.argument("tests", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--count", default=1500, show_default=True, help="Rewordings.")
def main(bot: Path, tests: tuple[Path, ...], count: int) -> None:
    """Route the questions of the files, then their rewordings."""
    router = Agent.load(bot, generate=False).router
    known = [entry.id for entry in router.index.entries]
    cases = [case for test in tests for case in load_cases(test, known)]
    fresh = [case for case, _ in reworded_cases(cases, count, seed=0)]
    originals = _counted(router, track(cases, "originals"))
    others = _counted(router, track(fresh, "rewordings"))
    click.echo("| | originals | rewordings |\n|---|---|---|")
    for name in sorted(originals, key=lambda name: (name.startswith("- "), name)):
        click.echo(f"| {name} | {_share(originals[name])} | {_share(others.get(name, []))} |")


if __name__ == "__main__":
    main()
