"""Who is talking?"""

from pydantic import Field

import reactivedb as rdb

from .tables import User


@rdb.mutation
def ensure(ctx: rdb.MutationCtx, client_user_id: str, name: str) -> rdb.Id[User]:
    """Register a browser, or give the one that is known its new name."""
    return ctx.db.upsert(User.by_client_user_id.eq(client_user_id), name=name).id


class UserView(rdb.Model):
    """A user without the browser's key, which is nobody else's business."""

    id: rdb.Id[User] = Field(alias="_id")
    name: str


@rdb.query
def list_(ctx: rdb.QueryCtx) -> list[UserView]:
    return [UserView(_id=user.id, name=user.name) for user in ctx.db.query(User).order("desc").take(100)]
