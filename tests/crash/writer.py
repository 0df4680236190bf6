"""What does a client hold on to when its server dies under it?

A small client of the sync protocol, over `websockets`' blocking connection: it keeps its session id and its
request ids, and after each reconnect it sends again, in order, what was not acknowledged, as npm's client
does. It remembers every acknowledgement and every timestamp it was shown.
"""

from __future__ import annotations

import json
import struct
import threading
import time
import uuid
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

RECV_DEADLINE_S = 10.0
_RECONNECT_PAUSE_S = 0.02


@dataclass
class Writer:
    """Calls `entries:add` in a thread of its own, over and over, with `in_flight` calls at once."""

    url: str
    in_flight: int = 4
    session_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    acknowledged: dict[str, int] = field(default_factory=dict[str, int])
    # What was sent and not answered yet, oldest first: request id -> name.
    pending: dict[int, str] = field(default_factory=dict[int, str])
    # Every timestamp in the order it arrived, over all connections.
    seen_ts: list[int] = field(default_factory=list[int])
    replays: int = 0
    failures: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self._next_request_id = 0
        self._giving_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def give_up_at_next_loss(self) -> None:
        """Go on writing, but do not come back for what is unacknowledged when the connection is lost."""
        self._giving_up.set()

    def join(self) -> None:
        self._thread.join(RECV_DEADLINE_S * 2)
        assert not self._thread.is_alive(), f"still waiting for {self.pending}"

    def _run(self) -> None:
        connection_count = 0
        while not (self._giving_up.is_set() and connection_count):
            try:
                with connect(f"{self.url.replace('http', 'ws')}/api/1.48.0/sync") as socket:
                    self._converse(socket, connection_count)
            except (OSError, InvalidHandshake, EOFError):
                # Not there yet.
                time.sleep(_RECONNECT_PAUSE_S)
            except ConnectionClosed:
                # Killed; that is what this client is about.
                connection_count += 1

    def _converse(self, socket: ClientConnection, connection_count: int) -> None:
        hello = {"type": "Connect", "sessionId": self.session_id, "connectionCount": connection_count}
        observed = {"maxObservedTimestamp": encode_ts(self.seen_ts[-1])} if self.seen_ts else {}
        socket.send(json.dumps({**hello, **observed, "lastCloseReason": "unknown", "clientTs": 0}))
        for request_id, name in self.pending.items():
            self.replays += 1
            self._send(socket, request_id, name)
        while True:
            while len(self.pending) < self.in_flight:
                request_id, name = self._next_request_id, f"entry {self._next_request_id}"
                self._next_request_id += 1
                self.pending[request_id] = name
                self._send(socket, request_id, name)
            self._take(json.loads(socket.recv(RECV_DEADLINE_S)))

    def _send(self, socket: ClientConnection, request_id: int, name: str) -> None:
        call = {
            "type": "Mutation",
            "requestId": request_id,
            "udfPath": "entries:add",
            "args": [{"name": name}],
        }
        socket.send(json.dumps({"type": "Mutation", **call}))

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "MutationResponse":
                name = self.pending.pop(message["requestId"])
                if not message["success"]:
                    self.failures.append(message["result"])
                    return
                self.acknowledged[name] = message["result"]
                self.seen_ts.append(decode_ts(message["ts"]))
            case "Transition":
                assert decode_ts(message["startVersion"]["ts"]) <= decode_ts(message["endVersion"]["ts"])
            case "Ping":
                pass
            case _:
                self.failures.append(json.dumps(message))


def encode_ts(ts: int) -> str:
    return b64encode(struct.pack("<Q", ts)).decode()


def decode_ts(text: str) -> int:
    (ts,) = struct.unpack("<Q", b64decode(text))
    return ts
