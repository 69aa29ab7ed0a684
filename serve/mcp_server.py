"""The bot as an MCP server: `tools` as tools, its entries as resources, over stdio or HTTP.

Knows nothing of how answers are made.
"""

import inspect
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context, ResourceSecurity
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import ValidationError
from starlette.applications import Starlette

from .. import __version__
from ..agent.errors import FeatherdeskError
from .live import LiveBot
from .security import MAX_BODY, KeyRequired, SecurityHeaders
from .tools import Tools

__all__ = ["create_http_app", "create_server"]

_INSTRUCTIONS = (
    "Answers customers of {name} from its FAQ. Give the text of `ask` on word for word: what it "
    "claims stands in the FAQ. Where `handoff` is set the FAQ has no sure answer: offer a person, "
    "and call `hand_off` if the customer wants one."
)


def create_server(bot: LiveBot) -> MCPServer[Any]:
    """The MCP server of a bot, for any transport."""
    agent = bot.agent
    title = agent.config.page.title or agent.manifest.name
    server = _Server(
        agent.manifest.name,
        title=title,
        version=__version__,
        instructions=_INSTRUCTIONS.format(name=title),
    )
    tools = Tools(bot)
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    records = ToolAnnotations(destructive_hint=False, idempotent_hint=True, open_world_hint=False)
    for use, name, annotations in (
        (tools.ask, "Ask the FAQ", reads),
        (tools.search, "Search the FAQ", reads),
        (tools.hand_off, "Ask for a person", records),
    ):
        server.add_tool(use, title=name, description=inspect.getdoc(use), annotations=annotations)
    server.resource("faq://entries", title="All entries", mime_type="application/json")(
        tools.entries
    )
    server.resource(
        "faq://entries/{entry_id}",
        title="One entry",
        mime_type="application/json",
        security=ResourceSecurity(exempt_params={"entry_id"}),
    )(tools.entry)
    return server


def create_http_app(server: MCPServer[Any], host: str, key: str) -> Starlette:
    """Streamable HTTP at /mcp; a key, when there is one, is asked for."""
    app = server.streamable_http_app(host=host, max_request_body_size=MAX_BODY)
    app.add_middleware(KeyRequired, key=key)
    app.add_middleware(SecurityHeaders)
    return app


class _Server(MCPServer[Any]):
    """Says in our words what a caller did wrong."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, FeatherdeskError):
                raise ToolError(str(error.__cause__)) from None
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(_invalid(error.__cause__)) from None
            raise


def _invalid(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
