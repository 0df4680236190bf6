"""Do counters count right, alone and two at a time?"""

import reactivedb as rdb


class Counter(rdb.Document, table="counters"):
    name: str
    value: int

    by_name = rdb.Index("name")


def read(ctx: rdb.QueryCtx, name: str) -> int:
    counter = ctx.db.query(Counter.by_name.eq(name)).unique()
    return 0 if counter is None else counter.value


def add(ctx: rdb.MutationCtx, name: str, by: int) -> int:
    counter = ctx.db.query(Counter.by_name.eq(name)).unique()
    if counter is None:
        ctx.db.insert(Counter(name=name, value=by))
        return by
    ctx.db.patch(counter.id, value=counter.value + by)
    return counter.value + by


@rdb.query
def value(ctx: rdb.QueryCtx, name: str) -> int:
    return read(ctx, name)


@rdb.query
def value_up_to(ctx: rdb.QueryCtx, name: str, limit: int) -> int:
    """Fails while the counter stands above `limit`."""
    if (current := read(ctx, name)) > limit:
        raise ValueError(f"the counter stands at {current}, above {limit}")
    return current


@rdb.mutation
def increment(ctx: rdb.MutationCtx, name: str, by: int = 1) -> int:
    return add(ctx, name, by)


@rdb.mutation
def transfer(ctx: rdb.MutationCtx, source: str, target: str, amount: int) -> None:
    add(ctx, source, -amount)
    add(ctx, target, amount)


@rdb.mutation
def increment_then_fail(ctx: rdb.MutationCtx, name: str) -> None:
    add(ctx, name, 1)
    raise ValueError("the writes before this line must be undone")
