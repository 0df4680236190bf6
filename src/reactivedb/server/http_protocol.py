"""How long may a connection take to say what it wants?

uvicorn's HTTP protocol waits for the head of a request for ever, reads the rest of a body that nobody wants
for ever, and answers what is no HTTP in plain text. Here the head has a time, the rest of a body has as
much again once its request is answered, and every refusal is JSON with the status that fits. How long a body
may take while somebody reads it: see `bodies`. WebSockets go on with `websocket`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from ..limits import DEFAULT_LIMITS, ERROR_TEXT_LENGTH_MAX, Limits
from ..text import cut
from ..values import dumps

_logger = logging.getLogger("reactivedb.server")

# A refused peer gets this long to read why.
_REFUSAL_LINGER_S = 1.0


class ReactiveHttpProtocol(H11Protocol):
    """uvicorn's protocol with patience that ends; `uvicorn.Config(http=...)` takes it."""

    # Those of the one who serves: `with_limits`.
    limits = DEFAULT_LIMITS

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._deadline: asyncio.TimerHandle | None = None
        # The peer has been refused, and what it still sends is dropped.
        self._refused = False
        # While it takes less than it is sent: how much waited when we last looked.
        self._blocked_timer: asyncio.TimerHandle | None = None
        self._waiting_bytes = 0

    @classmethod
    def with_limits(cls, limits: Limits) -> type[ReactiveHttpProtocol]:
        return type(cls.__name__, (cls,), {"limits": limits})

    @property
    def _is_answering(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    @property
    def _is_idle(self) -> bool:
        """Between two requests, with nothing of the next one: uvicorn's keep-alive time counts."""
        return self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # pyright: ignore[reportArgumentType] - asyncio's is the wider type
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_looking()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_later()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_looking()

    def _look_later(self) -> None:
        self._waiting_bytes = self.transport.get_write_buffer_size()
        self._blocked_timer = self.loop.call_later(self.limits.blocked_receiver_s, self._still_blocked)

    def _still_blocked(self) -> None:
        if self.transport.get_write_buffer_size() >= self._waiting_bytes:
            _logger.warning("a client took nothing for %g s and was cut off", self.limits.blocked_receiver_s)
            self.transport.abort()
        else:
            self._look_later()

    def _stop_looking(self) -> None:
        if self._blocked_timer is not None:
            self._blocked_timer.cancel()
            self._blocked_timer = None

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)
            self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def _look(self) -> None:
        """Start or stop the clock, now that something has come or gone."""
        if self._refused:
            return
        if self._is_answering or self._is_idle or self.transport.is_closing():
            self._stop_waiting()
        elif self.transport.get_protocol() is self:
            self._wait()

    def _wait(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.limits.http_head_s, self._late)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self._refused:
            self.transport.abort()
        elif self.conn.our_state is h11.IDLE:
            expected = f"expected a whole request head within {self.limits.http_head_s:g} s"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "RequestTooSlow", f"{expected} - send it at once")
        else:
            # The request was answered long ago, and its body still comes.
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Called by the base class for what is no HTTP, while it handles h11's error."""
        error = sys.exc_info()[1]
        hint = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            expected = f"expected a request head of at most {self.limits.http_head_size_bytes_max} bytes"
            self._refuse(HTTPStatus(hint), "HeadTooLarge", f"{expected} - send less in URL and headers")
        else:
            self._refuse(HTTPStatus(hint), "MalformedRequest", f"expected an HTTP/1.1 request: {error}")

    def _refuse(self, status: HTTPStatus, code: str, message: str) -> None:
        """Answer what never reached the application, and close."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            # An answer is under way: breaking off is all that can be said.
            self.transport.close()
            return
        if self._is_answering:
            # The application is told that its client is gone, and what it still sends is dropped.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        # The library quotes the line that it cannot read.
        body = dumps({"code": code, "message": cut(message, ERROR_TEXT_LENGTH_MAX)})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        response = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
        self.transport.write(self.conn.send(response) or b"")
        self.transport.write(self.conn.send(h11.Data(data=body)) or b"")
        self.transport.write(self.conn.send(h11.EndOfMessage()) or b"")
        # Closing at once, with data unread, would reset the connection and take the answer with it.
        self._refused = True
        self._stop_waiting()
        self._deadline = self.loop.call_later(_REFUSAL_LINGER_S, self._late)
        if self.transport.can_write_eof():
            self.transport.write_eof()
