"""How many HTTP requests are let in at a time?

Each is counted with its address, from its head to the end of its answer. Over a bound it is refused at once,
with 429 if it is its address that asks for too much and 503 if the server does. What operators ask to see how
the server is doing is always let in.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..app import Caller, Runtime
from ..errors import LimitExceededError
from ..functions import Identity
from .answers import Answer
from .edge import route_path
from .replies import RETRY_AFTER_S, Refusal

_ALWAYS: Final = frozenset(("/healthz", "/readyz", "/metrics", "/version"))
_CALLER: Final = "reactivedb.caller"


class Gate:
    """Middleware around all of an application."""

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime
        self._responses = runtime.report.meters.responses
        self._size_bytes_max = runtime.limits.http_head_size_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _head_size_bytes(scope) > self._size_bytes_max:
            await self._refuse(_too_large_head(self._size_bytes_max), scope, receive, send)
            return
        if scope["type"] != "http" or route_path(scope) in _ALWAYS:
            await self._app(scope, receive, send)
            return
        try:
            caller = self._runtime.admission.request(address_of(scope))
        except LimitExceededError as error:
            await self._refuse(_refusal(error), scope, receive, send)
            return

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._responses[message["status"]] += 1
            await send(message)

        answer = Answer(caller, noted)
        is_refused = False

        async def answered(message: Message) -> None:
            # Not raised: the application has been told that its response has begun.
            nonlocal is_refused
            if is_refused:
                return
            try:
                await answer.send(message)
            except LimitExceededError as error:
                is_refused = True
                await _refusal(error).response(scope, receive, noted)

        try:
            await self._app({**scope, _CALLER: caller}, receive, answered)
        except LimitExceededError as error:
            # Only once it was known for whom it is asked.
            if answer.has_begun:
                raise
            await _refusal(error).response(scope, receive, noted)
        finally:
            caller.leave()

    async def _refuse(self, refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        self._responses[refusal.status] += 1
        await refusal.response(scope, receive, send)


def _head_size_bytes(scope: Scope) -> int:
    """The texts of a request's head, which a server may look at only while it is not whole.

    Without the caller's token: it has a bound and a refusal of its own.
    """
    size_bytes = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return size_bytes + sum(len(name) + len(value) for name, value in headers if name != b"authorization")


def _too_large_head(size_bytes_max: int) -> Refusal:
    return Refusal(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "HeadTooLarge",
        f"expected a request head of at most {size_bytes_max} bytes - send less in URL and headers",
    )


def identify(scope: Scope, identity: Identity) -> None:
    """It has turned out whose request this is.

    Raises:
        LimitExceededError: that user has too many under way.
    """
    caller: Caller | None = scope.get(_CALLER)
    if caller is not None:
        caller.identify(identity)


def caller_of(scope: Scope) -> Caller:
    """Whose shares this request draws on: it has come through the gate."""
    return scope[_CALLER]


def hold(scope: Scope, size_bytes: int) -> None:
    """So much more of this request's body is in memory, until it is answered.

    Raises:
        Refusal: 429 or 503, it would be too much for its caller or for the server.
    """
    caller: Caller | None = scope.get(_CALLER)
    if caller is not None and size_bytes:
        try:
            caller.take_bytes(size_bytes)
        except LimitExceededError as error:
            raise _refusal(error) from None


def _refusal(error: LimitExceededError) -> Refusal:
    is_servers = error.limit in ("requests_max", "held_size_bytes_max", "turn_s_max")
    status = HTTPStatus.SERVICE_UNAVAILABLE if is_servers else HTTPStatus.TOO_MANY_REQUESTS
    # The connection stays: closing it while the body still comes would take the answer with it.
    return Refusal(status, error.code, error.message, headers={"retry-after": str(RETRY_AFTER_S)})


def address_of(scope: Scope) -> str | None:
    """Who is at the other end, or, behind a trusted proxy, whom that one speaks for."""
    client: tuple[str, int] | None = scope.get("client")
    return client[0] if client else None
