"""What is there to do? Something quick, and something that never ends."""

import anyio

import reactivedb as rdb


class Count(rdb.Document, table="counts"):
    value: int


@rdb.query
def value(ctx: rdb.QueryCtx) -> int:
    found = ctx.db.query(Count).first()
    return 0 if found is None else found.value


@rdb.mutation
def increment(ctx: rdb.MutationCtx) -> None:
    found = ctx.db.query(Count).first()
    if found is None:
        ctx.db.insert(Count(value=1))
    else:
        ctx.db.patch(found.id, value=found.value + 1)


@rdb.action
async def wait(ctx: rdb.ActionCtx) -> None:
    await anyio.sleep_forever()
