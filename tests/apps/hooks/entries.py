"""What was written, how often, and by whom? The key is the writer's own, so a repeated write shows."""

import reactivedb as rdb


class Entry(rdb.Document, table="entries"):
    key: int
    author: str


@rdb.mutation
def write(ctx: rdb.MutationCtx, key: int) -> rdb.Id[Entry]:
    user = ctx.auth.get_user_identity()
    return ctx.db.insert(Entry(key=key, author=user.subject if user else "nobody"))


@rdb.mutation
def write_then_fail(ctx: rdb.MutationCtx, key: int) -> None:
    write.handler(ctx, key)
    raise rdb.ApplicationError({"refused": key})


@rdb.action
async def write_through_action(ctx: rdb.ActionCtx, key: int) -> rdb.Id[Entry]:
    return await ctx.run_mutation(write, key)


@rdb.query
def everything(ctx: rdb.QueryCtx) -> list[Entry]:
    """The newest first."""
    return ctx.db.query(Entry).order("desc").collect()


@rdb.query
def page_of(ctx: rdb.QueryCtx, options: rdb.PaginationOptions) -> rdb.PaginationResult[Entry]:
    return ctx.db.query(Entry).order("desc").paginate(options)
