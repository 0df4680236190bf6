"""Do time and chance stand still while a function runs?"""

import reactivedb as rdb


@rdb.query
def twice(ctx: rdb.QueryCtx) -> list[float]:
    first = ctx.now_ms
    sum(range(100_000))
    return [first, ctx.now_ms]


@rdb.query
def chance(ctx: rdb.QueryCtx) -> list[float]:
    return [ctx.random.random() for _ in range(3)]
