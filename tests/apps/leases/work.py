"""What does an action do that is killed, stopped or robbed of its job in the middle?

It writes by mutations, by another action, by a nested mutation and by scheduling, everything under the name
of its run. When it is refused or cancelled, it tries to write all the same.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Awaitable, Callable

import anyio

import reactivedb as rdb

Pause = Callable[[str], Awaitable[None]]
_LONG_S = 1e8


class Note(rdb.Document, table="notes"):
    run: str
    text: str


class Stage:
    """Set by the process that runs this: where an action pauses, and who is told that it was refused."""

    pause: Pause
    refused: Callable[[str], None]


@rdb.internal_mutation
def write(ctx: rdb.MutationCtx, run: str, text: str) -> None:
    ctx.db.insert(Note(run=run, text=text))


@rdb.internal_mutation
def write_nested(ctx: rdb.MutationCtx, run: str, text: str) -> None:
    ctx.run_mutation(write, run, text)


@rdb.internal_action
async def inner(ctx: rdb.ActionCtx, run: str, text: str) -> None:
    await ctx.run_mutation(write_nested, run, text)


async def work(ctx: rdb.ActionCtx) -> None:
    run = str(uuid.uuid4())
    try:
        await Stage.pause("before the first mutation")
        await ctx.run_mutation(write, run, "one")
        await Stage.pause("between mutations")
        await ctx.run_action(inner, run, "two")
        await ctx.scheduler.run_after(_LONG_S, write, run, "three")
        await Stage.pause("after the last mutation")
    except BaseException:
        with anyio.CancelScope(shield=True):
            await steal(ctx, run)
        raise


async def steal(ctx: rdb.ActionCtx, run: str) -> None:
    """Write although it is over."""
    for attempt in (
        lambda: ctx.run_mutation(write, run, "stolen"),
        lambda: ctx.run_action(inner, run, "stolen"),
        lambda: ctx.scheduler.run_after(_LONG_S, write, run, "stolen"),
    ):
        with contextlib.suppress(rdb.RequestError):
            await attempt()
            continue
        Stage.refused("stolen")


@rdb.internal_action
async def once(ctx: rdb.ActionCtx) -> None:
    await work(ctx)


@rdb.internal_action(retry=rdb.Retry(max_attempts=2, delay_s=0))
async def again(ctx: rdb.ActionCtx) -> None:
    await work(ctx)


@rdb.mutation
def start(ctx: rdb.MutationCtx, retried: bool) -> str:
    """Due in a second, which is for the test's clock to say."""
    return ctx.scheduler.run_after(1, again if retried else once)


@rdb.mutation
def cancel(ctx: rdb.MutationCtx, id: str) -> None:
    ctx.scheduler.cancel(id)


@rdb.query
def newest(ctx: rdb.QueryCtx) -> list[str]:
    """The id and the state of the job that was started last."""
    jobs = ctx.db.system.query("_scheduled_functions").order("desc")
    for job in jobs.filter(lambda job: job["name"] in ("work.js:once", "work.js:again")):
        return [job["_id"], job["state"]["kind"]]
    return []
