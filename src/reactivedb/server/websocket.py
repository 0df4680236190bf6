"""How do messages pass between a socket and a session without a queue or a task in between?

uvicorn's WebSocket protocol hands every message to a queue and wakes a task for it. Here an ASGI
application may ask for more through the scope extension `reactivedb.socket`: it hands in a receiver and
returns, and from then on each complete message is given to the receiver inside `data_received`, and what
the receiver sends is framed and written at once (`direct_socket`).

Memory held for one peer is bounded: the receiver keeps to its newest state while `writable` is false, a
peer that asks for more while it takes nothing is not read any further, and one that takes nothing for
`limits.blocked_receiver_s` is aborted (a polite close would wait for it for ever).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from sys import getsizeof
from typing import Any, Protocol, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State
from websockets.streams import StreamReader

from ..app import Caller, Turns, Work, end_if_from_signal
from ..errors import LimitExceededError
from ..limits import KIB, MIB, Limits
from ..log import Log
from .direct_socket import Counted, DirectSocket

SOCKET_EXTENSION = "reactivedb.socket"

_REFUSAL_LINGER_S = 1.0
# What one peer has at hand is read for so long, then the others have their turn: some ten mutations.
_SLICE_S = 0.005
# Who has had the loop for longer at a stretch waits for the others afterwards.
_LONG_S = 2 * _SLICE_S
# A message above it is handed on as bytes: its text would be a second copy.
_TEXT_BYTES_MAX = 1 * MIB
# Parts of messages below it are not counted, so that small messages cost nothing for it.
_UNCOUNTED_BYTES_MAX = 64 * KIB
# What a list of fragments takes beside their bytes, which may be none.
_FRAGMENT_OVERHEAD_BYTES = 64

_logger = Log("reactivedb.server")


class Receiver(Protocol):
    """Who is given what the peer sends. No method awaits or raises."""

    def receive(self, frame: str | bytes) -> Work | None:
        """What it gives back is still to be done; the next message is given when that has ended."""
        ...

    def receive_binary(self) -> None: ...

    def writable_again(self) -> None: ...

    def closed(self) -> None: ...


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
    _waiting_size_bytes = 0
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
        elif self._socket.is_too_slow:
            self.loop.call_soon(self._go_on)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._socket is not None:
            self._socket.blocked()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._socket is not None and self._receiver is not None:
            was_too_slow = self._socket.is_too_slow
            self._socket.unblocked()
            self._receiver.writable_again()
            if was_too_slow and self._waiting:
                self.loop.call_soon(self._go_on)

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
        assert self._socket is not None
        is_behind = bool(self._waiting) or self._held
        if not is_behind and time.monotonic() < self._slice_ends_s and not self._socket.is_too_slow:
            self._deliver(text)
            return
        if not is_behind:
            self._socket.busy(True)
            self.loop.call_soon(self._go_on)
        self._waiting.append(text)
        self._waiting_size_bytes += getsizeof(text)

    def _go_on(self) -> None:
        """The next slice of what waits."""
        assert self._socket is not None
        began_s = time.monotonic()
        while self._waiting and not (self._held or self._is_held_back):
            self._deliver(self._waiting[0])
            self._waiting_size_bytes -= getsizeof(self._waiting.popleft())
            if time.monotonic() >= began_s + _SLICE_S:
                break
        self._rest(time.monotonic() - began_s)
        self._count_partial()
        if self._held:
            return
        if self._waiting:
            if not self._is_held_back:
                self.loop.call_soon(self._go_on)
        elif self.disconnected:
            self._end()
        else:
            self._socket.busy(False)

    @property
    def _is_held_back(self) -> bool:
        """What waits is not done until the peer takes its answers; one that is gone gets none."""
        assert self._socket is not None
        return self._socket.is_too_slow and not self.disconnected

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
        """Count what has come and is not read: over a bound the connection is closed."""
        size_bytes = len(self.conn.reader.buffer) + self._fragments_size_bytes + self._waiting_size_bytes
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
        except BaseException as error:
            # The receiver promises not to raise; if it does, this connection ends and no other.
            end_if_from_signal(error)
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
