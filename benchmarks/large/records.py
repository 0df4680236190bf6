"""One large table, and what is asked of it."""

from __future__ import annotations

import reactivedb as rdb

TEXT = "a record of an ordinary length, as somebody might type it. " * 3
PER_OWNER = 100


class Record(rdb.Document, table="records"):
    owner: str
    number: int
    # Neighbours in this order were written far apart.
    scattered: int
    text: str

    by_owner = rdb.Index("owner", "number")
    by_scattered = rdb.Index("scattered")


def record(number: int) -> Record:
    """About 300 bytes of JSON. Numbers that follow each other are of one owner."""
    owner = f"owner-{number // PER_OWNER:08}"
    return Record(owner=owner, number=number, scattered=number * 7919 % 1_000_003, text=TEXT)


@rdb.mutation
def fill(ctx: rdb.MutationCtx, first: int, count: int) -> list[rdb.Id[Record]]:
    return [ctx.db.insert(record(number)) for number in range(first, first + count)]


@rdb.mutation
def insert(ctx: rdb.MutationCtx, number: int) -> rdb.Id[Record]:
    return ctx.db.insert(record(number))


@rdb.query
def get(ctx: rdb.QueryCtx, id: rdb.Id[Record]) -> Record | None:
    return ctx.db.get(id)


@rdb.query
def range_of_20(ctx: rdb.QueryCtx, owner: str) -> list[Record]:
    return ctx.db.query(Record.by_owner.eq(owner)).take(20)


@rdb.query
def numbers_of_20(ctx: rdb.QueryCtx, owner: str) -> list[int]:
    return [record.number for record in ctx.db.query(Record.by_owner.eq(owner)).take(20)]


@rdb.query
def scattered_20(ctx: rdb.QueryCtx, start: int) -> list[Record]:
    return ctx.db.query(Record.by_scattered.gte(start)).take(20)


@rdb.query
def count(ctx: rdb.QueryCtx) -> int:
    return ctx.db.query(Record.by_owner).count()


@rdb.query
def page(ctx: rdb.QueryCtx, options: rdb.PaginationOptions) -> rdb.PaginationResult[Record]:
    return ctx.db.query(Record.by_owner).paginate(options)
