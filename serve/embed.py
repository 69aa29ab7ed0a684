"""The script tag: /embed.js puts a button on another page that opens the chat page in a frame.

Which sites may frame it stands in bot.toml; the browser holds them to it by the headers of
`security`. Knows nothing of what the page shows.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from .live import LiveBot

__all__ = ["embed_script"]

_PLACE = '/*BOT*/ { title: "Chat", origins: [] }'
_SECONDS = 300


def embed_script(bot: LiveBot) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of /embed.js: the script with this bot's title and its allowed origins."""
    template = (files(__package__) / "embed.js").read_text(encoding="utf-8")

    async def script(request: Request) -> Response:
        agent = bot.agent
        page = agent.config.page
        told = {"title": page.title or agent.manifest.name, "origins": page.embed_origins}
        body = template.replace(_PLACE, json.dumps(told)).encode()
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {
            "Cache-Control": f"public, max-age={_SECONDS}",
            "ETag": tag,
            "Cross-Origin-Resource-Policy": "cross-origin",
        }
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="text/javascript", headers=headers)

    return script
