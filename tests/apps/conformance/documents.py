"""What does a stored document look like: its id, its creation time, its bounds?"""

import reactivedb as rdb


class Left(rdb.Document, table="lefts"):
    name: str


class Right(rdb.Document, table="rights"):
    name: str


@rdb.mutation
def create_left(ctx: rdb.MutationCtx, name: str) -> rdb.Id[Left]:
    return ctx.db.insert(Left(name=name))


@rdb.mutation
def create_right(ctx: rdb.MutationCtx, name: str) -> rdb.Id[Right]:
    return ctx.db.insert(Right(name=name))


@rdb.query
def get_left(ctx: rdb.QueryCtx, id: rdb.Id[Left]) -> Left | None:
    return ctx.db.get(id)


@rdb.query
def get_right(ctx: rdb.QueryCtx, id: rdb.Id[Right]) -> Right | None:
    return ctx.db.get(id)


@rdb.query
def find(ctx: rdb.QueryCtx, id: str) -> str | None:
    """Which document has this id, whatever its table?"""
    document = ctx.db.get(id)
    return None if document is None else f"{type(document).__name__} {document.name}"


@rdb.mutation
def create_several(ctx: rdb.MutationCtx, count: int) -> list[float]:
    """Creation times in the order of insertion."""
    ids = [ctx.db.insert(Left(name=str(number))) for number in range(count)]
    return [document.creation_time for left_id in ids if (document := ctx.db.get(left_id)) is not None]
