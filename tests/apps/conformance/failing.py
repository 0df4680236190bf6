"""How does a failure reach the caller, with data and without?"""

import reactivedb as rdb


@rdb.query
def told_by_query(ctx: rdb.QueryCtx, data: rdb.Value) -> None:
    raise rdb.ApplicationError(data)


@rdb.mutation
def told_by_mutation(ctx: rdb.MutationCtx, data: rdb.Value) -> None:
    raise rdb.ApplicationError(data)


@rdb.action
async def told_by_action(ctx: rdb.ActionCtx, data: rdb.Value) -> None:
    raise rdb.ApplicationError(data)


@rdb.query
def plain_query(ctx: rdb.QueryCtx) -> None:
    raise ValueError("a plain failure")


@rdb.mutation
def plain_mutation(ctx: rdb.MutationCtx) -> None:
    raise ValueError("a plain failure")


@rdb.action
async def plain_action(ctx: rdb.ActionCtx) -> None:
    raise ValueError("a plain failure")
