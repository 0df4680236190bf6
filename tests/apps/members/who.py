"""Who asks, who writes, and what does nobody outside reach?"""

import reactivedb as rdb


class Line(rdb.Document, table="lines"):
    author: str
    text: str


@rdb.query
def am_i(ctx: rdb.QueryCtx) -> str | None:
    user = ctx.auth.get_user_identity()
    return user.token_identifier if user else None


@rdb.query
def profile(ctx: rdb.QueryCtx) -> dict[str, rdb.Value] | None:
    user = ctx.auth.get_user_identity()
    if user is None:
        return None
    return {"subject": user.subject, "issuer": user.issuer, "name": user.name, "role": user.get("role")}


@rdb.query
def line_count(ctx: rdb.QueryCtx) -> int:
    return ctx.db.query(Line).count()


@rdb.mutation
def write(ctx: rdb.MutationCtx, text: str) -> str:
    user = ctx.auth.get_user_identity()
    author = user.subject if user else "nobody"
    ctx.db.insert(Line(author=author, text=text))
    return author


@rdb.action
async def act(ctx: rdb.ActionCtx) -> list[str | None]:
    user = ctx.auth.get_user_identity()
    return [user.subject if user else None, await ctx.run_query(am_i)]


@rdb.internal_query
def hidden(ctx: rdb.QueryCtx) -> str:
    return "internal"


@rdb.internal_mutation
def hidden_mutation(ctx: rdb.MutationCtx) -> str:
    return "internal"


@rdb.internal_action
async def hidden_action(ctx: rdb.ActionCtx) -> str:
    return "internal"
