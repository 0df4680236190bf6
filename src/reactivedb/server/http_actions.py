"""How do HTTP requests reach the application's own handlers?

Below `/http` on the main port, which the handler does not see, and at the root of the site port (section c.6
of the protocol). Bodies are streamed both ways; nothing is added to a response, CORS is the handler's own.
A token in `Authorization` makes the caller known; one that is not accepted makes it nobody, for a handler may
have rules of its own for that header. A handler is cancelled when its client leaves or when it takes too long
to begin its answer. Paths that lead out of a folder reach no handler: whoever means well does not send them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import quote, unquote

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from ..app import Runtime
from ..errors import AuthenticationError, ReactiveDBError, RequestError, StorageError
from ..functions import (
    ANONYMOUS,
    ActionCtx,
    CallError,
    HttpRoute,
    Identity,
    ThreadRun,
    code_of,
    in_own_task,
)
from ..limits import ERROR_TEXT_LENGTH_MAX
from ..storage import CLOSED_FOR_GOOD
from ..text import cut
from ..user_code import contained_in_task, is_of, name_of, text_of
from ..values import dumps
from .admin import AdminKey, identity_from
from .edge import route_path
from .gate import identify
from .http_streams import Reply, RequestBody
from .replies import Refusal, json_response, outcome_unknown, printable

PREFIX: Final = "/http"
_PREFIX: Final = re.compile(r"/http(?=/|$)")
_RAW_PREFIX: Final = re.compile(rb"/+http(?:/*(/.*))?", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SEPARATORS: Final = re.compile(r"[/\\]")
_DOTS: Final = frozenset({".", ".."})


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
        below = path.removeprefix(PREFIX) or "/"
        inner = {**scope, "path": below, "raw_path": _raw_below(scope, below), "root_path": ""}
        await self._actions(inner, receive, send)


def _raw_below(scope: Scope, path: str) -> bytes:
    """What the client wrote for `path`; where `/http` itself is written with escapes, what it could have."""
    root: str = scope.get("root_path", "")
    found = _RAW_PREFIX.fullmatch((scope.get("raw_path") or b"").removeprefix(root.encode()))
    return quote(path).encode() if found is None else found[1] or b"/"


class HttpActions:
    """All HTTP actions of one running database, whichever version of the application it runs."""

    def __init__(self, runtime: Runtime, admin_key: AdminKey | None) -> None:
        self._runtime = runtime
        self._admin_key = admin_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        if scope["path"].startswith("//"):
            # From a site URL with a slash at its end.
            raw: bytes = scope.get("raw_path") or b""
            scope = {**scope, "path": f"/{scope['path'].lstrip('/')}", "raw_path": b"/" + raw.lstrip(b"/")}
        path: str = scope["path"]
        if _leads_astray(path):
            await _bad_path(path).response(scope, receive, send)
            return
        router = self._runtime.app.http
        route = None if router is None else router.find(scope["method"], path)
        if route is not None:
            await self._answer(route, scope, receive, send)
            return
        text = "This deployment has no HTTP actions."
        if router is not None:
            text = f"No HttpAction routed for {cut(path, ERROR_TEXT_LENGTH_MAX)}"
        await PlainTextResponse(printable(text), status_code=404)(scope, receive, send)

    async def _answer(self, route: HttpRoute, scope: Scope, receive: Receive, send: Send) -> None:
        body = RequestBody(scope, receive, self._runtime.limits)
        reply = Reply(send, without_body=scope["method"] == "HEAD")
        request = Request(scope, body.receive)
        identity = await self._identity(request)
        name = f"{route.method} {route.pattern}"

        async def respond(ctx: ActionCtx) -> None:
            async def handle() -> None:
                if not route.thread:
                    await _respond(route, ctx, request, reply.send)
                    return

                async def handle_there(ctx: ActionCtx, run: ThreadRun) -> None:
                    far = Request(scope, lambda: run.hop(body.receive))
                    await _respond(route, ctx, far, lambda message: run.hop(lambda: reply.send(message)))

                await self._runtime.actions.in_thread(name, identity, handle_there)

            await self._while_wanted(handle, body, reply, name)

        error, told = await self._runtime.actions.run_http(name, respond, identity=identity)
        if error is None:
            return
        if reply.started:
            # Only a connection that breaks off tells the client that the body is not whole. What was the
            # client's doing (it has left, it sent too much) needs no traceback in the log.
            if not is_of(error, Refusal):
                # Not the error itself: the server that logs it may not be able to write it out.
                raise ReactiveDBError(
                    f"`{name}` failed after it had begun to answer: {name_of(error)}: {text_of(error)}",
                    code="AnswerBrokeOff",
                )
            return
        if is_of(error, Refusal):
            await body.drain()
            response = error.response
        elif is_of(error, StorageError) and code_of(error) in CLOSED_FOR_GOOD:
            response = outcome_unknown(name).response
        else:
            response = _failure(error, told)
        await response(scope, receive, reply.send)

    async def _while_wanted(
        self, handle: Callable[[], Awaitable[None]], body: RequestBody, reply: Reply, name: str
    ) -> None:
        """Run the handler to its end, unless its client leaves or it does not begin to answer.

        Raises:
            Refusal: it was cancelled, 408 or 504.
        """
        limit_s = self._runtime.limits.http_action_s_max
        failure: BaseException | None = None
        left = False

        async with anyio.create_task_group() as tasks:
            scope = reply.handling = tasks.cancel_scope
            scope.deadline = anyio.current_time() + limit_s

            async def watch() -> None:
                nonlocal left
                await body.client_left()
                if not reply.ended:
                    left = True
                    scope.cancel()

            tasks.start_soon(watch)
            try:
                await in_own_task(handle())
            except BaseException as error:
                # Kept for outside of the task group, which would wrap it.
                failure = contained_in_task(error)
            scope.cancel()
        if failure is not None:
            raise failure
        if left:
            raise Refusal(
                HTTPStatus.REQUEST_TIMEOUT,
                "RequestCancelled",
                f"`{name}` was cancelled, for its client has left",
            )
        if not reply.started:
            raise Refusal(
                HTTPStatus.GATEWAY_TIMEOUT,
                "HttpActionTimeout",
                f"`{name}` had {limit_s:g} s (`http_action_s_max`) to begin its answer and did not - leave "
                "long work to a job: `ctx.scheduler.run_after(0, ...)`",
            )

    async def _identity(self, request: Request) -> Identity:
        header = request.headers.get("authorization")
        try:
            identity = await identity_from(header, self._admin_key, self._runtime.auth)
        except (Refusal, AuthenticationError):
            return ANONYMOUS
        identify(request.scope, identity)
        return identity


async def _respond(route: HttpRoute, ctx: ActionCtx, request: Request, send: Send) -> None:
    """Have a handler answer, and send all of the answer."""
    response = await route.handler(ctx, request)
    if not isinstance(response, Response):
        raise ReactiveDBError(
            f"the handler of `{route.method} {route.pattern}` returned `{type(response).__name__}` - "
            "return a Starlette `Response`",
            code="NotAResponse",
        )

    # That the client leaves is noticed for the whole handler, not once more for the response.
    async def never_leaves() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    try:
        await response(request.scope, never_leaves, send)
    finally:
        # Or what a stream has open would stay so until it is collected as garbage.
        stream = response.body_iterator if isinstance(response, StreamingResponse) else None
        if isinstance(stream, AsyncGenerator):
            await cast("AsyncGenerator[Any]", stream).aclose()


def _leads_astray(path: str) -> bool:
    """Would a careless handler leave its folder by it? Also if it decodes the path once more."""
    text = unquote(path)
    return _CONTROL.search(text) is not None or not _DOTS.isdisjoint(_SEPARATORS.split(text))


def _bad_path(path: str) -> Refusal:
    return Refusal(
        HTTPStatus.BAD_REQUEST,
        "InvalidPath",
        "expected a path without `.` and `..` as segments and without control characters, "
        f"got `{path[:200]!a}`",
    )


def _failure(error: BaseException, told: CallError) -> Response:
    code = code_of(error) if is_of(error, RequestError) else "InternalServerError"
    body: dict[str, Any] = {"code": code, "trace": printable(told.message)}
    text = dumps(body)
    if told.data is not None:
        text = b"".join([text[:-1], b',"data":', told.data, b"}"])
    return json_response(text, status=HTTPStatus.INTERNAL_SERVER_ERROR)
