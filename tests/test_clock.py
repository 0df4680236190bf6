"""Is whoever waits for the machine's clock woken when it jumps?"""

from __future__ import annotations

import time

import anyio
import pytest

from reactivedb.clock import SystemClock

HOUR_NS = 3600 * 10**9


class Wall:
    """A machine's wall clock that somebody sets."""

    def __init__(self) -> None:
        self.set_by_ns = 0

    def __call__(self) -> int:
        return time.time_ns() + self.set_by_ns


@pytest.fixture
def wall() -> Wall:
    return Wall()


def clock_of(wall: Wall) -> SystemClock:
    return SystemClock(wall_ns=wall, look_interval_s=0.005)


def test_a_sleeper_is_woken_when_the_clock_is_set_past_its_time(wall: Wall) -> None:
    """As after a machine has slept, while which no timer of a loop goes on."""
    clock = clock_of(wall)

    async def run() -> None:
        async with anyio.create_task_group() as waiting:
            for hours in (3, 1, 2):
                waiting.start_soon(clock.sleep_until_ns, clock.now_ns() + hours * HOUR_NS)
            await anyio.lowlevel.checkpoint()
            wall.set_by_ns = 4 * HOUR_NS

    anyio.run(run)


def test_a_sleeper_goes_on_sleeping_when_the_clock_is_set_back(wall: Wall) -> None:
    clock, woken = clock_of(wall), list[str]()

    async def until(name: str, deadline_ns: int) -> None:
        await clock.sleep_until_ns(deadline_ns)
        woken.append(name)

    async def run() -> None:
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(until, "far", clock.now_ns() + HOUR_NS)
            await anyio.lowlevel.checkpoint()
            wall.set_by_ns = -2 * HOUR_NS
            await until("near", clock.now_ns() + 10**6)
            wall.set_by_ns = 2 * HOUR_NS

    anyio.run(run)
    assert woken == ["near", "far"]


@pytest.mark.parametrize("set_by_ns", [30 * 24 * HOUR_NS, -30 * 24 * HOUR_NS, 2 * 10**9])
def test_a_jump_is_told_and_small_corrections_are_not(wall: Wall, set_by_ns: int) -> None:
    clock, told = clock_of(wall), list[int]()

    async def listen() -> None:
        await clock.jumped()
        told.append(wall.set_by_ns)

    async def run() -> None:
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(listen)
            await anyio.lowlevel.checkpoint()
            wall.set_by_ns = 10**8
            # Several looks come before this one wakes.
            await clock.sleep_until_ns(clock.now_ns() + 3 * 10**7)
            wall.set_by_ns = set_by_ns

    anyio.run(run)
    assert told == [set_by_ns]


def test_what_passes_does_not_follow_the_wall_clock(wall: Wall) -> None:
    clock = clock_of(wall)
    before_ns = clock.elapsed_ns()
    wall.set_by_ns = HOUR_NS
    assert 0 <= clock.elapsed_ns() - before_ns < HOUR_NS

    async def run() -> None:
        wall.set_by_ns = -HOUR_NS
        await clock.sleep_ns(10**6)
        assert clock.elapsed_ns() - before_ns >= 10**6

    anyio.run(run)


def test_nobody_waits_and_so_nothing_looks(wall: Wall) -> None:
    asked = 0

    def counted() -> int:
        nonlocal asked
        asked += 1
        return wall()

    clock = SystemClock(wall_ns=counted, look_interval_s=0.001)

    async def run() -> int:
        with anyio.move_on_after(0.01):
            await clock.sleep_until_ns(clock.now_ns() + HOUR_NS)
        before = asked
        await anyio.sleep(0.01)
        return asked - before

    assert anyio.run(run) == 0


def test_two_processes_of_one_machine_count_from_the_same_moment() -> None:
    assert SystemClock().boot == SystemClock().boot
