"""What does a stored document look like: its id, its creation time, its bounds?"""

from typing import Any

import reactivedb as rdb


class Left(rdb.Document, table="lefts"):
    name: str


class Right(rdb.Document, table="rights"):
    name: str


loose = rdb.Table("loose")


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


@rdb.mutation
def create_loose(ctx: rdb.MutationCtx, fields: dict[str, rdb.Value]) -> str:
    return ctx.db.insert(loose, fields)


@rdb.mutation
def patch(ctx: rdb.MutationCtx, id: rdb.Id[Any], fields: dict[str, rdb.Value], removed: list[str]) -> None:
    """What JavaScript spells as a field that is undefined has to be named here."""
    ctx.db.patch(id, fields | dict.fromkeys(removed, rdb.UNSET))


@rdb.mutation
def replace(ctx: rdb.MutationCtx, id: rdb.Id[Any], fields: dict[str, rdb.Value]) -> None:
    ctx.db.replace(id, fields)


@rdb.query
def get_loose(ctx: rdb.QueryCtx, id: rdb.Id[Any]) -> rdb.Value:
    return ctx.db.get(id)


@rdb.query
def normalized(ctx: rdb.QueryCtx, text: str) -> str | None:
    return ctx.db.normalize_id(Left, text)
