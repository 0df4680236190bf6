"""How much of the past is kept, and when is the rest given up?

Bounded by age and by size (`limits.log_retention_s`, `limits.log_retention_size_bytes_max`). Age is what has
passed, whatever the wall clock was set to (`timeline`). The horizon moves in small steps beside commits,
inside their own group, so that it costs no sync; an idle database does no work. It starts only when there is
a sixteenth too much, so that most commits pay nothing. A view of the past that is in use holds the horizon.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..clock import span_ns

if TYPE_CHECKING:
    from ..limits import Limits
    from ..storage import Storage
    from .timeline import Timeline

# One step beside a commit: half a millisecond where the versions it forgets lie together, some five where
# they are strewn over a large file; and always more than what was written since the last.
_STEP = 64
_OPENING_STEP = 1_000
_SLACK = 16
_UNBOUNDED = 2**63


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """How far back the past can be read, and what was given up.

    Every `ts` from `oldest_ts` to `latest_ts` can be read at; 0 is the beginning. Between them lie
    `write_count` writes of `size_bytes`. `forgotten_count` versions, of `forgotten_size_bytes`, were deleted
    in the life of the file.
    """

    oldest_ts: int
    latest_ts: int
    write_count: int
    size_bytes: int
    forgotten_count: int
    forgotten_size_bytes: int


class Retention:
    """The horizon of one database. The engine's lock guards it."""

    def __init__(self, storage: Storage, timeline: Timeline, limits: Limits) -> None:
        self._storage = storage
        self._timeline = timeline
        self._retention_s = limits.log_retention_s
        self._size_bytes_max = limits.log_retention_size_bytes_max
        # Timestamps that somebody is reading at.
        self._pinned: Counter[int] = Counter()
        self._moving = False
        self._look_again_ns = 0
        self._known_count = storage.log_extent().write_count

    @property
    def horizon_ts(self) -> int:
        return self._storage.log_extent().horizon_ts

    def pin(self, ts: int) -> None:
        """Keep what can be read at `ts` until it is unpinned as often."""
        self._pinned[ts] += 1

    def unpin(self, ts: int) -> None:
        self._pinned[ts] -= 1
        if not self._pinned[ts]:
            del self._pinned[ts]

    def step(self) -> None:
        """Beside a commit, in its group: give up a little if there is too much. Raises StorageError."""
        extent = self._storage.log_extent()
        written = max(0, extent.write_count - self._known_count)
        self._known_count = extent.write_count
        now_ns = self._timeline.steady_ns
        too_large = extent.size_bytes > self._size_bytes_max + self._size_bytes_max // _SLACK
        if self._moving or too_large or now_ns >= self._look_again_ns:
            limit = _STEP + 2 * written
            self._moving = self._forget(limit) == limit
            self._known_count = self._storage.log_extent().write_count
            if not self._moving:
                self._look_again_ns = now_ns + span_ns(self._retention_s) // _SLACK

    def catch_up(self, *, budget_s: float) -> None:
        """At opening, when nothing is in flight: give up what is too old, for as long as that."""
        deadline_s = time.perf_counter() + budget_s
        while self._forget(_OPENING_STEP) == _OPENING_STEP:
            self._storage.flush()
            if time.perf_counter() > deadline_s:
                break
        self._storage.flush()
        self._known_count = self._storage.log_extent().write_count

    def _forget(self, limit: int) -> int:
        before_ts = self._timeline.horizon_ns(self._retention_s)
        size_bytes_max = self._size_bytes_max
        if self._pinned:
            before_ts = min(before_ts, min(self._pinned))
            size_bytes_max = _UNBOUNDED
        return self._storage.forget_log(before_ts, size_bytes_max=size_bytes_max, limit=limit)

    def report(self, latest_ts: int) -> RetentionReport:
        extent = self._storage.log_extent()
        return RetentionReport(
            oldest_ts=extent.horizon_ts,
            latest_ts=latest_ts,
            write_count=extent.write_count,
            size_bytes=extent.size_bytes,
            forgotten_count=extent.forgotten_count,
            forgotten_size_bytes=extent.forgotten_size_bytes,
        )
