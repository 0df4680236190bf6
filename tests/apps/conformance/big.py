"""How large may a result be, and how large what is stored?"""

import reactivedb as rdb

MEGABYTE = 1_000_000

blobs = rdb.Table("blobs")


@rdb.query
def text(ctx: rdb.QueryCtx, megabytes: int) -> list[str]:
    """`megabytes` strings of a million characters each."""
    return [str(number % 10) * MEGABYTE for number in range(megabytes)]


@rdb.mutation
def store(ctx: rdb.MutationCtx, value: rdb.Value) -> str:
    return ctx.db.insert(blobs, {"value": value})
