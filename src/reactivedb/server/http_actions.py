"""How do HTTP requests reach the application's own handlers?

Below `/http` on the main port, which the handler does not see, and at the root of the site port (section c.6
of the protocol). Bodies are streamed both ways; nothing is added to a response, CORS is the handler's own.
A token in `Authorization` makes the caller known; one that is not accepted makes it nobody, for a handler may
have rules of its own for that header.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Any, Final, cast

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from ..app import Runtime
from ..errors import AuthenticationError, ReactiveDBError, RequestError
from ..functions import ANONYMOUS, ActionCtx, CallError, HttpRoute, Identity
from ..values import dumps
from .admin import AdminKey, identity_from
from .edge import route_path
from .replies import Refusal, error_response, json_response, printable

PREFIX: Final = "/http"
_PREFIX: Final = re.compile(r"/http(?=/|$)")
# How many times the limit a body may have and still be read to its end, to be refused politely.
_DRAIN_FACTOR_MAX: Final = 4


class BelowPrefix:
    """Sends what lies below `/http` to the HTTP actions and all else to the application."""

    def __init__(self, application: ASGIApp, actions: ASGIApp) -> None:
        self._application = application
        self._actions = actions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = route_path(scope) if scope["type"] == "http" else ""
        if not _PREFIX.match(path):
            await self._application(scope, receive, send)
            return
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        inner = {
            **scope,
            "path": path.removeprefix(PREFIX) or "/",
            "raw_path": raw.partition(PREFIX.encode())[2] or b"/",
            "root_path": "",
        }
        await self._actions(inner, receive, send)


class HttpActions:
    """All HTTP actions of one running database, whichever version of the application it runs."""

    def __init__(self, runtime: Runtime, admin_key: AdminKey | None) -> None:
        self._runtime = runtime
        self._admin_key = admin_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        router = self._runtime.app.http
        route = None if router is None else router.find(scope["method"], scope["path"])
        if route is not None:
            await self._answer(route, scope, receive, send)
            return
        text = "This deployment has no HTTP actions."
        if router is not None:
            text = f"No HttpAction routed for {scope['path']}"
        await PlainTextResponse(printable(text), status_code=404)(scope, receive, send)

    async def _answer(self, route: HttpRoute, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive, self._runtime.limits.http_body_size_bytes_max)
        reply = _Reply(send, without_body=scope["method"] == "HEAD")
        request = Request(scope, body.receive)
        identity = await self._identity(request)

        async def respond(ctx: ActionCtx) -> None:
            response = await route.handler(ctx, request)
            if not isinstance(response, Response):
                raise ReactiveDBError(
                    f"the handler of `{route.method} {route.pattern}` returned `{type(response).__name__}` - "
                    "return a Starlette `Response`",
                    code="NotAResponse",
                )
            try:
                await response(scope, body.receive_disconnect, reply.send)
            finally:
                # Or what a stream has open would stay so until it is collected as garbage.
                stream = response.body_iterator if isinstance(response, StreamingResponse) else None
                if isinstance(stream, AsyncGenerator):
                    await cast("AsyncGenerator[Any]", stream).aclose()

        error, told = await self._runtime.actions.run_http(
            f"{route.method} {route.pattern}", respond, identity=identity
        )
        if error is None:
            return
        if reply.started:
            # Only a connection that breaks off tells the client that the body is not whole.
            raise error
        if isinstance(error, Refusal):
            await body.drain()
            response = error_response(error.status, error.code, error.message)
        else:
            response = _failure(error, told)
        await response(scope, receive, reply.send)

    async def _identity(self, request: Request) -> Identity:
        header = request.headers.get("authorization")
        try:
            return await identity_from(header, self._admin_key, self._runtime.auth)
        except (Refusal, AuthenticationError):
            return ANONYMOUS


class _Body:
    """A request's body, up to its limit.

    Two may wait for the client: the handler for more of the body, and a streamed response for the client's
    leaving. What the second finds of the body is held for the first, one piece at a time.
    """

    def __init__(self, receive: Receive, size_bytes_max: int) -> None:
        self._receive = receive
        self._size_bytes_max = size_bytes_max
        self._size_bytes = 0
        self._ended = False
        self._reading = anyio.Lock()
        self._held: Message | None = None
        self._taken = anyio.Event()

    async def receive(self) -> Message:
        """The next piece of the body. Raises: Refusal, 413."""
        if self._held is None:
            async with self._reading:
                # While this waited for its turn, a piece may have been found.
                if self._held is None:
                    return self._counted(await self._receive())
        message, self._held = self._held, None
        self._taken.set()
        return self._counted(message)

    async def receive_disconnect(self) -> Message:
        """Wait until the client has left."""
        while True:
            async with self._reading:
                if self._held is None or not self._held.get("more_body", False):
                    message = await self._receive()
                    if message["type"] != "http.request":
                        return message
                    self._held = message
                    self._taken = anyio.Event()
            if self._held.get("more_body", False):
                await self._taken.wait()

    def _counted(self, message: Message) -> Message:
        self._size_bytes += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        if self._size_bytes > self._size_bytes_max:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "BodyTooLarge",
                f"expected at most {self._size_bytes_max} bytes of body",
            )
        return message

    async def drain(self) -> None:
        """Read on for a while: a client that is still writing cannot read why it is refused."""
        while not self._ended and self._size_bytes <= _DRAIN_FACTOR_MAX * self._size_bytes_max:
            message = await self._receive()
            self._size_bytes += len(message.get("body", b""))
            self._ended = message["type"] != "http.request" or not message.get("more_body", False)


class _Reply:
    """What is sent back."""

    def __init__(self, send: Send, *, without_body: bool) -> None:
        self._send = send
        self._without_body = without_body
        self.started = False

    async def send(self, message: Message) -> None:
        self.started = True
        if self._without_body and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)
        if message.get("more_body", False):
            # A stream that always has more must not keep the loop from noticing that its reader has left.
            await anyio.lowlevel.checkpoint()


def _failure(error: BaseException, told: CallError) -> Response:
    code = error.code if isinstance(error, RequestError) else "InternalServerError"
    body: dict[str, Any] = {"code": code, "trace": printable(told.message)}
    text = dumps(body)
    if told.data is not None:
        text = b"".join([text[:-1], b',"data":', told.data, b"}"])
    return json_response(text, status=HTTPStatus.INTERNAL_SERVER_ERROR)
