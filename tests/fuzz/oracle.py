"""Is what a server says well formed, whatever it was told?

Checks each message by itself and against those before: versions chain, no timestamp goes back, chunks come
whole, nothing follows a fatal error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from reactivedb.protocol import decode_ts

ZERO = {"querySet": 0, "identity": 0, "ts": "AAAAAAAAAAA="}


@dataclass
class Oracle:
    """One connection's server side, as heard so far. Raises AssertionError at the first wrong message."""

    version: dict[str, Any] = field(default_factory=lambda: dict(ZERO))
    ended: bool = False
    chunks: list[str] = field(default_factory=list)

    def hear(self, text: str | bytes) -> None:
        message = json.loads(text)
        assert not self.ended, f"after the end: {message}"
        assert isinstance(message, dict)
        if self.chunks:
            assert message["type"] == "TransitionChunk", "something between two chunks"
        match message["type"]:
            case "Transition":
                self._transition(message)
            case "TransitionChunk":
                self._chunk(message)
            case "MutationResponse":
                self._response(message, {"ts"})
                assert (message["ts"] is None) is not message["success"]
            case "ActionResponse":
                self._response(message, set())
            case "AuthError":
                assert set(message) == {"type", "error", "baseVersion", "authUpdateAttempted"}
                assert message["baseVersion"] == self.version["identity"]
                self.ended = True
            case "FatalError":
                assert set(message) == {"type", "error"}
                assert isinstance(message["error"], str)
                self.ended = True
            case "Ping":
                assert set(message) == {"type"}
            case other:
                raise AssertionError(f"no message of the protocol: {other}")

    def _response(self, message: dict[str, Any], more: set[str]) -> None:
        assert set(message) - {"errorData"} == {"type", "requestId", "success", "result", "logLines"} | more
        assert 0 <= message["requestId"] < 2**32
        assert all(isinstance(line, str) for line in message["logLines"])
        if message["success"] is False:
            assert isinstance(message["result"], str)
        else:
            assert "errorData" not in message

    def _chunk(self, message: dict[str, Any]) -> None:
        assert message["partNumber"] == len(self.chunks)
        self.chunks.append(message["chunk"])
        if len(self.chunks) == message["totalParts"]:
            whole, self.chunks = "".join(self.chunks), []
            self._transition(json.loads(whole))

    def _transition(self, message: dict[str, Any]) -> None:
        assert set(message) == {"type", "startVersion", "endVersion", "modifications"}
        start, end = message["startVersion"], message["endVersion"]
        assert start == self.version
        assert end["querySet"] >= start["querySet"]
        assert end["identity"] >= start["identity"]
        assert decode_ts(end["ts"]) >= decode_ts(start["ts"])
        self.version = end
        told: set[tuple[int, bool]] = set()
        for change in message["modifications"]:
            kind, query_id = change["type"], change["queryId"]
            assert (query_id, False) not in told, "told twice, or removed behind its result"
            told.add((query_id, kind == "QueryRemoved"))
            fields = set(change) - {"type", "queryId", "logLines", "journal", "errorData"}
            assert fields == {"QueryUpdated": {"value"}, "QueryFailed": {"errorMessage"}}.get(kind, set())
            assert kind in ("QueryUpdated", "QueryFailed", "QueryRemoved")
