"""How does a large response go out, and how is it counted while its client takes it?

uvicorn writes a whole body into the connection's buffer and is done, so a client that reads nothing would
hold what is not counted. Here a body goes out in pieces, each once the one before is taken; until then all of
it counts as its caller's. If too much is held before it, the request is refused instead.
"""

from __future__ import annotations

from typing import Final

from starlette.types import Message, Send

from ..app import Caller
from ..limits import KIB

# As much as uvicorn buffers before it waits.
_PIECE_BYTES: Final = 64 * KIB


class Answer:
    """One response."""

    def __init__(self, caller: Caller, send: Send) -> None:
        self._caller = caller
        self._send = send
        # The head of a large response, until its body shows whether there is room.
        self._head: Message | None = None
        self.has_begun = False

    async def send(self, message: Message) -> None:
        """Raises: LimitExceededError, before anything was sent."""
        if message["type"] == "http.response.start" and _announced(message) > _PIECE_BYTES:
            self._head = message
            return
        body: bytes = message.get("body", b"")
        if len(body) <= _PIECE_BYTES:
            await self._send_head()
            await self._pass_on(message)
            return
        if self._head is None:
            self._caller.hold_bytes(len(body))
        else:
            self._caller.hold_answer(len(body))
        try:
            await self._send_head()
            for start in range(0, len(body), _PIECE_BYTES):
                end = start + _PIECE_BYTES
                more = end < len(body) or message.get("more_body", False)
                await self._pass_on({**message, "body": body[start:end], "more_body": more})
        finally:
            self._caller.hold_bytes(-len(body))

    async def _send_head(self) -> None:
        head, self._head = self._head, None
        if head is not None:
            await self._pass_on(head)

    async def _pass_on(self, message: Message) -> None:
        self.has_begun = True
        await self._send(message)


def _announced(message: Message) -> int:
    """The length of the body that a head announces; 0 if it announces none."""
    headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
    found = next((value for name, value in headers if name.lower() == b"content-length"), b"")
    return int(found) if found.isdigit() else 0
