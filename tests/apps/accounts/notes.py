"""Who asks, and what have they written?"""

import reactivedb as rdb


class Note(rdb.Document, table="notes"):
    owner: str
    text: str
    by_owner = rdb.Index("owner")


@rdb.query
def who_am_i(ctx: rdb.QueryCtx) -> str | None:
    user = ctx.auth.get_user_identity()
    return user.subject if user else None


@rdb.query
def mine(ctx: rdb.QueryCtx) -> list[str]:
    user = ctx.auth.get_user_identity()
    if user is None:
        return []
    return [note.text for note in ctx.db.query(Note.by_owner.eq(user.subject))]


@rdb.mutation
def write(ctx: rdb.MutationCtx, text: str) -> None:
    user = ctx.auth.get_user_identity()
    if user is None:
        raise rdb.ApplicationError("sign in first")
    ctx.db.insert(Note(owner=user.subject, text=text))
