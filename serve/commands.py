"""`featherdesk serve`, the API first, the page right after it; and `featherdesk mcp`."""

import logging
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from ..agent.artifacts import Manifest
from ..agent.errors import FeatherdeskError, MissingExtraError

__all__ = ["mcp", "run", "serve"]

_LOCAL = {"127.0.0.1", "localhost", "::1"}


@click.command()
@click.argument("bot", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--accept-refused", is_flag=True, help="Serve an artefact that the gate refused.")
@click.option("--no-page", is_flag=True, help="The API only.")
def serve(
    bot: Path, *, host: str, port: int, device: str, accept_refused: bool, no_page: bool
) -> None:
    """Serve a bot: chat page and OpenAI-style API.

    FEATHERDESK_API_KEY, when set, is asked for by the API.
    """
    run(bot, host=host, port=port, device=device, accept_refused=accept_refused, page=not no_page)


def run(
    bot: Path,
    *,
    host: str,
    port: int,
    device: str = "cpu",
    accept_refused: bool = False,
    page: bool = True,
) -> None:
    """Serve until interrupted.

    Raises:
        FeatherdeskError: the bot cannot be loaded, was refused, or the port is in use.
    """
    from .live import LiveBot, check_gate

    if not accept_refused:  # before anything is loaded
        check_gate(bot, Manifest.load(bot))
    listener = _listener(host, port)
    key = _key(host)
    _log_to_stderr()
    with ThreadPoolExecutor(1, "loading") as pool:
        loading = pool.submit(LiveBot, bot, device, accept_refused=accept_refused)
        try:
            import uvicorn

            from .api import create_app
        except ModuleNotFoundError as error:
            raise MissingExtraError(error.name or "fastapi", "serve") from None
        live = loading.result()
    app = create_app(live, page=_page if page else None, key=key, warm=live.warm)
    click.echo(
        f"Featherdesk answers at {_address(host, listener)}"
        + ("  (chat page in a few seconds)" if page else "")
    )
    sys.stdout.flush()
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
    uvicorn.Server(config).run(sockets=[listener])


@click.command()
@click.argument("bot", type=click.Path(path_type=Path))
@click.option("--http", "over_http", is_flag=True, help="Streamable HTTP at /mcp [stdio].")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=7861, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--accept-refused", is_flag=True, help="Serve an artefact that the gate refused.")
def mcp(
    bot: Path, *, over_http: bool, host: str, port: int, device: str, accept_refused: bool
) -> None:
    """Serve a bot as tools for other agents (MCP), over stdio or HTTP.

    FEATHERDESK_API_KEY, when set, is asked for over HTTP.
    """
    try:
        import uvicorn

        from .mcp_server import create_http_app, create_server
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "mcp", "mcp") from None
    from .live import LiveBot, check_gate

    if not accept_refused:  # before anything is loaded
        check_gate(bot, Manifest.load(bot))
    listener = _listener(host, port) if over_http else None
    key = _key(host) if over_http else ""
    _log_to_stderr()
    live = LiveBot(bot, device, accept_refused=accept_refused)
    try:
        server = create_server(live)
        if listener is None:
            server.run("stdio")
            return
        click.echo(f"Featherdesk answers at {_address(host, listener)}/mcp")
        sys.stdout.flush()
        app = create_http_app(server, host, key)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        live.store.close()


def _key(host: str) -> str:
    """The key that is asked for; a warning where the network gets in without one."""
    key = os.environ.get("FEATHERDESK_API_KEY", "")
    if host not in _LOCAL and not key:
        click.echo("warning: open to the network without a key; set FEATHERDESK_API_KEY", err=True)
    return key


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    for noisy in ("httpx", "mcp", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _address(host: str, listener: socket.socket) -> str:
    return f"http://{'localhost' if host in _LOCAL else host}:{listener.getsockname()[1]}"


def _page(bot: "LiveBot") -> "FastAPI":  # type: ignore[name-defined] # noqa: F821
    from .chat import create_page

    return create_page(bot)


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # where the protocol is not told asyncio leaves Nagle's algorithm on: words would wait until the
    # client acknowledges those before (40 ms on Linux)
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise FeatherdeskError(
            f"port {port} on {host} cannot be used ({error.strerror}); choose another with --port"
        ) from None
    return listener
