"""Is an internal function out of reach from outside, yet in reach of other functions?"""

import reactivedb as rdb


@rdb.internal_query
def secret(ctx: rdb.QueryCtx) -> str:
    return "internal"


@rdb.internal_mutation
def secret_mutation(ctx: rdb.MutationCtx) -> str:
    return "internal"


@rdb.internal_action
async def secret_action(ctx: rdb.ActionCtx) -> str:
    return "internal"


@rdb.query
def through_query(ctx: rdb.QueryCtx) -> str:
    return ctx.run_query(secret)
