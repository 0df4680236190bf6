"""When do scheduled functions run, and when never?"""

import reactivedb as rdb

from . import counter, meeting


@rdb.internal_mutation
def add_one(ctx: rdb.MutationCtx, name: str) -> None:
    counter.add(ctx, name, 1)


@rdb.mutation
def later(ctx: rdb.MutationCtx, name: str, delay_s: float) -> str:
    return ctx.scheduler.run_after(delay_s, add_one, name)


@rdb.mutation
def meet_later(ctx: rdb.MutationCtx, room: str, delay_s: float) -> str:
    """The job is an action that ends when a second one comes into the room."""
    return ctx.scheduler.run_after(delay_s, meeting.meet, room, 2)


@rdb.mutation
def later_but_fail(ctx: rdb.MutationCtx, name: str) -> None:
    ctx.scheduler.run_after(0, add_one, name)
    raise ValueError("nothing may run after this")


@rdb.mutation
def cancel(ctx: rdb.MutationCtx, id: str) -> None:
    ctx.scheduler.cancel(id)


@rdb.query
def state(ctx: rdb.QueryCtx, id: str) -> str | None:
    """The kind of the job's state, by the system document of the job."""
    job = ctx.db.system.get(id)
    return None if job is None else job["state"]["kind"]
