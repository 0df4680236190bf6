"""What the victim does, and functions of each shape that strangers send something to."""

from __future__ import annotations

import reactivedb as rdb


class Counter(rdb.Document, table="counters"):
    name: str
    count: int

    by_name = rdb.Index("name")


class Blob(rdb.Document, table="blobs"):
    number: int
    value: rdb.Value

    by_number = rdb.Index("number")


@rdb.mutation
def open_counter(ctx: rdb.MutationCtx, name: str) -> rdb.Id[Counter]:
    return ctx.db.insert(Counter(name=name, count=0))


@rdb.mutation
def increase(ctx: rdb.MutationCtx, counter_id: rdb.Id[Counter]) -> int:
    counter = ctx.db.get(counter_id)
    assert counter is not None
    ctx.db.patch(counter_id, count=counter.count + 1)
    return counter.count + 1


@rdb.query
def count(ctx: rdb.QueryCtx, counter_id: rdb.Id[Counter]) -> int:
    counter = ctx.db.get(counter_id)
    assert counter is not None
    return counter.count


@rdb.mutation
def take_text(ctx: rdb.MutationCtx, text: str) -> None: ...


@rdb.mutation
def take_value(ctx: rdb.MutationCtx, value: rdb.Value) -> None: ...


@rdb.mutation
def take_id(ctx: rdb.MutationCtx, id: rdb.Id[Counter]) -> None: ...


@rdb.mutation
def answer(ctx: rdb.MutationCtx, size_bytes: int) -> str:
    """The answer is recorded, so that a client that comes back gets it again."""
    return "x" * size_bytes


@rdb.query
def number(ctx: rdb.QueryCtx, number: int) -> int:
    return number


@rdb.query
def filled(ctx: rdb.QueryCtx, number: int, size_bytes: int) -> str:
    """A large text, which is another one when the counter `turn` was increased."""
    turn = ctx.db.query(Counter.by_name.eq("turn")).first()
    return f"{number} {turn and turn.count} ".ljust(size_bytes, "x")


@rdb.mutation
def keep(ctx: rdb.MutationCtx, number: int) -> rdb.Id[Blob]:
    """A document of 0.96 MB, decoded some twenty times that."""
    row: list[rdb.Value] = [[]] * 8_000
    table: list[rdb.Value] = [row] * 40
    return ctx.db.insert(Blob(number=number, value=table))


@rdb.query
def kept(ctx: rdb.QueryCtx, number: int, variant: int) -> Blob | None:
    """Another live query for each `variant`."""
    return ctx.db.query(Blob.by_number.eq(number)).first()


@rdb.query
def length(ctx: rdb.QueryCtx, number: int) -> int:
    """Has the document decoded."""
    blob = ctx.db.query(Blob.by_number.eq(number)).first()
    assert blob is not None
    assert isinstance(blob.value, list)
    return len(blob.value)
