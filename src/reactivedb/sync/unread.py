"""Messages of one client that are set aside while its token is verified, or while a large one is read."""

from __future__ import annotations

from collections import deque

from ..app import Caller
from ..limits import Limits


class Unread:
    """First in, first out; counted in the client's share of memory."""

    def __init__(self, caller: Caller, limits: Limits) -> None:
        self._caller = caller
        self._limits = limits
        self._frames: deque[bytes] = deque()
        self._size_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._frames)

    @property
    def is_too_much(self) -> bool:
        """One connection may not have so much."""
        limits = self._limits
        return (
            len(self._frames) > limits.unread_messages_max or self._size_bytes > limits.message_size_bytes_max
        )

    def add(self, frame: str | bytes) -> None:
        """Raises: LimitExceededError, of the client's share; it is not taken then."""
        # One character outside of Latin makes a string two or four times as large.
        frame = frame.encode("utf-8", "surrogatepass") if isinstance(frame, str) else frame
        self._caller.take_bytes(len(frame))
        self._frames.append(frame)
        self._size_bytes += len(frame)

    def take(self) -> bytes:
        frame = self._frames.popleft()
        self._size_bytes -= len(frame)
        self._caller.hold_bytes(-len(frame))
        return frame

    def clear(self) -> None:
        self._frames.clear()
        self._caller.hold_bytes(-self._size_bytes)
        self._size_bytes = 0
