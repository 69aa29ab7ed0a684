import asyncio
import socket
from pathlib import Path

import pytest
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.serve.commands import _listener
from featherdesk.serve.served import _environment, serving


def test_a_measured_server_keeps_nothing_and_takes_no_shortcut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATHERDESK_API_KEY", "s3cret")
    told = _environment(tmp_path, 2)
    assert "FEATHERDESK_API_KEY" not in told
    assert told["FEATHERDESK_STORAGE_URL"].startswith(f"sqlite:///{tmp_path}")
    assert told["FEATHERDESK_GENERATION_THREADS"] == "2"
    assert told["FEATHERDESK_GENERATION_CACHED"] == "0"
    assert "FEATHERDESK_GENERATION_THREADS" not in _environment(tmp_path, 0)


def test_a_server_that_ends_at_its_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(FeatherdeskError, match=r"ended at its start: .*is not a bot folder"),
        serving(tmp_path, "--no-page") as server,
    ):
        server.ready()
    assert server.process.poll() is not None


def test_words_do_not_wait_until_those_before_are_acknowledged() -> None:
    """asyncio switches Nagle's algorithm off only for sockets that say they are TCP."""

    async def accepted() -> int:
        found: asyncio.Queue[int] = asyncio.Queue()

        def met(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            own = writer.get_extra_info("socket")
            found.put_nowait(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = _listener("127.0.0.1", 0)
        port = listener.getsockname()[1]
        async with await asyncio.start_server(met, sock=listener):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            told = await asyncio.wait_for(found.get(), 30)
            writer.close()
        return told

    assert asyncio.run(accepted()) != 0
