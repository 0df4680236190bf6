"""What has one open database done so far, in numbers?

Plain counts that the hot path adds to: a run costs some 0.5 µs. Whoever shows them reads them as they
are, without a lock: a figure may be one behind another, and none goes back. Threads of synchronous callers
may lose a count to each other, for a lock would cost more than it is worth. In which form they are shown:
see `server/metrics`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from typing import Final

from ..functions import Kind

# From a look-up to a slow action; a query or mutation may take one second by default.
_RUN_BOUNDS_S: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)
# From an NVMe disk to a network file system.
_SYNC_BOUNDS_S: Final = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_WORD: Final = re.compile(r"[A-Z][A-Za-z]{2,40}(?=:|$)")


class Histogram:
    """How often something took how long."""

    __slots__ = ("bounds_s", "counts", "sum_s")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self.bounds_s = bounds_s
        # One for each bound, and one for what is above them all.
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def add(self, duration_s: float) -> None:
        self.counts[bisect_left(self.bounds_s, duration_s)] += 1
        self.sum_s += duration_s


class FunctionMeter:
    """The runs of one function."""

    __slots__ = ("failed", "seconds", "succeeded")

    def __init__(self) -> None:
        self.succeeded = 0
        self.failed = 0
        self.seconds = 0.0


class Meters:
    """All counts of one open database that are not kept by the parts they are of."""

    def __init__(self) -> None:
        # By kind and canonical path. Only registered functions and declared routes come here: whatever a
        # caller may spell would fill the memory of those who keep these figures.
        self.functions: dict[tuple[str, str], FunctionMeter] = {}
        self.runs = {kind.value: Histogram(_RUN_BOUNDS_S) for kind in Kind}
        self.runs["http action"] = Histogram(_RUN_BOUNDS_S)
        # A group's way into the file and onto the disk.
        self.syncs = Histogram(_SYNC_BOUNDS_S)
        # How often something blocked the event loop, and for how long in total.
        self.loop_blocks = 0
        self.loop_blocked_s = 0.0
        self.sockets_opened = 0
        # Why sockets ended, in the word that the client is told.
        self.sockets_closed: Counter[str] = Counter()
        self.socket_received_bytes = 0
        self.socket_sent_bytes = 0
        # Answers over HTTP, by their status.
        self.responses: Counter[int] = Counter()

    def ran(self, kind: str, path: str, duration_s: float, *, failed: bool) -> None:
        meter = self.functions.get((kind, path))
        if meter is None:
            meter = self.functions[kind, path] = FunctionMeter()
        if failed:
            meter.failed += 1
        else:
            meter.succeeded += 1
        meter.seconds += duration_s
        self.runs[kind].add(duration_s)

    def socket_closed(self, reason: str) -> None:
        """`reason` is what the close frame says: a word, perhaps with a sentence behind it."""
        found = _WORD.match(reason)
        self.sockets_closed[found[0] if found else "Other"] += 1
