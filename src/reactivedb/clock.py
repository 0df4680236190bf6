"""What time is it, how much has passed, and who waits until when?

The engine never looks at the machine's clock itself: it is handed a `Clock`. A test hands in one that
only moves when told to (`reactivedb.testing.FakeClock`), so every run with time in it can be repeated.

The wall clock says when something is due. It may jump: somebody sets it, or the machine has slept. How long
something has lasted is therefore asked of `elapsed_ns`, which never jumps and never goes back.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol, cast
from weakref import WeakKeyDictionary

import anyio

# More than any timestamp, and still 64 bits when it is taken off one.
_FOREVER_NS = 2**62
# A loop's timers stand still while the machine sleeps and do not follow a clock that is set, so whoever waits
# has the wall clock looked at this often. One look for all of a loop; none if nobody waits.
_LOOK_INTERVAL_S: Final = 2.0
# What is set or slept; a clock that is being adjusted drifts by a thousandth of this in the same time.
JUMP_NS: Final = 10**9


def span_ns(seconds: float) -> int:
    """A span of time in nanoseconds; `math.inf` reaches back before everything."""
    return int(min(seconds * 1e9, _FOREVER_NS))


class Clock(Protocol):
    """Wall-clock time in nanoseconds since the epoch, and waiting for it."""

    def now_ns(self) -> int: ...

    async def sleep_until_ns(self, deadline_ns: int) -> None:
        """Return once `now_ns() >= deadline_ns`, however it came to that; cancellable."""
        ...


class SteadyClock(Clock, Protocol):
    """A clock that also tells what has passed, and when the wall clock jumps."""

    def elapsed_ns(self) -> int:
        """What has passed since the moment that `boot` names; on Linux also while the machine slept."""
        ...

    @property
    def boot(self) -> str:
        """Names the moment from which `elapsed_ns` counts."""
        ...

    async def sleep_ns(self, duration_ns: int) -> None:
        """Return once that much has passed, whatever the wall clock does; cancellable."""
        ...

    async def jumped(self) -> None:
        """Return once the wall clock has jumped; cancellable."""
        ...


def steady(clock: Clock) -> SteadyClock:
    """A clock of which only the time is known is taken for one that never jumps."""
    return cast("SteadyClock", clock) if hasattr(clock, "elapsed_ns") else _Plain(clock)


class _Plain:
    def __init__(self, clock: Clock) -> None:
        self.boot = "plain"
        self.sleep_until_ns = clock.sleep_until_ns
        self.now_ns = self.elapsed_ns = clock.now_ns

    async def sleep_ns(self, duration_ns: int) -> None:
        await self.sleep_until_ns(self.now_ns() + duration_ns)

    async def jumped(self) -> None:
        await anyio.sleep_forever()


class SystemClock:
    """The machine's clock."""

    def __init__(
        self, *, wall_ns: Callable[[], int] = time.time_ns, look_interval_s: float = _LOOK_INTERVAL_S
    ) -> None:
        self._wall_ns = wall_ns
        self._look_interval_s = look_interval_s
        self._waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiting] = WeakKeyDictionary()

    def now_ns(self) -> int:
        return self._wall_ns()

    def elapsed_ns(self) -> int:
        return _elapsed_ns()

    @cached_property
    def boot(self) -> str:
        with suppress(OSError):
            return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # Not known: what passes between two processes is then not counted.
        return secrets.token_hex(16)

    async def sleep_until_ns(self, deadline_ns: int) -> None:
        if deadline_ns > self._wall_ns():
            await self._of_loop().wait(deadline_ns)

    async def sleep_ns(self, duration_ns: int) -> None:
        deadline_ns = _elapsed_ns() + duration_ns
        while True:
            left_ns = deadline_ns - _elapsed_ns()
            if left_ns <= 0:
                return
            # A machine that slept is noticed by the next look at the latest.
            await anyio.sleep(min(left_ns / 1e9, self._look_interval_s))

    async def jumped(self) -> None:
        await self._of_loop().wait(None)

    def _of_loop(self) -> _Waiting:
        loop = asyncio.get_running_loop()
        found = self._waiting.get(loop)
        if found is None:
            found = self._waiting[loop] = _Waiting(self, self._look_interval_s)
        return found


class _Waiting:
    """Those who wait for the wall clock in one loop, with one timer. Adding costs O(1), a look O(n)."""

    def __init__(self, clock: SystemClock, look_interval_s: float) -> None:
        self._clock = clock
        self._look_interval_s = look_interval_s
        # None waits for a jump.
        self._deadlines: dict[asyncio.Future[None], int | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._offset_ns = self._measured()

    def _measured(self) -> int:
        return self._clock.now_ns() - self._clock.elapsed_ns()

    async def wait(self, deadline_ns: int | None) -> None:
        if not self._deadlines:
            self._offset_ns = self._measured()
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        self._deadlines[woken] = deadline_ns
        self._arm(loop, deadline_ns)
        try:
            await woken
        finally:
            self._deadlines.pop(woken, None)
            if not self._deadlines and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _arm(self, loop: asyncio.AbstractEventLoop, deadline_ns: int | None) -> None:
        delay_s = self._look_interval_s
        if deadline_ns is not None:
            delay_s = min(delay_s, max(0.0, (deadline_ns - self._clock.now_ns()) / 1e9))
        if self._timer is None or self._timer.when() > loop.time() + delay_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_later(delay_s, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now_ns, offset_ns = self._clock.now_ns(), self._measured()
        has_jumped = abs(offset_ns - self._offset_ns) > JUMP_NS
        self._offset_ns = offset_ns
        next_ns: int | None = None
        for woken, deadline_ns in list(self._deadlines.items()):
            if has_jumped if deadline_ns is None else deadline_ns <= now_ns:
                if not woken.done():
                    woken.set_result(None)
            elif deadline_ns is not None:
                next_ns = deadline_ns if next_ns is None else min(next_ns, deadline_ns)
        self._arm(loop, next_ns)


def _elapsed_ns() -> int:
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return time.monotonic_ns()
