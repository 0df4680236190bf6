"""Does a value come back as it was sent?

The stored variant goes through a table, so that the value also passes the storage format.
"""

import reactivedb as rdb

echoes = rdb.Table("echoes")


@rdb.query
def from_query(ctx: rdb.QueryCtx, value: rdb.Value) -> rdb.Value:
    return value


@rdb.mutation
def from_mutation(ctx: rdb.MutationCtx, value: rdb.Value) -> rdb.Value:
    return value


@rdb.action
async def from_action(ctx: rdb.ActionCtx, value: rdb.Value) -> rdb.Value:
    return value


@rdb.mutation
def store(ctx: rdb.MutationCtx, value: rdb.Value) -> str:
    return ctx.db.insert(echoes, {"value": value})


@rdb.query
def stored(ctx: rdb.QueryCtx, id: str) -> rdb.Value:
    document = ctx.db.get(id)
    return None if document is None else document["value"]


@rdb.query
def field_names(ctx: rdb.QueryCtx, value: dict[str, rdb.Value]) -> list[str]:
    return sorted(value)


@rdb.query
def type_name(ctx: rdb.QueryCtx, value: rdb.Value) -> str:
    return type(value).__name__


@rdb.query
def nothing(ctx: rdb.QueryCtx) -> None:
    return


@rdb.action
async def nothing_done(ctx: rdb.ActionCtx) -> None:
    return


@rdb.mutation
def nothing_written(ctx: rdb.MutationCtx) -> None:
    return
