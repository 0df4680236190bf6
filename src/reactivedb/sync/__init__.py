"""The sync protocol, without a socket: one session per connection."""

from .session import ClientKind, Session, Transport

__all__ = ["ClientKind", "Session", "Transport"]
