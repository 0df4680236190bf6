"""Transport of one connection's messages, and what kind of client is at its other end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

# Python refuses to read numbers of thousands of digits.
_VERSION = re.compile(r"([0-9]{1,6})\.([0-9]{1,6})")


class Transport(Protocol):
    """How a session's messages reach the peer."""

    def send(self, parts: Sequence[bytes]) -> None:
        """Send one text message, given in pieces of UTF-8. Never blocks, never raises."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Close after what was sent."""
        ...

    @property
    def writable(self) -> bool:
        """False while the peer takes nothing more; `Session.writable_again` follows."""
        ...


class ClientKind(Enum):
    """What the peer can read."""

    # npm from 1.28 on puts `TransitionChunk`s together.
    CHUNKS = "chunks"
    # PyPI and older ones get one message, in continuation frames if it is large.
    WHOLE = "whole"

    @staticmethod
    def from_request(path_version: str | None, convex_client_header: str | None) -> ClientKind:
        """Told from the version in the path (`/api/1.48.0/sync`) and the `Convex-Client` header."""
        if convex_client_header and not convex_client_header.startswith("npm"):
            return ClientKind.WHOLE
        found = _VERSION.match(path_version or "")
        return ClientKind.CHUNKS if found and (int(found[1]), int(found[2])) >= (1, 28) else ClientKind.WHOLE
