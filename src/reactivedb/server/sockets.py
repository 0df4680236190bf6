"""How does a sync session get its socket, on our own server and on a foreign one?

On ours the session is attached to the connection (`websocket`) and the ASGI callable returns. A foreign
server has plain ASGI only: there a `Pump` stands in for the transport. It takes messages without waiting,
is not `writable` while one of them is under way, and stops reading from a peer that lets them pile up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import anyio
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from ..app import Meters, Runtime, Unsent, Work, end_if_from_signal
from ..errors import LimitExceededError
from ..limits import MIB, Limits
from ..log import Log
from ..sync import ClientKind, Session, Transport
from .direct_socket import Counted, close_reason
from .gate import address_of
from .websocket import SOCKET_EXTENSION, Receiver

# What may wait for a slow peer before its requests are left unread; updates do not count, for they are
# replaced by newer ones and not queued.
_BACKLOG_BYTES_MAX = 1 * MIB

_logger = Log("reactivedb.server")


class SyncEndpoint:
    """The ASGI application behind the sync routes."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        client = ClientKind.from_request(
            websocket.path_params.get("version"), websocket.headers.get("convex-client")
        )

        runtime = self._runtime
        try:
            caller = runtime.admission.connect(address_of(scope))
        except LimitExceededError as error:
            # Only a close frame brings the reason, by which clients tell how long to stay away.
            await websocket.accept()
            await websocket.close(1013, close_reason(error.wire_text))
            return

        def make_session(transport: Transport) -> Session:
            return Session(runtime, transport, client=client, caller=caller)

        counted = Counted(caller, runtime.relief, runtime.report.meters, runtime.turns)
        try:
            await websocket.accept()
            extensions: dict[str, Any] = scope.get("extensions") or {}
            direct = extensions.get(SOCKET_EXTENSION)
            if direct is None:
                await Pump(runtime.limits, counted).run(make_session, receive, send)
                caller.leave()
            else:
                direct["attach"](make_session, runtime.limits, counted)
        except BaseException:
            caller.leave()
            raise


class Pump:
    """The transport of one connection under a foreign ASGI server."""

    def __init__(self, limits: Limits, counted: Counted | None = None) -> None:
        self._limits = limits
        self._connection = anyio.CancelScope()
        self._unsent: Unsent | None = None
        self._meters = Meters() if counted is None else counted.meters
        if counted is not None:
            self._unsent = counted.relief.unsent(counted.caller, self._connection.cancel)
        self._outbox: deque[tuple[Message, int]] = deque()
        self._outbox_size_bytes = 0
        self._news = anyio.Event()
        self._room = anyio.Event()
        self._closing = False

    @property
    def writable(self) -> bool:
        return not self._outbox

    def send(self, parts: Sequence[bytes]) -> None:
        if not self._closing:
            text = b"".join(parts)
            self._put({"type": "websocket.send", "text": text.decode()}, len(text))

    def close(self, code: int, reason: str) -> None:
        if not self._closing:
            self._closing = True
            self._put({"type": "websocket.close", "code": code, "reason": close_reason(reason)}, 0)

    async def run(self, make_receiver: Callable[[Pump], Receiver], receive: Receive, send: Send) -> None:
        """Serve the accepted connection until either side ends it."""
        receiver = make_receiver(self)
        try:
            with self._connection:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._write_all, receiver, send)
                    await self._read_all(receiver, receive)
                    self._connection.cancel()
        finally:
            receiver.closed()
            self._count(0)

    async def _read_all(self, receiver: Receiver, receive: Receive) -> None:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            text: str | None = message.get("text")
            self._meters.socket_received_bytes += len(text or message.get("bytes") or b"")
            work = self._give(receiver, text)
            if work is not None:
                # The next message is given when this one has been read.
                read = anyio.Event()
                work.then(read.set)
                await read.wait()
            # A server that has more of them at hand gives them without a pause.
            await anyio.lowlevel.checkpoint()
            while self._outbox_size_bytes > _BACKLOG_BYTES_MAX:
                self._room = anyio.Event()
                await self._room.wait()

    def _give(self, receiver: Receiver, text: str | None) -> Work | None:
        try:
            if text is None:
                receiver.receive_binary()
            elif len(text) > self._limits.message_size_bytes_max:
                self.close(1009, f"expected at most {self._limits.message_size_bytes_max} bytes")
            else:
                return receiver.receive(text)
        except BaseException as error:
            # The receiver promises not to raise; if it does, this connection ends and no other.
            end_if_from_signal(error)
            _logger.exception("a message broke its session")
            self.close(1011, "InternalServerError")
        return None

    async def _write_all(self, receiver: Receiver, send: Send) -> None:
        while True:
            while self._outbox:
                message, size_bytes = self._outbox[0]
                with anyio.move_on_after(self._limits.blocked_receiver_s) as patience:
                    await send(message)
                if patience.cancelled_caught:
                    _logger.warning(
                        "a client took nothing for %g s and was cut off", self._limits.blocked_receiver_s
                    )
                    self._connection.cancel()
                    return
                # It leaves the outbox only now, so that `writable` is false while it is under way.
                self._outbox.popleft()
                self._outbox_size_bytes -= size_bytes
                self._count(self._outbox_size_bytes)
                self._room.set()
                if message["type"] == "websocket.close":
                    self._connection.cancel()
                    return
            receiver.writable_again()
            if not self._outbox:
                self._news = anyio.Event()
                await self._news.wait()

    def _put(self, message: Message, size_bytes: int) -> None:
        self._outbox.append((message, size_bytes))
        self._outbox_size_bytes += size_bytes
        self._meters.socket_sent_bytes += size_bytes
        self._count(self._outbox_size_bytes)
        self._news.set()

    def _count(self, size_bytes: int) -> None:
        if self._unsent is not None:
            self._unsent.is_now(size_bytes)
