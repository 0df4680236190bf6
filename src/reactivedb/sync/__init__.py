"""The sync protocol, without a socket: one session per connection."""

from .session import Session
from .transport import ClientKind, Transport

__all__ = ["ClientKind", "Session", "Transport"]
