"""How long ago was a commit, if the wall clock may have jumped in between?

A file counts what passes while its machine runs: its *steady time*, in nanoseconds, which begins as the wall
clock's and never jumps. The differences between both are kept as spans in the file, a new one at each jump.
So "older than a day" means that a day has passed, whatever the wall clock was set to meanwhile, and nothing
is given up early. A clock that was ahead makes some things kept longer: what was written then carries late
timestamps. Time during which the machine was off, or the file on another machine, does not count.

Cost: one look at the clock a commit, and a row a minute in groups that are written anyway.
"""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..clock import JUMP_NS, span_ns

if TYPE_CHECKING:
    from ..clock import SteadyClock
    from ..storage import Storage

_META: Final = "engine.timeline"
# After a crash of the machine, what passed since the last record does not count.
_RECORD_INTERVAL_NS: Final = 60 * 10**9
# What is younger than some minutes can be told to a few seconds, over jumps too.
_MARK_INTERVAL_NS: Final = 4 * 10**9
_MARKS_MAX: Final = 256
# Clocks are seldom set. With more spans the two oldest become one, which keeps some things longer.
_SPANS_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class _Span:
    """From this steady time on, the wall clock was ahead by so much."""

    start_ns: int
    ahead_ns: int


class Timeline:
    """The steady time of one database. The engine's lock guards it."""

    def __init__(self, storage: Storage, clock: SteadyClock, *, last_ts: int) -> None:
        self._storage = storage
        self._clock = clock
        text = storage.get_meta(_META)
        self.is_new = text is None
        elapsed_ns, now_ns = clock.elapsed_ns(), clock.now_ns()
        if text is None:
            # How old the newest commit of a file without a record is, cannot be known.
            steady_ns = min(now_ns, last_ts) if last_ts else now_ns
            self._spans = [_Span(0, 0)]
        else:
            known = json.loads(text)
            steady_ns = known["steady_ns"]
            if known["boot"] == clock.boot:
                steady_ns += max(0, elapsed_ns - known["elapsed_ns"])
            self._spans = [_Span(*span) for span in known["spans"]]
        self._shift_ns = steady_ns - elapsed_ns
        self._recorded_ns = 0
        # Some commits of this process, with the steady times at which they were made.
        self._marks: deque[tuple[int, int]] = deque(maxlen=_MARKS_MAX)
        self.observe(now_ns)

    @property
    def steady_ns(self) -> int:
        return self._clock.elapsed_ns() + self._shift_ns

    @property
    def steady_ms(self) -> float:
        return self.steady_ns / 1e6

    def observe(self, now_ns: int) -> None:
        """The wall clock says this now: has it jumped?"""
        steady_ns = self._clock.elapsed_ns() + self._shift_ns
        ahead_ns = now_ns - steady_ns
        if abs(ahead_ns - self._spans[-1].ahead_ns) <= JUMP_NS:
            return
        self._spans.append(_Span(steady_ns, ahead_ns))
        if len(self._spans) > _SPANS_MAX:
            first, second, *rest = self._spans
            self._spans = [_Span(first.start_ns, min(first.ahead_ns, second.ahead_ns)), *rest]
        self._recorded_ns = 0

    def horizon_ns(self, age_s: float) -> int:
        """Whatever has a lower time of the wall clock, or commit timestamp, is at least that old."""
        self.observe(self._clock.now_ns())
        since_ns = self.steady_ns - span_ns(age_s)
        lowest_ns = self._spans[-1].ahead_ns + max(since_ns, self._spans[-1].start_ns)
        for span, later in zip(self._spans, self._spans[1:], strict=False):
            if later.start_ns > since_ns:
                lowest_ns = min(lowest_ns, span.ahead_ns + max(since_ns, span.start_ns))
        return max(0, lowest_ns)

    def believed_ms(self, span_s: float) -> float:
        """The wall clock's time as far as it is sure, for what ends that long after it began."""
        return self.horizon_ns(span_s) / 1e6 + span_s * 1000

    def age_at_least_s(self, ts: int) -> float:
        """How old a commit is; some seconds more if the clock has jumped since, infinite if not known."""
        now_ns, latest = self.steady_ns, self._spans[-1]
        then_ns = ts - latest.ahead_ns
        if latest.start_ns <= then_ns <= now_ns + JUMP_NS:
            return (now_ns - then_ns) / 1e9
        # The clock has jumped since, or it was ahead and commits got the least timestamps that were free.
        known_ns = [mark_ns for mark_ns, mark_ts in self._marks if mark_ts <= ts]
        return (now_ns - known_ns[-1]) / 1e9 if known_ns else math.inf

    @property
    def is_ahead(self) -> bool:
        """The wall clock was set ahead, and may be wrong."""
        return self._spans[-1].ahead_ns - min(span.ahead_ns for span in self._spans) > JUMP_NS

    def committed(self, ts: int) -> None:
        """A commit was made now; its group may have to keep what has passed. Raises: StorageError."""
        steady_ns = self._clock.elapsed_ns() + self._shift_ns
        if not self._marks or steady_ns - self._marks[-1][0] >= _MARK_INTERVAL_NS:
            self._marks.append((steady_ns, ts))
        if steady_ns - self._recorded_ns >= _RECORD_INTERVAL_NS:
            self.record(steady_ns)

    def record(self, steady_ns: int) -> None:
        """Write it into the open group. Raises: StorageError."""
        self._recorded_ns = steady_ns
        known = {
            "boot": self._clock.boot,
            "elapsed_ns": steady_ns - self._shift_ns,
            "steady_ns": steady_ns,
            "spans": [[span.start_ns, span.ahead_ns] for span in self._spans],
        }
        self._storage.set_meta(_META, json.dumps(known))

    def undone(self) -> None:
        """The group was undone, and perhaps a record with it."""
        self._recorded_ns = 0
