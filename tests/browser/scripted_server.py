"""What does the browser module see of a server that does exactly as it is told?

A WebSocket server whose every message the test writes itself, on the port that also serves the module and
an empty page.
"""

from __future__ import annotations

import base64
import json
import queue
import threading
from importlib.resources import files
from typing import Any, Self

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

PATIENCE_S = 10.0
MODULE = files("reactivedb") / "server" / "static" / "reactivedb.js"


def ts(number: int) -> str:
    return base64.b64encode(number.to_bytes(8, "little")).decode()


def version(query_set: int, number: int, *, identity: int = 0) -> dict[str, Any]:
    return {"querySet": query_set, "identity": identity, "ts": ts(number)}


def transition(start: dict[str, Any], end: dict[str, Any], *changes: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Transition", "startVersion": start, "endVersion": end, "modifications": list(changes)}


def updated(query_id: int, value: Any) -> dict[str, Any]:
    return {"type": "QueryUpdated", "queryId": query_id, "value": value, "logLines": [], "journal": None}


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.path = connection.request.path if connection.request else ""
        self._inbox: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def read_all(self) -> None:
        try:
            for text in self.connection:
                self._inbox.put(json.loads(text))
        except ConnectionClosed:
            pass  # Cut off: the same end as a polite one, for a test.
        self._inbox.put(None)

    def receive(self) -> dict[str, Any]:
        message = self._inbox.get(timeout=PATIENCE_S)
        assert message is not None, "the client closed the connection"
        return message

    def wait_closed(self) -> None:
        while self._inbox.get(timeout=PATIENCE_S) is not None:
            pass

    def send(self, message: dict[str, Any]) -> None:
        self.connection.send(json.dumps(message))

    def close(self, reason: str = "", code: int = 1000) -> None:
        self.connection.close(code, reason)


class ScriptedServer:
    def __init__(self) -> None:
        self._peers: queue.Queue[Peer] = queue.Queue()
        self._server: Server = serve(self._on_connection, "127.0.0.1", 0, process_request=self._page)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def accept(self) -> Peer:
        return self._peers.get(timeout=PATIENCE_S)

    @property
    def has_waiting_peer(self) -> bool:
        return not self._peers.empty()

    def _on_connection(self, connection: ServerConnection) -> None:
        peer = Peer(connection)
        self._peers.put(peer)
        peer.read_all()

    def _page(self, connection: ServerConnection, request: Request) -> Response | None:
        match request.path:
            case "/":
                return _response("text/html", b"<!doctype html><title>empty</title>")
            case "/reactivedb.js":
                return _response("text/javascript", MODULE.read_bytes())
            case "/favicon.ico":
                return _response("image/x-icon", b"")
            case _:
                return None


def _response(content_type: str, body: bytes) -> Response:
    headers = Headers({"Content-Type": content_type, "Content-Length": str(len(body)), "Connection": "close"})
    return Response(200, "OK", headers, body)
