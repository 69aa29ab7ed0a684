"""The commands that list what there is: models and plugins."""

import json
from dataclasses import asdict

import click

__all__ = ["models", "plugins"]

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _say(text: str) -> None:
    click.echo(text, err=True)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=1))


@click.group()
def models() -> None:
    """The catalogue of base models and encoders."""


@models.command("list")
@_JSON
def list_models(*, as_json: bool) -> None:
    """Every known model, and whether it is here."""
    from .catalog import catalog

    rows = [
        {
            "id": m.id,
            "kind": m.kind,
            "licence": m.licence,
            "fetched": m.fetched,
            "mb": round(sum(f.bytes for f in m.files) / 1e6),
            "about": m.about,
        }
        for m in catalog().values()
    ]
    if as_json:
        _print_json(rows)
        return
    for row in rows:
        click.echo(
            f"{'*' if row['fetched'] else ' '} {row['id']:28} {row['licence']:11} {row['about']}"
        )


@models.command("fetch")
@click.argument("identity", metavar="ID")
def fetch_model(identity: str) -> None:
    """Fetch a model into the cache and verify it."""
    from .catalog import fetch

    click.echo(str(fetch(identity, _say)))


@click.group()
def plugins() -> None:
    """Registered plugins."""


@plugins.command("list")
@_JSON
def list_plugins(*, as_json: bool) -> None:
    """Every plugin with its owner, version and permissions."""
    from .plugins import plugins as found
    from .skillset import GROUP, permissions

    rows = [
        {
            **asdict(plugin),
            "kind": plugin.kind,
            "permissions": permissions(plugin.name) if plugin.group == GROUP else "-",
        }
        for plugin in found()
    ]
    if as_json:
        _print_json(rows)
        return
    for row in rows:
        click.echo(
            f"{row['kind']:9} {row['name']:14} {row['owner']:14} {row['version']:9} "
            f"{row['permissions']}"
        )
