"""Do time and chance stand still while a function runs?"""

import reactivedb as rdb

from . import counter


@rdb.query
def twice(ctx: rdb.QueryCtx) -> list[float]:
    first = ctx.now_ms
    sum(range(100_000))
    return [first, ctx.now_ms]


@rdb.mutation
def count_for_ever(ctx: rdb.MutationCtx, name: str) -> None:
    counter.add(ctx, name, 1)
    while True:
        pass


@rdb.query
def chance(ctx: rdb.QueryCtx) -> list[float]:
    return [ctx.random.random() for _ in range(3)]
