"""How do messages pass between a socket and a session without a queue or a task in between?

uvicorn's WebSocket protocol hands every message to a queue and wakes a task for it. Here an ASGI
application may ask for more through the scope extension `reactivedb.socket`: it hands in a receiver and
returns, and from then on each complete message is given to the receiver inside `data_received`, and what
the receiver sends is framed and written at once. `DirectSocket` is the sending half; it never blocks and
never raises, and says through `writable` when the peer does not keep up.

Memory held for one peer is bounded: the receiver keeps to its newest state while `writable` is false, a
peer that asks for more while it takes nothing is not read any further, and one that takes nothing for
`limits.blocked_receiver_s` is aborted (a polite close would wait for it for ever).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from ..app import Caller, Meters, Relief, Turns, Unsent, Work
from ..errors import LimitExceededError
from ..limits import KIB, MIB, Limits
from .frames import text_message

SOCKET_EXTENSION = "reactivedb.socket"

# Two updates of a busy page fit; above it, newer updates replace older ones instead of queueing.
_HIGH_WATER_BYTES = 256 * KIB
_LOW_WATER_BYTES = 64 * KIB
# Answers a blocked peer may still pile up by asking. Below it, peers that write before they read go on.
_BLOCKED_BACKLOG_BYTES_MAX = 1 * MIB
# The peer gets this long to answer our close frame, or to read why it was refused.
_CLOSE_TIMEOUT_S = 5.0
_REFUSAL_LINGER_S = 1.0
_CLOSE_REASON_BYTES_MAX = 123
# What one peer has at hand is read for so long, then the others have their turn: some ten mutations.
_SLICE_S = 0.005
# Who has had the loop for longer at a stretch waits for the others afterwards.
_LONG_S = 2 * _SLICE_S
# A message above it is handed on as bytes: its text would be a second copy.
_TEXT_BYTES_MAX = 1 * MIB
# Larger messages go out as they are: packing a megabyte takes 20 ms.
_PACKED_BYTES_MAX = 256 * KIB
# Parts of messages below it are not counted, so that small messages cost nothing for it.
_UNCOUNTED_BYTES_MAX = 64 * KIB
# What a list of fragments takes beside their bytes, which may be none.
_FRAGMENT_OVERHEAD_BYTES = 64

_logger = logging.getLogger("reactivedb.server")


class Receiver(Protocol):
    """Who is given what the peer sends. No method awaits or raises."""

    def receive(self, frame: str | bytes) -> Work | None:
        """What it gives back is still to be done; the next message is given when that has ended."""
        ...

    def receive_binary(self) -> None: ...

    def writable_again(self) -> None: ...

    def closed(self) -> None: ...


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

    def _read_or_not(self) -> None:
        too_slow = not self.writable and self._sent_while_blocked_bytes > _BLOCKED_BACKLOG_BYTES_MAX
        reading = not (self._busy or too_slow)
        if reading is self._reading or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _count(self) -> None:
        if self._unsent is not None:
            self._unsent.is_now(0 if self.writable else self._transport.get_write_buffer_size())

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


class _FrameReader(StreamReader):
    """Gives what it has without a copy, if that is just what is asked for: a large frame, for instance."""

    def read_exact(self, n: int) -> Generator[None, None, bytearray]:
        while len(self.buffer) < n and not self.eof:
            yield
        if len(self.buffer) != n:
            return (yield from super().read_exact(n))
        whole, self.buffer = self.buffer, bytearray()
        return whole


class ReactiveWebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol with a direct way for those who ask; `uvicorn.Config(ws=...)` takes it."""

    # Both are set by `attach`; without them every method behaves as the base class's.
    _socket: DirectSocket | None = None
    _receiver: Receiver | None = None
    # Whole messages (None: a binary one) that are read when the others had their turn.
    _waiting: deque[str | bytes | None]
    # The last message is still being read, or the connection has cost much and rests.
    _held = False
    _turns: Turns | None = None
    _rests_until_s = 0.0
    # Of the large messages in what is being read.
    _large_bytes = 0
    _caller: Caller | None = None
    _slice_ends_s = 0.0
    _fragments_size_bytes = 0
    _partial_size_bytes = 0
    # What comes after a refusal is thrown away until the linger ends.
    _refused = False

    def attach(
        self,
        make_receiver: Callable[[DirectSocket], Receiver],
        limits: Limits,
        counted: Counted | None = None,
    ) -> None:
        """Hand over the accepted connection; the ASGI callable returns after this."""
        assert self.handshake_complete
        assert self._socket is None
        # Its parser waits for the next frame and asks it for each part anew.
        self.conn.reader.__class__ = _FrameReader
        self._waiting = deque()
        self._caller = None if counted is None else counted.caller
        self._turns = None if counted is None else counted.turns
        self._socket = DirectSocket(self.conn, self.transport, loop=self.loop, limits=limits, counted=counted)
        self._receiver = make_receiver(self._socket)
        if self.disconnected:
            self._end()
            return
        # A client may send before it has read our acceptance; those messages are in the queue.
        self._slice_ends_s = time.monotonic() + _SLICE_S
        while not self.queue.empty():
            event = self.queue.get_nowait()
            if event["type"] == "websocket.receive":
                self._take(event.get("text"))
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # What was received is handled all the same.
        if self._socket is None or not (self._waiting or self._held):
            self._end()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._socket is not None:
            self._socket.blocked()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._socket is not None and self._receiver is not None:
            self._socket.unblocked()
            self._receiver.writable_again()

    def shutdown(self) -> None:
        if self._socket is None:
            super().shutdown()
            return
        self.stop_keepalive()
        self._socket.close(1012, "ServerRestart")
        self._socket.cut_off_after(_REFUSAL_LINGER_S)

    def data_received(self, data: bytes) -> None:
        if self._socket is None:
            super().data_received(data)
        # What comes behind a breach of the protocol is thrown away until the linger ends.
        elif self.conn.parser_exc is None and not self._refused:
            began_s = time.monotonic()
            self._slice_ends_s = began_s + _SLICE_S
            self._socket.meters.socket_received_bytes += len(data)
            super().data_received(data)
            self._count_partial()
            self._rest(time.monotonic() - began_s)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions = cast("dict[str, Any]", self.scope.setdefault("extensions", {}))
            extensions[SOCKET_EXTENSION] = {"attach": self.attach}

    def handle_ping(self) -> None:
        if self._socket is None:
            super().handle_ping()
        else:
            self._socket.flush()

    def handle_close(self, event: Frame) -> None:
        if self._socket is None:
            super().handle_close(event)
            return
        self._socket.flush()
        self.transport.close()
        self._socket.cut_off_after(_REFUSAL_LINGER_S)

    def handle_parser_exception(self) -> None:
        if self._socket is None:
            super().handle_parser_exception()
            return
        # Closing at once, with data unread, would reset the connection and take our reason with it.
        self._socket.flush()
        self._socket.cut_off_after(_REFUSAL_LINGER_S)

    def keepalive_timeout(self) -> None:
        if self._socket is None:
            super().keepalive_timeout()
        else:
            self.transport.abort()

    def send_receive_event_to_app(self) -> None:
        if self._socket is None:
            super().send_receive_event_to_app()
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        self._fragments_size_bytes = 0
        if self.conn.state is not State.OPEN:
            return
        if self.curr_msg_data_type == "bytes":
            self._take(None)
            return
        text: str | bytes = data
        try:
            if len(data) <= _TEXT_BYTES_MAX:
                text = data.decode()
            else:
                self._large_bytes += len(data)
                if not data.isascii():
                    data.decode()  # The receiver takes for granted that it can be.
        except UnicodeDecodeError:
            self.conn.fail(1007, "expected UTF-8 in a text message")
            self.handle_parser_exception()
            return
        self._take(text)

    def handle_cont(self, event: Frame) -> None:
        self._fragments_size_bytes += len(event.data) + _FRAGMENT_OVERHEAD_BYTES
        super().handle_cont(event)

    async def run_asgi(self) -> None:
        """As in the base class, but an attached connection outlives the application's return."""
        try:
            # uvicorn leaves the type of `app` partly open.
            await self.app(self.scope, self.receive, self.send)  # pyright: ignore[reportUnknownMemberType]
        except ClientDisconnected:
            _logger.debug("a client left during the handshake")
        except Exception:
            _logger.exception("the application failed on a WebSocket")
            self.send_500_response()
        if self._socket is None and self.close_timer is None:
            self.transport.close()

    def _take(self, text: str | bytes | None) -> None:
        """Give one message to the receiver, now or when the others had their turn; in order."""
        if not (self._waiting or self._held) and time.monotonic() < self._slice_ends_s:
            self._deliver(text)
            return
        if not (self._waiting or self._held):
            assert self._socket is not None
            self._socket.busy(True)
            self.loop.call_soon(self._go_on)
        self._waiting.append(text)

    def _go_on(self) -> None:
        """The next slice of what waits."""
        began_s = time.monotonic()
        while self._waiting and not self._held:
            self._deliver(self._waiting[0])
            self._waiting.popleft()
            if time.monotonic() >= began_s + _SLICE_S:
                break
        self._rest(time.monotonic() - began_s)
        if self._held:
            return
        if self._waiting:
            self.loop.call_soon(self._go_on)
        elif self.disconnected:
            self._end()
        elif self._socket is not None:
            self._socket.busy(False)

    def _hold(self) -> None:
        """Read and deliver nothing until `_release`."""
        assert self._socket is not None
        self._held = True
        self._socket.busy(True)

    def _release(self) -> None:
        rest_s = self._rests_until_s - self.loop.time()
        if rest_s > 0 and not self.disconnected:
            self.loop.call_later(rest_s, self._release)
            return
        self._held = False
        self._go_on()

    def _rest(self, used_s: float) -> None:
        """Count what the connection has cost; after much at a stretch, the others come first."""
        large_bytes, self._large_bytes = self._large_bytes, 0
        if (used_s <= _LONG_S and not large_bytes) or self._turns is None or self._caller is None:
            return
        self._caller.use(used_s, time.monotonic())
        rest_s = self._turns.pause_s(self._caller, used_s, size_bytes=large_bytes)
        if rest_s:
            self._rests_until_s = self.loop.time() + rest_s
            if not self._held and not self.disconnected:
                self._hold()
                self.loop.call_later(rest_s, self._release)

    def _count_partial(self) -> None:
        """Count the part of a message that has come; over a bound the connection is closed."""
        size_bytes = len(self.conn.reader.buffer) + self._fragments_size_bytes
        for frame in self.frames[:1]:
            size_bytes += len(frame)
        if size_bytes <= _UNCOUNTED_BYTES_MAX:
            size_bytes = 0
        grown_bytes = size_bytes - self._partial_size_bytes
        if not grown_bytes or self._caller is None:
            return
        try:
            if grown_bytes > 0:
                self._caller.take_bytes(grown_bytes)
            else:
                self._caller.hold_bytes(grown_bytes)
            self._partial_size_bytes = size_bytes
        except LimitExceededError as error:
            assert self._socket is not None
            self._refused = True
            self._socket.close(1013, error.wire_text)
            self._socket.cut_off_after(_REFUSAL_LINGER_S)

    def _deliver(self, text: str | bytes | None) -> None:
        """Give one message to the receiver; `None` stands for a binary one."""
        if self._socket is None or self._receiver is None:
            return
        try:
            if text is None:
                self._receiver.receive_binary()
            elif (work := self._receiver.receive(text)) is not None and not work.is_done:
                self._hold()
                work.then(self._release)
        except Exception:
            # The receiver promises not to raise; if it does, this connection ends and no other.
            _logger.exception("a message broke its session")
            self._socket.close(1011, "InternalServerError")

    def _end(self) -> None:
        """Tell the receiver, once, and let go of it."""
        receiver, self._receiver = self._receiver, None
        if self._socket is not None:
            self._socket.lost()
        if receiver is not None:
            receiver.closed()
        if self._caller is not None:
            self._caller.leave()


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
