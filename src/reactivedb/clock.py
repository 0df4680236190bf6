"""What time is it, and who waits until when?

The engine never looks at the machine's clock itself: it is handed a `Clock`. A test hands in one that
only moves when told to (`reactivedb.testing.FakeClock`), so every run with time in it can be repeated.
"""

from __future__ import annotations

import time
from typing import Protocol

import anyio

# More than any timestamp, and still 64 bits when it is taken off one.
_FOREVER_NS = 2**62


def span_ns(seconds: float) -> int:
    """A span of time in nanoseconds; `math.inf` reaches back before everything."""
    return int(min(seconds * 1e9, _FOREVER_NS))


class Clock(Protocol):
    """Wall-clock time in nanoseconds since the epoch, and waiting for it."""

    def now_ns(self) -> int: ...

    async def sleep_until_ns(self, deadline_ns: int) -> None:
        """Return once `now_ns() >= deadline_ns`; cancellable."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        return time.time_ns()

    async def sleep_until_ns(self, deadline_ns: int) -> None:
        # The wall clock may be set back while we sleep, so look again after waking.
        while True:
            remaining_ns = deadline_ns - time.time_ns()
            if remaining_ns <= 0:
                return
            await anyio.sleep(min(remaining_ns / 1e9, 3600.0))
