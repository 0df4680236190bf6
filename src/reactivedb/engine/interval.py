"""Which bytes does a range of an index cover?

An interval is half open: `low <= key < high`. Index keys are order-preserving bytes, no key holds the
byte 0xFF where a value begins, and no value's bytes are a proper prefix of another's; so `prefix + FF`
lies above every key that begins with `prefix`.
"""

from __future__ import annotations

from typing import TypeAlias

Interval: TypeAlias = tuple[bytes, bytes]

EVERYTHING: Interval = (b"", b"\xff")


def prefix_interval(prefix: bytes) -> Interval:
    return prefix, prefix + b"\xff"


def just_above(key: bytes) -> bytes:
    """The lowest bytes above `key`."""
    return key + b"\x00"
