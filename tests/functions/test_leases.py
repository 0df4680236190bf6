"""Can a scheduled action write after it was cancelled, given up or taken over?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from inline_app import app_of

import reactivedb as rdb


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


@rdb.mutation
def cancel(ctx: rdb.MutationCtx, id: str) -> None:
    ctx.scheduler.cancel(id)


@rdb.mutation
def start(ctx: rdb.MutationCtx, where: str) -> str:
    return ctx.scheduler.run_after(0, act, where)


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


MEMBERS = (Note, write, texts, states, cancel, start, act, inner)


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
            while not jobs._running:  # pyright: ignore[reportPrivateUsage]
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
