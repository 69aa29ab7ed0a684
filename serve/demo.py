"""`featherdesk demo`: build the sample bot where it is missing, and serve it."""

import hashlib
import json
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from importlib.resources import as_file, files
from pathlib import Path

import click

from .. import __version__
from ..agent.artifacts import SCHEMA, Manifest, cache_root, sha256_of
from ..agent.build import build
from ..agent.catalog import find
from ..agent.config import load_config
from ..agent.encoder import ENGLISH
from ..agent.errors import ArtifactError
from ..agent.generators import adapter_folder, card, fingerprint
from ..agent.loopback import open_local
from ..agent.prompt import contract_hash
from ..agent.reranker import RERANKER

__all__ = ["demo"]


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option("--build-only", is_flag=True, help="Build the sample bot and stop.")
def demo(*, port: int, no_browser: bool, build_only: bool) -> None:
    """Serve the sample bot, an outdoor-gear shop; fetches and assembles what is missing."""
    from .commands import run

    bot = sample_bot()
    if build_only:
        click.echo(str(bot))
        return
    if not no_browser and port:
        threading.Thread(target=_open, args=(port,), daemon=True).start()
    run(bot, host="127.0.0.1", port=port)


def sample_bot() -> Path:
    """The built sample bot in the cache; rebuilt when the sample, a model or the prompt changed."""
    bot = cache_root() / "sample" / "bot"
    mark = bot.parent / "built_from"
    with as_file(files("featherdesk") / "models" / "sample") as sample:
        key = _key(Path(sample))
        try:
            Manifest.load(bot)
            if mark.exists() and mark.read_text(encoding="utf-8") == key:
                return bot
        except ArtifactError:
            pass
        began = time.monotonic()
        build(Path(sample) / "bot.toml", out=bot, quick=True, notify=_note)
        mark.write_text(key, encoding="utf-8")
        _note(f"the sample bot is ready after {time.monotonic() - began:.0f} s")
    return bot


def _key(sample: Path) -> str:
    """Names everything that the sample bot is made of."""
    config = load_config(sample / "bot.toml")
    read = [sample / "bot.toml", *(sample / name for name in config.bot.faq)]
    adapter = adapter_folder(config.generation.adapter)
    readers = [find(name) for name in (ENGLISH, RERANKER)]
    parts = [
        __version__,
        str(SCHEMA),
        contract_hash(),
        fingerprint(config.generation.base, adapter),
        *(fingerprint(model.base, adapter_folder(model.adapter)) for model in readers),
        json.dumps(card(adapter)) if adapter else "",
        *(sha256_of(path) for path in read),
    ]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _note(text: str) -> None:
    click.echo(text, err=True)


def _open(port: int) -> None:
    """Open the page once it answers."""
    address = f"http://127.0.0.1:{port}/"
    for _ in range(120):
        try:
            with open_local(f"{address}readyz", 2) as answer:
                if b'"page":true' in answer.read():
                    webbrowser.open(address)
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.5)
