"""How does a test decide what time it is?

A `FakeClock` stands still until `advance` or `jump` moves it; whoever sleeps until a time that has come then
is woken, on whatever event loop and thread they sleep. Calls may come from any thread.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Final

# 2026-01-01T00:00:00Z. A whole number of milliseconds, so that `run_after(0, ...)` is due at once.
START_NS: Final = 1_767_225_600_000_000_000


class FakeClock:
    """A `Clock` that only moves when told to."""

    def __init__(self, start_ns: int = START_NS, *, boot: str = "fake") -> None:
        # Clocks with one name go on counting where another stopped.
        self.boot = boot
        self._now_ns = self._elapsed_ns = start_ns
        self._lock = threading.Lock()
        # Deadlines by the wall clock and by what passes; and those who wait for a jump.
        self._sleepers: dict[asyncio.Future[None], int] = {}
        self._resting: dict[asyncio.Future[None], int] = {}
        self._jump_waiters: dict[asyncio.Future[None], int] = {}

    def now_ns(self) -> int:
        """The time it has been set to, in nanoseconds since the epoch."""
        return self._now_ns

    def elapsed_ns(self) -> int:
        """What has passed by `advance`."""
        return self._elapsed_ns

    async def sleep_until_ns(self, deadline_ns: int) -> None:
        """Return once the clock was moved to the deadline; at once if it lies in the past."""
        if deadline_ns > self._now_ns:
            await self._wait(self._sleepers, deadline_ns)

    async def sleep_ns(self, duration_ns: int) -> None:
        """Return once the clock was advanced by as much; a jump does not count."""
        if duration_ns > 0:
            await self._wait(self._resting, self._elapsed_ns + duration_ns)

    async def jumped(self) -> None:
        """Return at the next `jump`."""
        await self._wait(self._jump_waiters, 0)

    async def _wait(self, among: dict[asyncio.Future[None], int], deadline_ns: int) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            among[woken] = deadline_ns
        try:
            await woken
        finally:
            with self._lock:
                among.pop(woken, None)

    def advance(self, seconds: float) -> None:
        """Let time pass: the clock goes forward, and whoever waited for it is woken.

        Raises:
            ValueError: `seconds` is negative; only `jump` goes back.
        """
        if seconds < 0:
            raise ValueError(f"a clock is advanced by seconds from 0 on, got `{seconds}`")
        with self._lock:
            self._now_ns += round(seconds * 1e9)
            self._elapsed_ns += round(seconds * 1e9)
        self._wake_due()

    def jump(self, seconds: float) -> None:
        """Set the wall clock ahead, or back, while no time passes."""
        with self._lock:
            self._now_ns += round(seconds * 1e9)
            waiters = list(self._jump_waiters)
            self._jump_waiters.clear()
        _wake_all(waiters)
        self._wake_due()

    def _wake_due(self) -> None:
        with self._lock:
            due = [sleeper for sleeper, deadline_ns in self._sleepers.items() if deadline_ns <= self._now_ns]
            rested = [
                sleeper for sleeper, deadline_ns in self._resting.items() if deadline_ns <= self._elapsed_ns
            ]
            for sleeper in due:
                del self._sleepers[sleeper]
            for sleeper in rested:
                del self._resting[sleeper]
        _wake_all(due + rested)

    @property
    def sleeper_count(self) -> int:
        """How many wait for a later time: 0 says that nothing would happen by itself."""
        with self._lock:
            return len(self._sleepers) + len(self._resting)


def _wake_all(sleepers: list[asyncio.Future[None]]) -> None:
    for sleeper in sleepers:
        loop = sleeper.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(_wake, sleeper)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
