"""Another client of the same server: one that calls over a socket and follows live queries."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

from websockets.sync.client import connect

TIMEOUT_S = 5.0


class Client:
    def __init__(self, url: str) -> None:
        self._socket = connect(f"{url.replace('http', 'ws')}/api/1.48.0/sync", compression=None, legacy=True)
        self._request_id = 0
        self._query_set = 0
        self.results: dict[int, dict[str, Any]] = {}
        self._send(type="Connect", sessionId=str(uuid.uuid4()), connectionCount=0, lastCloseReason="")

    def _send(self, **message: Any) -> None:
        self._socket.send(json.dumps(message))

    def _receive(self) -> dict[str, Any]:
        message = json.loads(self._socket.recv(TIMEOUT_S))
        if message["type"] == "Transition":
            for change in message["modifications"]:
                self.results[change["queryId"]] = change
        assert message["type"] != "FatalError", message
        return message

    def call(self, kind: str, path: str, /, **args: Any) -> dict[str, Any]:
        """The response to one mutation or action."""
        self._request_id += 1
        self._send(type=kind, requestId=self._request_id, udfPath=path, args=[args])
        while True:
            message = self._receive()
            if message.get("requestId") == self._request_id:
                return message

    def follow(self, path: str, /, **args: Any) -> int:
        """Follow one more query; gives its id."""
        query_id = self._query_set
        self._query_set += 1
        add = {"type": "Add", "queryId": query_id, "udfPath": path, "args": [args]}
        self._send(
            type="ModifyQuerySet",
            baseVersion=query_id,
            newVersion=self._query_set,
            modifications=[add],
        )
        while query_id not in self.results:
            self._receive()
        return query_id

    def wait_until(self, query_id: int, **expected: Any) -> dict[str, Any]:
        """The first result of that query that has these fields."""
        return self.wait_for(
            query_id, lambda result: all(result.get(name) == value for name, value in expected.items())
        )

    def wait_for(self, query_id: int, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first result of that query for which that holds."""
        while not holds(self.results[query_id]):
            self._receive()
        return self.results[query_id]

    def close(self) -> None:
        self._socket.close()
