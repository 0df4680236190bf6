"""How do a handler's request and response pass, and what keeps them in bounds?

A body is counted and timed as it is read (`bodies`); two may wait for the client, the handler for more of the
body and the server for the client's leaving. A response is looked at before it goes out, so that a header
with a line break in it is an error of the handler's and not a second response.
"""

from __future__ import annotations

import re
from typing import Final

import anyio
from starlette.types import Message, Receive, Scope, Send

from ..errors import ReactiveDBError
from ..limits import Limits
from .bodies import DRAIN_FACTOR_MAX, Pace, drain, too_large
from .gate import hold

_HEADER_NAME: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
# Visible text, with spaces and tabs inside of it only (RFC 9110, section 5.5).
_HEADER_VALUE: Final = re.compile(rb"|[\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")


class RequestBody:
    """A request's body, up to its limit. What the waiting for the client's leaving finds of it is held."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits) -> None:
        self._scope = scope
        self._receive = receive
        self._size_bytes_max = limits.http_body_size_bytes_max
        self._size_bytes = 0
        self._pace = Pace(self._next, limits)
        self._reading = anyio.Lock()
        self._held: Message | None = None
        self._taken = anyio.Event()
        self.ended = False

    async def receive(self) -> Message:
        """The next piece of the body. Raises: Refusal, 413, 408, or as `gate.hold` does."""
        message = await self._pace.receive()
        size_bytes = len(message.get("body", b""))
        self._size_bytes += size_bytes
        # Whether the handler keeps it is not known, so all of it counts.
        hold(self._scope, size_bytes)
        self.ended = not message.get("more_body", False)
        if self._size_bytes > self._size_bytes_max:
            raise too_large(self._size_bytes_max)
        return message

    async def _next(self) -> Message:
        if self._held is None:
            async with self._reading:
                # While this waited for its turn, a piece may have been found.
                if self._held is None:
                    return await self._receive()
        message, self._held = self._held, None
        self._taken.set()
        return message

    async def client_left(self) -> None:
        """Wait until the client has left, or has its answer."""
        while True:
            async with self._reading:
                if self._held is None or not self._held.get("more_body", False):
                    message = await self._receive()
                    if message["type"] != "http.request":
                        self._held = message
                        self._taken.set()
                        return
                    self._held = message
                    self._taken = anyio.Event()
            if self._held.get("more_body", False):
                await self._taken.wait()

    async def drain(self) -> None:
        """Read on for a while: a client that is still writing cannot read why it is refused."""
        if not self.ended:
            await drain(self._pace.receive, DRAIN_FACTOR_MAX * self._size_bytes_max)


class Reply:
    """What is sent back."""

    def __init__(self, send: Send, *, without_body: bool) -> None:
        self._send = send
        self._without_body = without_body
        # What runs the handler; a HEAD that has been answered ends it.
        self.handling: anyio.CancelScope | None = None
        self.started = False
        self.ended = False

    async def send(self, message: Message) -> None:
        """Raises: ReactiveDBError `InvalidResponse`, before anything was sent."""
        if self.ended:
            return
        more = message.get("more_body", False)
        if message["type"] == "http.response.start":
            _check_head(message)
            self.started = True
            if self.handling is not None:
                # It may take its time from now on, as long as somebody reads.
                self.handling.deadline = float("inf")
        elif self._without_body:
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        self.ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)
        if not more:
            return
        if self.ended and self.handling is not None:
            self.handling.cancel()
        # A stream that always has more must not keep the loop from noticing that its reader has left.
        await anyio.lowlevel.checkpoint()


def _check_head(message: Message) -> None:
    status: int = message["status"]
    if not 200 <= status <= 599:
        raise _invalid(f"a status from 200 to 599, got `{status}`")
    headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
    for name, value in headers:
        if not _HEADER_NAME.fullmatch(name):
            raise _invalid(f"a header's name to be a word, got `{name[:80]!a}`")
        if not _HEADER_VALUE.fullmatch(value):
            raise _invalid(f"the header `{name.decode()}` to be one line of text, got `{value[:80]!a}`")
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    if len(lengths) > 1 or not all(value.isdigit() for value in lengths):
        raise _invalid(f"one number as `content-length`, got {lengths!a}")
    if any(name.lower() == b"transfer-encoding" for name, _ in headers):
        raise _invalid("no `transfer-encoding`, which is the server's")


def _invalid(expected: str) -> ReactiveDBError:
    return ReactiveDBError(
        f"a handler's response cannot be sent: expected {expected} - check what goes into it",
        code="InvalidResponse",
    )
