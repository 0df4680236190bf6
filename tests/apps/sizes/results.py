"""Functions whose results are as large as is asked for."""

import reactivedb as rdb


class Size(rdb.Document, table="sizes"):
    size_bytes: int


@rdb.query
def small_lists(ctx: rdb.QueryCtx, number: int) -> list[list[list[int]]]:
    """Less than a megabyte of text, and forty times as much in memory."""
    return [[[] for _ in range(8_000)] for _ in range(40)] + [[[number]]]


@rdb.query
def text(ctx: rdb.QueryCtx, number: int, size_bytes: int) -> str:
    return f"{number:09}" + "x" * size_bytes


@rdb.mutation
def resize(ctx: rdb.MutationCtx, size_bytes: int) -> None:
    size = ctx.db.query(Size).first()
    if size is None:
        ctx.db.insert(Size(size_bytes=size_bytes))
    else:
        ctx.db.patch(size.id, size_bytes=size_bytes)


@rdb.query
def sized(ctx: rdb.QueryCtx, number: int) -> str:
    size = ctx.db.query(Size).first()
    return f"{number:09}" + "x" * (0 if size is None else size.size_bytes)


@rdb.mutation
def answer(ctx: rdb.MutationCtx, size_bytes: int) -> str:
    return "y" * size_bytes
