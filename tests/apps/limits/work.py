"""As much of one kind of work as the caller asks for."""

import reactivedb as rdb

rows = rdb.Table("rows", indexes={"by_kind": ["kind"]})
TRACE = "trace"


def leave_trace(ctx: rdb.MutationCtx) -> None:
    """A write and a job that must be gone if the run fails."""
    ctx.db.insert(rows, {"kind": TRACE})
    ctx.scheduler.run_after(3600, nothing)


@rdb.query
def traces(ctx: rdb.QueryCtx) -> list[int]:
    """How many runs that left a trace, and how many jobs, were committed."""
    jobs = ctx.db.system.query("_scheduled_functions").count()
    return [ctx.db.query(rows.index("by_kind").eq(TRACE)).count(), jobs]


@rdb.mutation
def nothing(ctx: rdb.MutationCtx, text: str = "") -> None:
    pass


@rdb.mutation
def store(ctx: rdb.MutationCtx, kind: str, value: rdb.Value) -> None:
    leave_trace(ctx)
    ctx.db.insert(rows, {"kind": kind, "value": value})


@rdb.mutation
def fill(ctx: rdb.MutationCtx, kind: str, count: int, size: int = 0) -> None:
    """`count` documents with a text of `size`; no trace."""
    for _ in range(count):
        ctx.db.insert(rows, {"kind": kind, "text": "x" * size})


@rdb.mutation
def write(ctx: rdb.MutationCtx, count: int, size: int = 0) -> None:
    leave_trace(ctx)
    for _ in range(count):
        ctx.db.insert(rows, {"kind": "written", "text": "x" * size})


@rdb.mutation
def read(ctx: rdb.MutationCtx, kind: str, count: int) -> int:
    leave_trace(ctx)
    return len(ctx.db.query(rows.index("by_kind").eq(kind)).take(count))


@rdb.mutation
def look(ctx: rdb.MutationCtx, ranges: int) -> None:
    leave_trace(ctx)
    for number in range(ranges):
        ctx.db.query(rows.index("by_kind").eq(f"kind{number}")).first()


@rdb.mutation
def schedule(ctx: rdb.MutationCtx, count: int, size: int = 0) -> None:
    leave_trace(ctx)
    for _ in range(count):
        ctx.scheduler.run_after(3600, nothing, "x" * size)


@rdb.mutation
def nest(ctx: rdb.MutationCtx, levels: int) -> None:
    if levels:
        ctx.run_mutation(nest, levels - 1)
    else:
        leave_trace(ctx)


@rdb.mutation
def answer(ctx: rdb.MutationCtx, size: int) -> str:
    leave_trace(ctx)
    return "x" * size


@rdb.mutation
def take(ctx: rdb.MutationCtx, text: str) -> int:
    leave_trace(ctx)
    return len(text)


@rdb.query
def log(ctx: rdb.QueryCtx, count: int) -> None:
    for number in range(count):
        print(number)
