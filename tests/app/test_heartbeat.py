"""Is it noticed that something blocks the event loop, and what?

The clocks are the test's own, and so are the looks at the loops.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import anyio
import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.app import Database, heartbeat
from reactivedb.app.heartbeat import Heart
from reactivedb.functions import own_time

LONG_S = 30.0
LOOK_S = 0.25


class FakeMachine:
    """Clocks that only move when told to."""

    def __init__(self) -> None:
        self.wall_s = 1_000.0
        self.computed_s = 10.0

    def now_s(self) -> float:
        return self.wall_s

    def cpu_s(self, thread_id: int) -> float:
        return self.computed_s


class Stage:
    """Where a blocking function has come to."""

    def __init__(self) -> None:
        self.blocks = threading.Event()
        self.go = threading.Event()

    def block(self) -> None:
        self.blocks.set()
        assert self.go.wait(LONG_S)


stage: list[Stage] = []


@rdb.action
async def block(ctx: rdb.ActionCtx) -> None:
    stage[0].block()


@rdb.action(thread=True)
async def block_in_a_thread(ctx: rdb.ActionCtx) -> None:
    stage[0].block()


@rdb.action
async def wait(ctx: rdb.ActionCtx) -> None:
    stage[0].blocks.set()
    await anyio.to_thread.run_sync(stage[0].go.wait, LONG_S)


@rdb.action
async def debug(ctx: rdb.ActionCtx) -> None:
    # As the debugger's own module would wait for a command.
    exec("stage[0].block()", {"__name__": "pdb", "stage": stage})


@rdb.action
async def nothing(ctx: rdb.ActionCtx) -> None: ...


@rdb.query
def block_in_a_query(ctx: rdb.QueryCtx) -> None:
    stage[0].block()


@rdb.internal_mutation
def block_in_a_job(ctx: rdb.MutationCtx) -> None:
    stage[0].block()


@rdb.mutation
def schedule(ctx: rdb.MutationCtx) -> None:
    ctx.scheduler.run_after(0, block_in_a_job)


MEMBERS = (block, debug, block_in_a_thread, wait, nothing, block_in_a_query, block_in_a_job, schedule)


class World:
    """A database, and who looks at its loop."""

    def __init__(self, db: Database, heart: Heart, machine: FakeMachine) -> None:
        self.db = db
        self.heart = heart
        self.machine = machine

    def look(self, count: int = 1, *, passed_s: float = LOOK_S, computed_s: float = 0.0) -> None:
        for _ in range(count):
            self.machine.wall_s += passed_s
            self.machine.computed_s += computed_s
            self.heart.look(LOOK_S)

    def settle(self) -> None:
        """Let the loop answer what it was sent."""
        self.db.action(nothing)

    @property
    def counted(self) -> tuple[int, float]:
        meters = self.db.runtime.report.meters
        return meters.loop_blocks, meters.loop_blocked_s


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    stage[:] = [Stage()]
    machine, heart = FakeMachine(), Heart(with_thread=False)
    monkeypatch.setattr(own_time, "machine", machine)
    monkeypatch.setattr(heartbeat, "heart", heart)
    with app_of(*MEMBERS, limits=rdb.Limits(user_time_s_max=math.inf)).open() as db:
        yield World(db, heart, machine)
        stage[0].go.set()
    assert heart.pulses == []


def beside(run: Callable[[], object]) -> threading.Thread:
    def there() -> None:
        with suppress(rdb.StorageError):  # the database may be closed meanwhile
            run()

    thread = threading.Thread(target=there, daemon=True)
    thread.start()
    assert stage[0].blocks.wait(LONG_S)
    return thread


def test_an_action_that_blocks_the_loop_is_logged_with_its_stack_and_counted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    blocking = beside(lambda: world.db.action(block))
    world.look(5)
    assert (world.counted, caplog.text) == ((0, 0.0), "")
    world.look(10)
    (record,) = caplog.records
    told = record.getMessage()
    assert "blocked for 1.25 s by `notes:block`" in told
    # The innermost line of the application's own, and the whole stack.
    assert f"{__file__}:" in told.splitlines()[0]
    assert "in `Stage.block`" in told.splitlines()[0]
    assert [line.rpartition(" in ")[2] for line in told.splitlines()[2:]] == [
        "block",
        "block",
        "wait",
        "wait",
    ]
    assert world.counted == (1, 0.0)
    stage[0].go.set()
    blocking.join(LONG_S)
    world.settle()
    assert world.counted == (1, 3.5)
    assert "goes on, it was blocked for 3.5 s" in caplog.records[-1].getMessage()
    # The next one is told of again.
    stage[:] = [Stage()]
    beside(lambda: world.db.action(block))
    world.look(6)
    assert world.counted[0] == 2


def test_a_job_that_blocks_is_named(world: World, caplog: pytest.LogCaptureFixture) -> None:
    beside(lambda: world.db.mutation(schedule))
    world.look(6)
    assert "by `notes:blockInAJob`" in caplog.text


@pytest.mark.parametrize("action", [block_in_a_thread, wait])
def test_what_does_not_block_the_loop_is_not_told_of(
    world: World, caplog: pytest.LogCaptureFixture, action: rdb.RegisteredAction[[], None]
) -> None:
    beside(lambda: world.db.action(action))
    for _ in range(5):
        world.look(4)
        world.settle()
    assert (world.counted, caplog.text) == ((0, 0.0), "")


def test_a_loop_that_waits_is_not_woken(world: World) -> None:
    world.settle()
    (pulse,) = world.heart.pulses
    deadline = threading.Event()
    # It was asked at most once, while it came to rest.
    world.look()
    while pulse.is_asked:
        deadline.wait(0.001)
    for _ in range(100):
        world.look()
        assert not pulse.is_asked


def test_a_debuggers_prompt_is_not_told_of(world: World) -> None:
    beside(lambda: world.db.action(debug))
    world.look(20)
    assert world.counted == (0, 0.0)


def test_what_holds_the_interpreters_lock_is_noticed_afterwards(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.look()
    world.look(passed_s=20.0, computed_s=20.0)
    assert world.counted == (1, 20.0)
    assert "blocked for 20 s" in caplog.text


def test_what_holds_the_interpreters_lock_from_a_beat_on_is_noticed_by_its_answer(world: World) -> None:
    blocking = beside(lambda: world.db.action(block))
    world.look()
    assert world.heart.pulses[0].is_asked
    world.machine.wall_s += 20
    world.machine.computed_s += 20
    stage[0].go.set()
    blocking.join(LONG_S)
    world.settle()
    assert world.counted == (1, 20.0)


def test_a_busy_machine_and_a_process_that_stood_still_are_no_block(world: World) -> None:
    beside(lambda: world.db.action(block))
    world.look()
    for _ in range(3):
        world.look(passed_s=3600.0)
    assert world.counted == (0, 0.0)


def test_an_infinite_limit_looks_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "heart", heart := Heart(with_thread=False))
    with app_of(nothing, limits=rdb.Limits(loop_blocked_s=math.inf)).open():
        assert heart.pulses == []


@pytest.mark.slow
def test_the_thread_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    stage[:] = [Stage()]
    monkeypatch.setattr(heartbeat, "heart", Heart())
    with app_of(block, limits=rdb.Limits(loop_blocked_s=0.05)).open() as db:
        blocking = beside(lambda: db.action(block))
        waiting = threading.Event()
        while not db.runtime.report.meters.loop_blocks:
            waiting.wait(0.01)
        stage[0].go.set()
        blocking.join(LONG_S)
