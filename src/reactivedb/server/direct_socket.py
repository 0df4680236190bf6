"""Direct socket: the sending half of one WebSocket, without a queue or a task in between.

It never blocks and never raises, and says through `writable` when the peer does not keep up. What is held for
a peer that takes nothing is counted, and `limits.blocked_receiver_s` later the peer is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from websockets.protocol import State
from websockets.server import ServerProtocol

from ..app import Caller, Meters, Relief, Turns, Unsent
from ..limits import KIB, MIB, Limits
from ..log import Log
from .frames import text_message

# Two updates of a busy page fit; above it, newer updates replace older ones instead of queueing.
_HIGH_WATER_BYTES = 256 * KIB
_LOW_WATER_BYTES = 64 * KIB
# Answers a blocked peer may still pile up by asking. Below it, peers that write before they read go on.
_BLOCKED_BACKLOG_BYTES_MAX = 1 * MIB
# The peer gets this long to answer our close frame, or to read why it was refused.
_CLOSE_TIMEOUT_S = 5.0
_CLOSE_REASON_BYTES_MAX = 123
# What a buffer may hold before it is counted: little messages on their way cost nothing for it.
_UNCOUNTED_UNSENT_BYTES_MAX = 16 * KIB
# Larger messages go out as they are: packing a megabyte takes 20 ms.
_PACKED_BYTES_MAX = 256 * KIB

_logger = Log("reactivedb.server")


@dataclass(frozen=True, slots=True)
class Counted:
    """By what a connection's bytes are counted."""

    caller: Caller
    relief: Relief
    meters: Meters
    # None: no connection waits for what it has cost.
    turns: Turns | None = None


class DirectSocket:
    """The sending half of one connection: a `sync.Transport`."""

    __slots__ = (
        "_blocked_timer",
        "_busy",
        "_close_timer",
        "_connection",
        "_limits",
        "_loop",
        "_reading",
        "_sent_bytes",
        "_sent_while_blocked_bytes",
        "_taken_bytes",
        "_transport",
        "_unsent",
        "meters",
        "writable",
    )

    def __init__(
        self,
        connection: ServerProtocol,
        transport: asyncio.Transport,
        *,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        counted: Counted | None = None,
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._loop = loop
        self._limits = limits
        self._blocked_timer: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._sent_bytes = 0
        self._sent_while_blocked_bytes = 0
        # What the peer's kernel had accepted when we last looked; no growth means that it takes nothing.
        self._taken_bytes = 0
        self.writable = True
        # Nothing is read while the receiver is behind, or the peer too slow for its answers.
        self._busy = False
        self._reading = True
        self._unsent: Unsent | None = None
        self.meters = Meters() if counted is None else counted.meters
        if counted is not None:
            self._unsent = counted.relief.unsent(counted.caller, transport.abort)
        transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES, low=_LOW_WATER_BYTES)

    def send(self, parts: Sequence[bytes]) -> None:
        """Write one text message; after a close, or to a peer that is gone, it is dropped."""
        if self._connection.state is not State.OPEN or self._transport.is_closing():
            return
        frame_size_max = self._limits.frame_size_bytes_max
        if self._connection.extensions and sum(map(len, parts)) <= _PACKED_BYTES_MAX:
            # A compressed message is this peer's own, so it cannot be shared and is put together first.
            self._write(_compressed(self._connection, b"".join(parts), frame_size_max))
        else:
            self._write(text_message(parts, frame_size_bytes_max=frame_size_max))

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake behind what was sent; the peer is cut off if it does not answer."""
        if self._connection.state is not State.OPEN or self._transport.is_closing():
            return
        self._connection.send_close(code, close_reason(reason))
        self.flush()
        self.cut_off_after(_CLOSE_TIMEOUT_S)

    def flush(self) -> None:
        """Write the control frames that the connection has ready."""
        self._write(self._connection.data_to_send())

    def cut_off_after(self, delay_s: float) -> None:
        """Abort unless the connection is gone by then."""
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._close_timer = self._loop.call_later(delay_s, self._transport.abort)

    def blocked(self) -> None:
        """The write buffer is full."""
        self.writable = False
        self._sent_while_blocked_bytes = 0
        self._taken_bytes = self._taken_now_bytes()
        self._blocked_timer = self._loop.call_later(self._limits.blocked_receiver_s, self._still_blocked)
        self._count()

    def unblocked(self) -> None:
        """The write buffer has drained."""
        self.writable = True
        if self._blocked_timer is not None:
            self._blocked_timer.cancel()
            self._blocked_timer = None
        self._count()
        self._read_or_not()

    def busy(self, busy: bool) -> None:
        """The receiver has more to do than this turn allows; or not any more."""
        self._busy = busy
        self._read_or_not()

    @property
    def is_too_slow(self) -> bool:
        """The peer asks for more and takes nothing: nothing more of it is read, or done."""
        return not self.writable and self._sent_while_blocked_bytes > _BLOCKED_BACKLOG_BYTES_MAX

    def _read_or_not(self) -> None:
        reading = not (self._busy or self.is_too_slow)
        if reading is self._reading or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _count(self) -> None:
        if self._unsent is None:
            return
        size_bytes = self._transport.get_write_buffer_size()
        counted_bytes = size_bytes if size_bytes > _UNCOUNTED_UNSENT_BYTES_MAX else 0
        if counted_bytes != self._unsent.size_bytes:
            self._unsent.is_now(counted_bytes)
        if counted_bytes and self.writable and not self._transport.is_closing():
            self._unsent.look_again(self._count)

    def lost(self) -> None:
        """The connection is gone: no timer may hold it."""
        for timer in (self._blocked_timer, self._close_timer):
            if timer is not None:
                timer.cancel()
        self._blocked_timer = self._close_timer = None
        if self._unsent is not None:
            self._unsent.is_now(0)

    def _write(self, buffers: Sequence[bytes | memoryview]) -> None:
        size_bytes = sum(map(len, buffers))
        if not size_bytes:
            return
        self._sent_bytes += size_bytes
        self.meters.socket_sent_bytes += size_bytes
        if self.writable:
            self._transport.writelines(buffers)
            if self._transport.get_write_buffer_size() > _UNCOUNTED_UNSENT_BYTES_MAX:
                self._count()
            return
        self._sent_while_blocked_bytes += size_bytes
        self._read_or_not()
        self._transport.writelines(buffers)
        self._count()

    def _taken_now_bytes(self) -> int:
        return self._sent_bytes - self._transport.get_write_buffer_size()

    def _still_blocked(self) -> None:
        taken_bytes = self._taken_now_bytes()
        if taken_bytes <= self._taken_bytes:
            _logger.warning("a client took nothing for %g s and was cut off", self._limits.blocked_receiver_s)
            self._transport.abort()
            return
        self._taken_bytes = taken_bytes
        self._blocked_timer = self._loop.call_later(self._limits.blocked_receiver_s, self._still_blocked)


def _compressed(connection: ServerProtocol, message: bytes, frame_size_bytes_max: int) -> list[bytes]:
    """One message through the connection's own framing, which applies permessage-deflate."""
    ends = range(frame_size_bytes_max, len(message) + frame_size_bytes_max, frame_size_bytes_max)
    for end in ends or [0]:
        piece = message[max(end - frame_size_bytes_max, 0) : end]
        final = end >= len(message)
        if end <= frame_size_bytes_max:
            connection.send_text(piece, fin=final)
        else:
            connection.send_continuation(piece, fin=final)
    return connection.data_to_send()


def close_reason(reason: str) -> str:
    """The reason as far as a close frame has room for it."""
    return reason.encode()[:_CLOSE_REASON_BYTES_MAX].decode(errors="ignore")
