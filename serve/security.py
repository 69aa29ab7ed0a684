"""Keys, body limits and security headers of the HTTP server."""

import hmac
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["MAX_BODY", "BodyLimit", "KeyRequired", "SecurityHeaders", "error_json", "key_accepted"]

MAX_BODY = 256 * 1024
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'self'{origins}; "
    "base-uri 'self'; form-action 'self'"
)


def error_json(status: int, message: str, kind: str = "invalid_request_error") -> JSONResponse:
    """An error in the shape of the OpenAI API."""
    return JSONResponse({"error": {"message": message, "type": kind}}, status_code=status)


def key_accepted(header: str | None, key: str) -> bool:
    """Whether an Authorization header carries the key; always when no key is set."""
    given = (header or "").removeprefix("Bearer ").encode()
    return not key or hmac.compare_digest(given, key.encode())


class SecurityHeaders:
    """Adds the security headers to every response; `framed_by` names other origins that may frame.

    X-Frame-Options cannot name an origin, so it is sent only where there is none.
    """

    def __init__(self, app: ASGIApp, framed_by: Callable[[], Sequence[str]] = tuple) -> None:
        self._app, self._framed_by = app, framed_by

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in (_HEADERS | _framing(self._framed_by())).items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


def _framing(origins: Sequence[str]) -> dict[str, str]:
    policy = _POLICY.format(origins="".join(f" {origin}" for origin in origins))
    headers = {"Content-Security-Policy": policy}
    return headers if origins else headers | {"X-Frame-Options": "SAMEORIGIN"}


class KeyRequired:
    """Answers 401 to every request that does not carry the key."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._key = app, key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = Headers(scope=scope).get("authorization")
            if not key_accepted(given, self._key):
                answer = error_json(401, "the key is missing or wrong", "authentication_error")
                answer.headers["WWW-Authenticate"] = "Bearer"
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Answers 413 when an API body is over `MAX_BODY` bytes, announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        body, more = b"", True
        while more and len(body) <= MAX_BODY:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            answer = error_json(413, f"the request is over {MAX_BODY} bytes; send less")
            await answer(scope, receive, send)
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)
