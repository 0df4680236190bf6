"""A connection to a server that sends what it likes."""

from __future__ import annotations

import json
import socket

import httpx


class Raw:
    """A connection that sends what it likes."""

    def __init__(self, url: str) -> None:
        parts = httpx.URL(url)
        self.path = parts.raw_path.decode().rstrip("/")
        self.socket = socket.create_connection((parts.host, parts.port or 80), timeout=10)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, text: str | bytes) -> None:
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def begin(self, path: str, *headers: str, method: str = "POST") -> None:
        lines = [f"{method} {self.path}{path} HTTP/1.1", "Host: here", *headers]
        self.send("\r\n".join([*lines, "", ""]))

    def answer(self) -> tuple[int, str]:
        """Status and body, once the server has closed the connection."""
        seen = b""
        while piece := self.socket.recv(65_536):
            seen += piece
        top, _, body = seen.partition(b"\r\n\r\n")
        return int(top.split()[1]), body.decode()

    def refusal(self) -> tuple[int, str]:
        """Status and code."""
        found, body = self.answer()
        told = json.loads(body)
        assert set(told) == {"code", "message"}
        return found, told["code"]
