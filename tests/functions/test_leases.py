"""Can a scheduled action write after it was cancelled, given up or taken over?"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from inline_app import FlakyStorage, app_of

import reactivedb as rdb
from reactivedb.testing import FakeClock


class Note(rdb.Document, table="notes"):
    text: str


@rdb.internal_mutation
def write(ctx: rdb.MutationCtx, text: str) -> None:
    ctx.db.insert(Note(text=text))


@rdb.query
def texts(ctx: rdb.QueryCtx) -> list[str]:
    return [note.text for note in ctx.db.query(Note)]


@rdb.query
def states(ctx: rdb.QueryCtx) -> list[str]:
    return [job["state"]["kind"] for job in ctx.db.system.query("_scheduled_functions")]


@rdb.query
def errors(ctx: rdb.QueryCtx) -> list[str]:
    return [job["state"].get("error", "") for job in ctx.db.system.query("_scheduled_functions")]


@rdb.mutation
def cancel(ctx: rdb.MutationCtx, id: str) -> None:
    ctx.scheduler.cancel(id)


@rdb.mutation
def start(ctx: rdb.MutationCtx, where: str) -> str:
    return ctx.scheduler.run_after(0, act, where)


@rdb.mutation
def start_later(ctx: rdb.MutationCtx, where: str) -> str:
    return ctx.scheduler.run_after(10, act, where)


class Stage:
    """Where the action has come to, and what it met."""

    def __init__(self) -> None:
        self.waits = anyio.Event()
        self.go = anyio.Event()
        self.met: list[str] = []

    async def pause(self) -> None:
        self.waits.set()
        await self.go.wait()

    async def attempt(self, write_something: Callable[[], Any]) -> None:
        """Write although it is over, as one that holds on to its work would."""
        with anyio.CancelScope(shield=True):
            try:
                await write_something()
                self.met.append("written")
            except rdb.RequestError as error:
                self.met.append(error.code)


stage: list[Stage] = []


@rdb.internal_action
async def inner(ctx: rdb.ActionCtx) -> None:
    try:
        await stage[0].pause()
    finally:
        await stage[0].attempt(lambda: ctx.run_mutation(write, "never"))


@rdb.internal_action
async def act(ctx: rdb.ActionCtx, where: str) -> None:
    """Stops at one of its pause points, and tries to go on when it is cancelled there."""
    now = stage[0]
    if where == "end":
        return await now.pause()
    try:
        if where == "before":
            await now.pause()
        await ctx.run_mutation(write, "first")
        if where == "between":
            await now.pause()
        if where == "nested":
            await ctx.run_action(inner)
        if where == "task":
            task = asyncio.create_task(now.pause())
            await task
    finally:
        await now.attempt(lambda: ctx.run_mutation(write, "never"))
        await now.attempt(lambda: ctx.scheduler.run_after(0, write, "never"))


MEMBERS = (Note, write, texts, states, errors, cancel, start, start_later, act, inner)


@pytest.fixture
def now() -> Stage:
    stage[:] = [Stage()]
    return stage[0]


@pytest.mark.parametrize(
    ("where", "written"), [("before", []), ("between", ["first"]), ("nested", ["first"]), ("task", ["first"])]
)
def test_a_cancelled_action_stops_where_it_waits_and_writes_nothing_more(
    now: Stage, where: str, written: list[str]
) -> None:
    async def main() -> None:
        async with app_of(*MEMBERS).open_async() as db:
            id = await db.mutation(start, where)
            await now.waits.wait()
            await db.mutation(cancel, id)
            await db.run_until_idle(timeout_s=5)
            assert await db.query(states) == ["canceled"]
            assert await db.query(texts) == written

    anyio.run(main)
    assert now.met == ["LeaseLost"] * (3 if where == "nested" else 2)


def test_an_action_that_is_cancelled_before_it_begins_does_not_begin(now: Stage) -> None:
    async def main() -> None:
        async with app_of(*MEMBERS).open_async() as db:
            id = await db.mutation(start, "none")
            jobs = db.runtime.jobs
            jobs.wake()
            # The row says `inProgress` and the task waits for that to be durable.
            while not jobs._actions:  # pyright: ignore[reportPrivateUsage]
                await anyio.lowlevel.checkpoint()
            await db.mutation(cancel, id)
            await db.run_until_idle(timeout_s=5)
            assert await db.query(states) == ["canceled"]
            assert await db.query(texts) == []

    anyio.run(main)
    assert now.met == []


@pytest.mark.parametrize("where", ["before", "between", "nested"])
def test_a_run_whose_job_is_taken_over_writes_nothing_more(now: Stage, where: str) -> None:
    async def main() -> None:
        async with app_of(*MEMBERS).open_async() as db:
            id = await db.mutation(start, where)
            await now.waits.wait()
            before = await db.query(texts)
            # As another process would that holds this one for dead.
            db.runtime.jobs._mark_running(id)  # pyright: ignore[reportPrivateUsage]
            now.go.set()
            await db.run_until_idle(timeout_s=5)
            assert await db.query(texts) == before

    anyio.run(main)
    assert set(now.met) == {"LeaseLost"}


def test_what_an_ended_action_left_running_writes_nothing(now: Stage) -> None:
    left: list[asyncio.Task[None]] = []

    @rdb.internal_action
    async def leave(ctx: rdb.ActionCtx) -> None:
        async def later() -> None:
            await now.pause()
            await now.attempt(lambda: ctx.run_mutation(write, "never"))

        left.append(asyncio.create_task(later()))

    @rdb.mutation
    def begin(ctx: rdb.MutationCtx) -> None:
        ctx.scheduler.run_after(0, leave)

    async def main() -> None:
        async with app_of(*MEMBERS, leave, begin).open_async() as db:
            await db.mutation(begin)
            await db.run_until_idle(timeout_s=5)
            assert await db.query(states) == ["success"]
            now.go.set()
            await left[0]
            assert await db.query(texts) == []

    anyio.run(main)
    assert now.met == ["LeaseLost"]


def test_other_runs_are_not_touched_by_a_lost_lease(now: Stage) -> None:
    async def main() -> None:
        async with app_of(*MEMBERS).open_async() as db:
            id = await db.mutation(start, "between")
            await now.waits.wait()
            await db.mutation(cancel, id)
            await db.mutation(write, "others")  # type: ignore[arg-type]
            await db.run_until_idle(timeout_s=5)
            assert await db.query(texts) == ["first", "others"]

    anyio.run(main)


def test_a_finished_action_keeps_its_end_state_when_it_is_cancelled_late(now: Stage) -> None:
    async def main() -> None:
        async with app_of(*MEMBERS).open_async() as db:
            id = await db.mutation(start, "none")
            await db.run_until_idle(timeout_s=5)
            await db.mutation(cancel, id)
            assert await db.query(states) == ["success", "success"]

    anyio.run(main)
    assert now.met == ["written", "written"]


def test_a_thread_of_a_cancelled_action_writes_nothing(now: Stage) -> None:
    @rdb.internal_action
    async def hand_over(ctx: rdb.ActionCtx) -> None:
        loop = asyncio.get_running_loop()

        def in_thread() -> None:
            # Neither the executor nor this call carries the action's context along.
            asyncio.run_coroutine_threadsafe(
                now.attempt(lambda: ctx.run_mutation(write, "never")), loop
            ).result()
            asyncio.run_coroutine_threadsafe(
                now.attempt(lambda: ctx.scheduler.run_after(0, write, "never")), loop
            ).result()

        try:
            await now.pause()
        finally:
            with anyio.CancelScope(shield=True):
                await loop.run_in_executor(None, in_thread)

    @rdb.mutation
    def begin(ctx: rdb.MutationCtx) -> str:
        return ctx.scheduler.run_after(0, hand_over)

    async def main() -> None:
        async with app_of(*MEMBERS, hand_over, begin).open_async() as db:
            id = await db.mutation(begin)
            await now.waits.wait()
            await db.mutation(cancel, id)
            await db.run_until_idle(timeout_s=5)
            assert await db.query(texts) == []

    anyio.run(main)
    assert now.met == ["LeaseLost", "LeaseLost"]


def test_a_lease_is_not_asked_for_in_another_database(now: Stage) -> None:
    async def main() -> None:
        async with app_of(Note, write, texts, name="others").open_async() as other:

            @rdb.internal_action
            async def copy(ctx: rdb.ActionCtx) -> None:
                await other.mutation(write, "copied")  # type: ignore[arg-type]

            @rdb.mutation
            def begin(ctx: rdb.MutationCtx) -> None:
                ctx.scheduler.run_after(0, copy)

            async with app_of(states, copy, begin).open_async() as db:
                await db.mutation(begin)
                await db.run_until_idle(timeout_s=5)
                assert await db.query(states) == ["success"]
            assert await other.query(texts) == ["copied"]

    anyio.run(main)


# The end of a run's time


@pytest.mark.parametrize(
    ("where", "written"), [("before", []), ("between", ["first"]), ("nested", ["first"]), ("task", ["first"])]
)
def test_an_action_that_runs_too_long_is_given_up_where_it_waits(
    now: Stage, where: str, written: list[str]
) -> None:
    clock = FakeClock()

    async def main() -> None:
        limits = rdb.Limits(action_time_s_max=60)
        async with app_of(*MEMBERS, limits=limits).open_async(clock=clock) as db:
            await db.mutation(start, where)
            await now.waits.wait()
            clock.advance(59)
            await anyio.lowlevel.checkpoint()
            assert await db.query(states) == ["inProgress"]
            clock.advance(1)
            await db.run_until_idle(timeout_s=5)
            assert await db.query(states) == ["failed"]
            assert await db.query(texts) == written
            assert "60 s (`action_time_s_max`)" in (await db.query(errors))[0]

    anyio.run(main)
    assert now.met == ["LeaseLost"] * (3 if where == "nested" else 2)


def test_a_clock_that_is_set_ends_no_lease_and_prolongs_none(now: Stage) -> None:
    clock = FakeClock()

    async def main() -> None:
        limits = rdb.Limits(action_time_s_max=60)
        async with app_of(*MEMBERS, limits=limits).open_async(clock=clock) as db:
            await db.mutation(start, "before")
            await now.waits.wait()
            for jump_s in (86_400, -2 * 86_400):
                clock.jump(jump_s)
                clock.advance(20)
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
                assert await db.query(states) == ["inProgress"]
            clock.advance(20)
            await db.run_until_idle(timeout_s=5)
            assert await db.query(states) == ["failed"]

    anyio.run(main)


def test_time_that_runs_out_inside_a_mutation_undoes_it(now: Stage) -> None:
    clock = FakeClock()

    @rdb.internal_mutation
    def slow(ctx: rdb.MutationCtx) -> None:
        ctx.db.insert(Note(text="never"))
        clock.advance(3600)

    @rdb.internal_action
    async def call_slow(ctx: rdb.ActionCtx) -> None:
        await now.attempt(lambda: ctx.run_mutation(slow))

    @rdb.mutation
    def begin(ctx: rdb.MutationCtx) -> None:
        ctx.scheduler.run_after(0, call_slow)

    async def main() -> None:
        async with app_of(*MEMBERS, slow, call_slow, begin).open_async(clock=clock) as db:
            await db.mutation(begin)
            await db.run_until_idle(timeout_s=5)
            assert (await db.query(states), await db.query(texts)) == (["failed"], [])

    anyio.run(main)
    assert now.met == ["LeaseLost"]


def test_an_attempt_that_resists_its_end_writes_nothing_beside_the_next_one(now: Stage) -> None:
    clock = FakeClock()
    attempts: list[int] = []

    @rdb.internal_action(retry=rdb.Retry(max_attempts=2, delay_s=5))
    async def stubborn(ctx: rdb.ActionCtx) -> None:
        attempts.append(1)
        number = len(attempts)
        if number == 1:
            with anyio.CancelScope(shield=True):
                await now.pause()
        await now.attempt(lambda: ctx.run_mutation(write, f"attempt {number}"))

    @rdb.mutation
    def begin(ctx: rdb.MutationCtx) -> None:
        ctx.scheduler.run_after(0, stubborn)

    async def main() -> None:
        async with app_of(*MEMBERS, stubborn, begin).open_async(clock=clock) as db:
            await db.mutation(begin)
            await now.waits.wait()
            async with db.subscribe(states) as results:
                seen = aiter(results)
                assert await anext(seen) == ["inProgress"]
                clock.advance(1800)
                assert await anext(seen) == ["pending"]
                clock.advance(5)
                while await anext(seen) != ["success"]:
                    pass
            assert await db.query(texts) == ["attempt 2"]
            now.go.set()
            await db.run_until_idle(timeout_s=5)
            assert (await db.query(states), await db.query(texts)) == (["success"], ["attempt 2"])

    anyio.run(main)
    assert now.met == ["written", "LeaseLost"]


def test_without_a_bound_an_action_may_run_for_ever(now: Stage) -> None:
    clock = FakeClock()

    async def main() -> None:
        limits = rdb.Limits(action_time_s_max=math.inf)
        async with app_of(*MEMBERS, limits=limits).open_async(clock=clock) as db:
            await db.mutation(start, "between")
            await now.waits.wait()
            clock.advance(10**6)
            now.go.set()
            await db.run_until_idle(timeout_s=5)
            assert await db.query(states) == ["success", "success"]

    anyio.run(main)
    assert now.met == ["written", "written"]


# A disk that is full for a moment


class Running:
    """An open database over a storage that fails when it is told to."""

    def __init__(self) -> None:
        self.storage = FlakyStorage()
        self.clock = FakeClock()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[rdb.AsyncDatabase]:
        async with rdb.AsyncDatabase(lambda: app_of(*MEMBERS).runtime(self.storage, clock=self.clock)) as db:
            yield db


def test_an_action_whose_mark_was_undone_runs_later_and_once(now: Stage) -> None:
    async def main() -> None:
        running = Running()
        async with running.open() as db:
            await db.mutation(start_later, "none")
            await db.run_until_idle()
            running.storage.failing_flush_count = 1
            running.clock.advance(10)
            await db.run_until_idle()
            assert await db.query(states) == ["pending"]
            running.clock.advance(1)
            await db.run_until_idle()
            assert (await db.query(states))[0] == "success"
            assert await db.query(texts) == ["first", "never", "never"]

    anyio.run(main)


def test_a_cancellation_that_was_undone_cancels_nothing(now: Stage) -> None:
    async def main() -> None:
        running = Running()
        async with running.open() as db:
            id = await db.mutation(start, "between")
            await now.waits.wait()
            running.storage.failing_flush_count = 1
            with pytest.raises(rdb.StorageError):
                await db.mutation(cancel, id)
            now.go.set()
            running.clock.advance(1)
            await db.run_until_idle()
            assert (await db.query(states))[0] == "success"

    anyio.run(main)
    assert now.met == ["written", "written"]


def test_an_end_state_that_was_undone_is_written_again(now: Stage) -> None:
    async def main() -> None:
        running = Running()
        async with running.open() as db:
            await db.mutation(start, "end")
            await now.waits.wait()
            running.storage.failing_flush_count = 1
            now.go.set()
            await db.run_until_idle()
            assert await db.query(states) == ["inProgress"]
            running.clock.advance(1)
            await db.run_until_idle()
            assert await db.query(states) == ["success"]

    anyio.run(main)


def test_an_action_that_had_not_begun_when_the_database_closed_is_pending(now: Stage, tmp_path: Path) -> None:
    app, path = app_of(*MEMBERS), tmp_path / "data.db"

    async def main() -> None:
        async with app.open_async(path) as db:
            await db.mutation(start, "before")
            while not db.runtime.jobs._actions:  # pyright: ignore[reportPrivateUsage]
                await anyio.lowlevel.checkpoint()
        assert not now.waits.is_set()
        async with app.open_async(path, jobs=False) as db:
            assert await db.query(states) == ["pending"]
        async with app.open_async(path) as db:
            await now.waits.wait()
            now.go.set()
            await db.run_until_idle(timeout_s=5)
            assert (await db.query(states))[0] == "success"

    anyio.run(main)


def test_a_cancelled_action_stores_and_deletes_no_file(now: Stage, tmp_path: Path) -> None:
    @rdb.internal_action
    async def keep(ctx: rdb.ActionCtx) -> None:
        stored = await ctx.storage.store(b"kept")
        try:
            await now.pause()
        finally:
            await now.attempt(lambda: ctx.storage.store(b"never"))
            await now.attempt(lambda: ctx.storage.delete(stored))
            await now.attempt(ctx.storage.generate_upload_url)

    @rdb.mutation
    def begin(ctx: rdb.MutationCtx) -> str:
        return ctx.scheduler.run_after(0, keep)

    @rdb.query
    def sizes(ctx: rdb.QueryCtx) -> list[float]:
        return [file.size for file in ctx.db.system.query("_storage")]

    async def main() -> None:
        async with app_of(*MEMBERS, keep, begin, sizes).open_async(tmp_path / "data.db") as db:
            id = await db.mutation(begin)
            await now.waits.wait()
            await db.mutation(cancel, id)
            await db.run_until_idle(timeout_s=5)
            assert (await db.query(states), await db.query(sizes)) == (["canceled"], [4])

    anyio.run(main)
    assert now.met == ["LeaseLost", "LeaseLost", "LeaseLost"]
    stored = [
        path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() in (b"kept", b"never")
    ]
    assert [path.read_bytes() for path in stored] == [b"kept"]
