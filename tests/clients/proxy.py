"""What happens if the connection is lost at exactly this message?

`CuttingProxy` stands between an official client and the server. It passes on whole WebSocket messages,
remembers them as a transcript, and ends both connections without a closing handshake when told to, or when
a rule meets its message. While its gate is shut, new connections wait; while it holds back, nothing that
the server says goes on.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

Direction = Literal["client", "server"]
DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class Passed:
    """One message as its sender sent it; `delivered` is False if the connection was cut before it."""

    connection: int
    sender: Direction
    message: dict[str, Any]
    delivered: bool

    @property
    def type(self) -> str:
        return self.message["type"]


@dataclass(slots=True)
class Cut:
    """Cut once, before the first message that `matches`."""

    sender: Direction
    matches: Callable[[dict[str, Any]], bool]
    done: bool = False


class CuttingProxy:
    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.transcript: list[Passed] = []
        self.handshakes: list[dict[str, str]] = []
        self._changed = threading.Condition()
        self._gate = threading.Event()
        self._gate.set()
        self._answers = threading.Event()
        self._answers.set()
        self._cuts: list[Cut] = []
        self._pairs: dict[int, tuple[ServerConnection, ClientConnection]] = {}
        self._server = serve(self._serve, "127.0.0.1", 0, compression=None, max_size=None)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def close(self) -> None:
        self._gate.set()
        self._answers.set()
        self._server.shutdown()
        self.cut()
        self._thread.join(5)

    def shut_gate(self) -> None:
        self._gate.clear()

    def open_gate(self) -> None:
        self._gate.set()

    def hold_back(self) -> None:
        """Keep what the server says from now on until `let_go`; what the client says goes on."""
        self._answers.clear()

    def let_go(self) -> None:
        self._answers.set()

    def cut_before(self, sender: Direction, **fields: object) -> Cut:
        """Lose the connection instead of passing on the next message whose fields are these."""
        rule = Cut(sender, lambda message: all(message.get(name) == fields[name] for name in fields))
        self._cuts.append(rule)
        return rule

    def cut(self) -> None:
        """Lose every connection now."""
        for pair in list(self._pairs.values()):
            self._lose(*pair)

    def close_clients(self, code: int, reason: str) -> None:
        """Close every connection as a server does that says why."""
        for client, _ in list(self._pairs.values()):
            client.close(code, reason)

    @staticmethod
    def _lose(*connections: ServerConnection | ClientConnection) -> None:
        # No closing handshake: the peers see the stream end, as when a cable is pulled.
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)

    def _serve(self, client: ServerConnection) -> None:
        self._gate.wait()
        assert client.request is not None
        client_name = client.request.headers.get("Convex-Client")
        kept = {} if client_name is None else {"Convex-Client": client_name}
        path = client.request.path
        with contextlib.ExitStack() as opened:
            try:
                server = opened.enter_context(
                    connect(
                        f"ws://127.0.0.1:{self.upstream_port}{path}",
                        additional_headers=kept,
                        compression=None,
                        max_size=None,
                        ping_interval=None,
                        proxy=None,
                    )
                )
            except OSError:
                return  # The server is down: this connection ends too, as it would without a proxy.
            with self._changed:
                number = len(self.handshakes)
                self.handshakes.append({"path": path, **kept})
                self._pairs[number] = (client, server)
                self._changed.notify_all()
            back = threading.Thread(target=self._relay, args=(number, "server", server, client), daemon=True)
            back.start()
            self._relay(number, "client", client, server)
            back.join()
            del self._pairs[number]

    def _relay(
        self,
        number: int,
        sender: Direction,
        source: ServerConnection | ClientConnection,
        target: ServerConnection | ClientConnection,
    ) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            for text in source:
                if sender == "server":
                    self._answers.wait()
                message = json.loads(text)
                rule = next((rule for rule in self._cuts if self._meets(rule, sender, message)), None)
                if rule is not None:
                    rule.done = True
                self._remember(Passed(number, sender, message, delivered=rule is None))
                if rule is not None:
                    break
                target.send(text)
        if source.close_code not in (None, 1006):
            # A close with a code and a reason is the server's word; it is passed on as such.
            with contextlib.suppress(ConnectionClosed, OSError, ValueError):
                target.close(source.close_code or 1000, source.close_reason or "")
        self._lose(source, target)

    @staticmethod
    def _meets(rule: Cut, sender: Direction, message: dict[str, Any]) -> bool:
        return not rule.done and rule.sender == sender and rule.matches(message)

    def _remember(self, passed: Passed) -> None:
        with self._changed:
            self.transcript.append(passed)
            self._changed.notify_all()

    def of_type(self, *types: str, connection: int | None = None) -> list[Passed]:
        return [
            passed
            for passed in list(self.transcript)
            if passed.type in types and connection in (None, passed.connection)
        ]

    def wait_for(self, holds: Callable[[], bool], *, timeout_s: float = DEADLINE_S) -> None:
        """Until the transcript makes `holds` true; it is asked after every message."""
        with self._changed:
            assert self._changed.wait_for(holds, timeout_s), f"never came about in {self.transcript}"


@contextlib.contextmanager
def cutting_proxy(upstream_port: int) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(upstream_port)
    try:
        yield proxy
    finally:
        proxy.close()
