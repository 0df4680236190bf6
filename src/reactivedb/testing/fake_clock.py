"""How does a test decide what time it is?

A `FakeClock` stands still until `advance` moves it; whoever sleeps until a time that has come then is woken,
on whatever event loop and thread they sleep. Calls of `advance` may come from any thread.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Final

# 2026-01-01T00:00:00Z. A whole number of milliseconds, so that `run_after(0, ...)` is due at once.
START_NS: Final = 1_767_225_600_000_000_000


class FakeClock:
    """A `Clock` that only moves when told to."""

    def __init__(self, start_ns: int = START_NS) -> None:
        self._now_ns = start_ns
        self._lock = threading.Lock()
        self._sleepers: dict[asyncio.Future[None], int] = {}

    def now_ns(self) -> int:
        """The time it has been set to, in nanoseconds since the epoch."""
        return self._now_ns

    async def sleep_until_ns(self, deadline_ns: int) -> None:
        """Return once the clock was advanced to the deadline; at once if it lies in the past."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if deadline_ns <= self._now_ns:
                return
            self._sleepers[woken] = deadline_ns
        try:
            await woken
        finally:
            with self._lock:
                self._sleepers.pop(woken, None)

    def advance(self, seconds: float) -> None:
        """Move the clock forward and wake whoever waited for it.

        Raises:
            ValueError: `seconds` is negative; a clock that goes back is another test's subject.
        """
        if seconds < 0:
            raise ValueError(f"a clock is advanced by seconds from 0 on, got `{seconds}`")
        with self._lock:
            self._now_ns += round(seconds * 1e9)
            due = [sleeper for sleeper, deadline_ns in self._sleepers.items() if deadline_ns <= self._now_ns]
            for sleeper in due:
                del self._sleepers[sleeper]
        for sleeper in due:
            loop = sleeper.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, sleeper)

    @property
    def sleeper_count(self) -> int:
        """How many wait for a later time: 0 says that nothing would happen by itself."""
        with self._lock:
            return len(self._sleepers)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
