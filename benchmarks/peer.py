"""What is the cheapest peer of a WebSocket server?

A blocking socket and just enough framing, so that the client's share of a round trip is small and the same
beside reactivedb and beside the probes. Frames to the server are masked with zero, as the protocol allows.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any
from urllib.parse import urlsplit

_BUFFER_BYTES = 256 * 1024
_CLOSE, _PING, _PONG = 0x8, 0x9, 0xA


class Peer:
    """One connection; `headers` are whole lines that its request has beside the usual ones."""

    def __init__(self, url: str, path: str = "/api/1.48.0/sync", *, headers: str = "") -> None:
        target = urlsplit(url)
        assert target.hostname is not None
        self.socket = self._connected(target.hostname, target.port or 80)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {target.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"{headers}\r\n".encode()
        )
        self._received = b""
        while b"\r\n\r\n" not in self._received:
            self._fill()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        assert b" 101 " in head, head

    def _connected(self, host: str, port: int) -> socket.socket:
        return socket.create_connection((host, port))

    def send(self, text: bytes) -> None:
        self.socket.sendall(frame(text))

    def receive(self) -> bytes:
        """The next text message, whole."""
        message = b""
        while True:
            first, payload = self._frame()
            opcode = first & 0x0F
            if opcode == _PING:
                self.socket.sendall(frame(payload, opcode=_PONG))
                continue
            assert opcode != _CLOSE, f"the server closed the connection: {payload[2:].decode()}"
            message += payload
            if first & 0x80:
                return message

    def _frame(self) -> tuple[int, bytes]:
        while (parsed := parse(self._received)) is None:
            self._fill()
        first, start, end = parsed
        payload, self._received = self._received[start:end], self._received[end:]
        return first, payload

    def _fill(self) -> None:
        data = self.socket.recv(_BUFFER_BYTES)
        assert data, "the server closed the connection"
        self._received += data

    def close(self) -> None:
        self.socket.close()


class SyncPeer(Peer):
    """One that speaks the sync protocol, as far as the benchmarks need it."""

    def __init__(self, url: str, *, headers: str = "") -> None:
        super().__init__(url, headers=headers)
        self._request_id = -1
        connect = {"type": "Connect", "sessionId": str(session_id()), "connectionCount": 0, "clientTs": 0}
        self.send(json.dumps({**connect, "lastCloseReason": "InitialConnect"}).encode())

    def subscribe(self, path: str, args: dict[str, Any], *, wait: bool = True) -> None:
        """Follow a query; with `wait`, until its first result is here."""
        added = {"type": "Add", "queryId": 0, "udfPath": path, "args": [args]}
        change = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [added]}
        self.send(json.dumps(change).encode())
        if wait:
            assert b'"Transition"' in self.receive()

    def send_mutation(self, path: str, args: dict[str, Any]) -> None:
        self._request_id += 1
        call = {"type": "Mutation", "requestId": self._request_id, "udfPath": path, "args": [args]}
        self.send(json.dumps(call).encode())

    def mutate(self, path: str, args: dict[str, Any]) -> Any:
        self.send_mutation(path, args)
        return self.response()

    def response(self) -> Any:
        """The answer to the mutation sent last; transitions before it are passed over."""
        while True:
            message = json.loads(self.receive())
            if message["type"] == "MutationResponse":
                assert message["success"], message
                return message["result"]


class DeafPeer(SyncPeer):
    """One that reads nothing, and whose kernel takes little for it."""

    def _connected(self, host: str, port: int) -> socket.socket:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect((host, port))
        return raw


def frame(payload: bytes, *, opcode: int = 0x1) -> bytes:
    return frame_head(len(payload), opcode=opcode) + payload


def frame_head(size: int, *, opcode: int = 0x1) -> bytes:
    """What stands before a payload of that size."""
    if size < 126:
        return bytes((0x80 | opcode, 0x80 | size)) + b"\0\0\0\0"
    if size < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size) + b"\0\0\0\0"
    return struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size) + b"\0\0\0\0"


def parse(data: bytes | bytearray) -> tuple[int, int, int] | None:
    """The frame at the beginning: its first byte, where its payload begins and ends. None: not whole yet."""
    if len(data) < 2:
        return None
    size, start = data[1] & 0x7F, 2
    if size == 126:
        if len(data) < 4:
            return None
        size, start = int.from_bytes(data[2:4], "big"), 4
    elif size == 127:
        if len(data) < 10:
            return None
        size, start = int.from_bytes(data[2:10], "big"), 10
    return (data[0], start, start + size) if len(data) >= start + size else None


def session_id() -> str:
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
