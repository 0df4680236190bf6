"""What goes over the wire, message by message?

`Probe` is a bare sync client. It holds every server to the first law of the protocol: a Transition starts
where the one before ended, and no part of a version goes back.
"""

from __future__ import annotations

import base64
import contextlib
import json
import uuid
from collections.abc import Iterator
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

Message = dict[str, Any]
DEADLINE_S = 5.0
ZERO_TS = "AAAAAAAAAAA="


def ts_of(text: str) -> int:
    return int.from_bytes(base64.b64decode(text), "little")


class Probe:
    def __init__(
        self, url: str, *, path: str = "/api/1.48.0/sync", headers: dict[str, str] | None = None
    ) -> None:
        self._open = contextlib.ExitStack()
        self.socket = self._open.enter_context(
            connect(
                url.replace("http", "ws", 1) + path,
                additional_headers=headers or {},
                compression=None,
                max_size=None,
                ping_interval=None,
                # What a test does not read must not hold up the closing handshake.
                max_queue=None,
                proxy=None,
            )
        )
        self.session_id = str(uuid.uuid4())
        self.version: Message = {"querySet": 0, "identity": 0, "ts": ZERO_TS}
        self.query_set = 0
        self.next_request = 0
        self.results: dict[int, Any] = {}

    def send(self, message: Message | str) -> None:
        self.socket.send(message if isinstance(message, str) else json.dumps(message))

    def hello(self) -> None:
        self.send(
            {
                "type": "Connect",
                "sessionId": self.session_id,
                "connectionCount": 0,
                "lastCloseReason": "InitialConnect",
                "clientTs": 1_790_000_000_000,
            }
        )

    def modify(self, *modifications: Message) -> None:
        self.send(
            {
                "type": "ModifyQuerySet",
                "baseVersion": self.query_set,
                "newVersion": self.query_set + 1,
                "modifications": list(modifications),
            }
        )
        self.query_set += 1

    def mutate(self, path: str, **args: object) -> int:
        return self._request("Mutation", path, args)

    def act(self, path: str, **args: object) -> int:
        return self._request("Action", path, args)

    def _request(self, kind: str, path: str, args: object) -> int:
        request_id = self.next_request
        self.next_request += 1
        self.send({"type": kind, "requestId": request_id, "udfPath": path, "args": [args]})
        return request_id

    def receive(self, *, timeout_s: float = DEADLINE_S) -> Message:
        """The next message but Ping; a Transition is checked and taken in."""
        while True:
            message = json.loads(self.socket.recv(timeout_s))
            if message["type"] == "Transition":
                self._take(message)
            if message["type"] != "Ping":
                return message

    def _take(self, transition: Message) -> None:
        start, end = transition["startVersion"], transition["endVersion"]
        assert start == self.version, f"a Transition starts at {start}, the last one ended at {self.version}"
        assert end["querySet"] >= start["querySet"], transition
        assert end["identity"] >= start["identity"], transition
        assert ts_of(end["ts"]) >= ts_of(start["ts"]), transition
        self.version = end
        for modification in transition["modifications"]:
            match modification["type"]:
                case "QueryUpdated":
                    self.results[modification["queryId"]] = modification["value"]
                case "QueryFailed":
                    self.results[modification["queryId"]] = modification["errorMessage"]
                case _:
                    self.results.pop(modification["queryId"], None)

    def until(self, *types: str) -> Message:
        """The next message of these types; those before it are taken in."""
        while (message := self.receive())["type"] not in types:
            pass
        return message

    def until_ts(self, ts: str) -> list[Message]:
        """All messages up to the Transition that covers `ts`."""
        seen: list[Message] = []
        while ts_of(self.version["ts"]) < ts_of(ts):
            seen.append(self.receive())
        return seen

    def done(self, path: str, **args: object) -> Message:
        """A mutation's response, after the Transition that covers it was taken in."""
        request_id = self.mutate(path, **args)
        while (response := self.until("MutationResponse"))["requestId"] != request_id:
            pass
        assert response["success"], response
        self.until_ts(response["ts"])
        return response

    def until_closed(self) -> tuple[list[Message], int | None]:
        """What still came before the server closed, and its close code."""
        seen: list[Message] = []
        try:
            while True:
                seen.append(json.loads(self.socket.recv(DEADLINE_S)))
        except ConnectionClosed:
            return seen, self.socket.close_code

    def close(self) -> None:
        self._open.close()


def add(query_id: int, path: str, **args: object) -> Message:
    return {"type": "Add", "queryId": query_id, "udfPath": path, "args": [args]}


def remove(query_id: int) -> Message:
    return {"type": "Remove", "queryId": query_id}


@contextlib.contextmanager
def probe(url: str, **options: Any) -> Iterator[Probe]:
    """A probe that has said hello."""
    opened = Probe(url, **options)
    try:
        opened.hello()
        yield opened
    finally:
        opened.close()
