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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or route_path(scope) in _ALWAYS:
            await self._app(scope, receive, send)
            return
        try:
            caller = self._runtime.admission.request(address_of(scope))
        except LimitExceededError as error:
            response = _refusal(error).response
            self._responses[response.status_code] += 1
            await response(scope, receive, send)
            return
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            if not started:
                started = True
                self._responses[message["status"]] += 1
            await send(message)

        try:
            await self._app({**scope, _CALLER: caller}, receive, noted)
        except LimitExceededError as error:
            # Only once it was known for whom it is asked.
            if started:
                raise
            await _refusal(error).response(scope, receive, noted)
        finally:
            caller.leave()


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
