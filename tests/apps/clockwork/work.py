"""How often did it run, and is the last run over?"""

import anyio

import reactivedb as rdb


class Run(rdb.Document, table="runs"):
    job: str
    at_ms: float

    by_job = rdb.Index("job")


# Known to this process alone: the run that goes on, until somebody lets it end.
may_end: list[anyio.Event] = []


def note(ctx: rdb.MutationCtx, job: str) -> None:
    ctx.db.insert(Run(job=job, at_ms=ctx.now_ms))


@rdb.internal_mutation
def tick(ctx: rdb.MutationCtx) -> None:
    note(ctx, "tick")


@rdb.internal_mutation
def begin(ctx: rdb.MutationCtx) -> None:
    note(ctx, "begin")


@rdb.internal_mutation
def end(ctx: rdb.MutationCtx) -> None:
    note(ctx, "end")


@rdb.internal_action
async def run_long(ctx: rdb.ActionCtx) -> None:
    may_end.append(anyio.Event())
    await ctx.run_mutation(begin)
    await may_end[-1].wait()
    await ctx.run_mutation(end)


@rdb.action
async def let_end(ctx: rdb.ActionCtx) -> None:
    may_end[-1].set()


@rdb.query
def times(ctx: rdb.QueryCtx, job: str) -> list[float]:
    """When it ran, in ms since the epoch."""
    return [run.at_ms for run in ctx.db.query(Run.by_job.eq(job))]
