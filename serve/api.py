"""The HTTP API: OpenAI-style chat completions, health and readiness; the page mounts after it."""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from ..agent.commands import reply_json
from ..agent.conversations import new_key
from ..agent.engine import MAX_QUESTION
from ..agent.errors import BusyError, FeatherdeskError
from ..agent.handoff import taken
from ..agent.types import HandoffReason, Reply, StreamEvent, Turn
from .delivery import Courier
from .embed import embed_script
from .live import LiveBot
from .metrics import Metrics
from .presence import ClientGoneError, while_there
from .security import BodyLimit, SecurityHeaders, error_json, key_accepted

__all__ = ["create_app"]

log = logging.getLogger(__name__)
Page = Callable[[LiveBot], FastAPI]
_SPARE = 8
_GONE = 499  # nginx's word for a client that closed its request; nobody reads it


class ChatMessage(BaseModel):
    """One message of an OpenAI-style request; `system` messages are accepted and ignored."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "user", "assistant", "developer"]
    content: str = Field(max_length=100_000)


class StreamOptions(BaseModel):
    """Whether a stream ends with a chunk that counts tokens."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class ChatRequest(BaseModel):
    """What is read of an OpenAI-style request; sampling settings are accepted and ignored."""

    model_config = ConfigDict(extra="ignore")
    messages: list[ChatMessage] = Field(min_length=1, max_length=200)
    model: str = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str = ""


def create_app(
    bot: LiveBot,
    *,
    page: Page | None = None,
    key: str = "",
    warm: Callable[[], None] = lambda: None,
) -> FastAPI:
    """The ASGI app. `page` makes the chat page, mounted at / once it is ready; `warm` is called
    before, once questions are answered."""
    ready = asyncio.Event()
    courier = Courier(bot.store, bot.agent.manifest.name, lambda: bot.agent.config.handoff)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        told = bot.agent.config.generation
        # One thread for each question that is answered or waits, and some that need no model.
        threads = ThreadPoolExecutor(told.batch + told.queue + _SPARE, "question")
        asyncio.get_running_loop().set_default_executor(threads)
        async with AsyncExitStack() as stack:
            mounting = asyncio.create_task(_mount(app, bot, page, stack, ready, warm))
            mounting.add_done_callback(_told)
            courier.start()
            yield
            if not mounting.done():
                mounting.cancel()
        await asyncio.to_thread(courier.stop)
        bot.store.close()

    app = FastAPI(title="Featherdesk", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit)
    app.add_middleware(SecurityHeaders, framed_by=lambda: bot.agent.config.page.embed_origins)
    _errors(app)
    _health(app, bot, ready if page else None)
    _completions(app, bot, key)
    app.add_route("/embed.js", embed_script(bot))
    return app


def _told(mounting: "asyncio.Task[None]") -> None:
    if not mounting.cancelled() and (error := mounting.exception()) is not None:
        log.error("the chat page is not there: %s", error, exc_info=error)


async def _mount(
    app: FastAPI,
    bot: LiveBot,
    page: Page | None,
    stack: AsyncExitStack,
    ready: asyncio.Event,
    warm: Callable[[], None],
) -> None:
    """Import and build the page off the event loop, then hang it at the root."""
    await asyncio.to_thread(warm)
    if page is None:
        return
    shell = await asyncio.to_thread(page, bot)
    await stack.enter_async_context(shell.router.lifespan_context(shell))
    app.mount("/", shell)
    ready.set()


def _errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return error_json(400, f"{where or 'body'}: {first['msg']}")

    @app.exception_handler(BusyError)
    async def busy(_: Request, error: BusyError) -> JSONResponse:
        answer = error_json(503, str(error), "server_busy")
        answer.headers["Retry-After"] = str(error.retry_after)
        return answer

    @app.exception_handler(ClientGoneError)
    async def gone(_: Request, __: ClientGoneError) -> Response:
        return Response(status_code=_GONE)

    @app.exception_handler(FeatherdeskError)
    async def failed(_: Request, error: FeatherdeskError) -> JSONResponse:
        return error_json(500, str(error), "server_error")


def _health(app: FastAPI, bot: LiveBot, page: asyncio.Event | None) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, object]:
        """Questions are answered; `page` tells whether the chat page is there too."""
        return {
            "status": "ready",
            "bot": bot.agent.manifest.name,
            "page": page is not None and page.is_set(),
        }

    @app.get("/v1/models")
    async def models() -> dict[str, object]:
        """The one model this server answers with."""
        manifest = bot.agent.manifest
        return {
            "object": "list",
            "data": [
                {"id": manifest.name, "object": "model", "owned_by": "featherdesk", "created": 0}
            ],
        }


def _completions(app: FastAPI, bot: LiveBot, key: str) -> None:
    metrics = Metrics(bot)

    @app.get("/metrics")
    async def scrape() -> Response:
        """Counters for Prometheus."""
        return PlainTextResponse(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post("/v1/chat/completions", response_model=None)
    async def completions(
        request: ChatRequest,
        client: Request,
        authorization: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Answer the last user message; with `stream`, as server-sent events."""
        if not key_accepted(authorization, key):
            return error_json(401, "the key is missing or wrong", "authentication_error")
        turns = [
            Turn("assistant" if m.role == "assistant" else "user", m.content)
            for m in request.messages
            if m.role in {"user", "assistant"}
        ]
        if not turns or turns[-1].role != "user" or not turns[-1].content.strip():
            return error_json(400, "messages: the last message must be a user's, and not empty")
        question = turns[-1].content
        if len(question) > MAX_QUESTION:
            return error_json(400, f"the question is over {MAX_QUESTION} characters; shorten it")
        agent = bot.agent.asked_by(request.user)
        if request.stream:
            counted = request.stream_options is not None and request.stream_options.include_usage
            events = agent.astream(question, turns[:-1])
            first = await while_there(client, anext(events))  # a full queue is told by the status
            chunks = _sse(bot, question, turns[:-1], metrics, counted, first, events)
            return StreamingResponse(chunks, media_type="text/event-stream")
        reply = await while_there(client, agent.areply(question, turns[:-1]))
        reply = await asyncio.to_thread(_finished, bot, question, turns[:-1], reply, metrics)
        return JSONResponse(_whole(bot, reply))


def _finished(
    bot: LiveBot, question: str, history: list[Turn], reply: Reply, metrics: Metrics
) -> Reply:
    """Store the turn; the reply to a wish for a person comes back with the request's number.

    The client holds the conversation: it is stored only when staff are to read it.
    """
    metrics.saw(reply)
    key = f"api-{new_key()}"[:64]
    wanted = reply.handoff
    if wanted and wanted.reason is HandoffReason.REQUESTED and wanted.number is None:
        bot.store.remember(key, history)
        reply = taken(bot.store, key, reply, bot.agent.config.handoff)
    bot.store.add(key, question, reply)
    return reply


def _whole(bot: LiveBot, reply: Reply) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": bot.agent.manifest.name,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": reply.text},
            }
        ],
        "usage": _usage(reply),
        "featherdesk": reply_json(reply),
    }


def _usage(reply: Reply) -> dict[str, int]:
    """What the model read and wrote; nothing where the reply needed no model."""
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.tokens,
        "total_tokens": reply.prompt_tokens + reply.tokens,
    }


async def _sse(
    bot: LiveBot,
    question: str,
    history: list[Turn],
    metrics: Metrics,
    counted: bool,
    first: StreamEvent,
    rest: AsyncGenerator[StreamEvent, None],
) -> AsyncIterator[str]:
    """Chunks in OpenAI's format; a rejected reply ends with one chunk of the curated text."""
    identity, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())

    def chunk(delta: dict[str, str], finish: str | None = None, **extra: object) -> str:
        told = {
            "id": identity,
            "object": "chat.completion.chunk",
            "created": created,
            "model": bot.agent.manifest.name,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            **extra,
        }
        return f"data: {json.dumps(told, ensure_ascii=False)}\n\n"

    try:
        yield chunk({"role": "assistant"})
        shown = ""
        async with aclosing(rest):
            async for event in _joined(first, rest):
                if event.delta:
                    shown += event.delta
                    yield chunk({"content": event.delta})
                if event.reply is not None:
                    reply = await asyncio.to_thread(
                        _finished, bot, question, history, event.reply, metrics
                    )
                    for last in _last(reply, shown, chunk):
                        yield last
                    if counted:
                        yield chunk({}, choices=[], usage=_usage(reply))
        yield "data: [DONE]\n\n"
    except FeatherdeskError as error:
        yield f"data: {json.dumps({'error': {'message': str(error), 'type': 'server_error'}})}\n\n"


async def _joined(
    first: StreamEvent, rest: AsyncGenerator[StreamEvent, None]
) -> AsyncIterator[StreamEvent]:
    yield first
    async for event in rest:
        yield event


def _last(reply: Reply, shown: str, chunk: Callable[..., str]) -> Iterator[str]:
    text = reply.text
    replaces = text.strip() != shown.strip()
    if replaces:
        yield chunk({"content": ("\n\n" if shown else "") + text})
    receipt = {**reply_json(reply), "replaces": replaces and bool(shown)}
    yield chunk({}, "stop", featherdesk=receipt)
