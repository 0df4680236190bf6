"""What can be asked of documents of mixed types? Ranges and ways to consume them, spelt by the caller."""

from typing import Any

import reactivedb as rdb

things = rdb.Table("things", indexes={"by_key": ["key"], "by_kind_key": ["kind", "key"]})


@rdb.mutation
def add(ctx: rdb.MutationCtx, documents: list[dict[str, rdb.Value]]) -> list[rdb.Id[Any]]:
    return [ctx.db.insert(things, document) for document in documents]


def _value(value: Any) -> Any:
    """A range asks for absence by a word, because absence cannot be sent."""
    return rdb.UNSET if value == "<absent>" else value


@rdb.query
def names_in_range(
    ctx: rdb.QueryCtx, index: str, equal: list[rdb.Value], bounds: dict[str, rdb.Value], desc: bool
) -> list[rdb.Value]:
    found: Any = things.index(index).eq(*map(_value, equal))
    for side, value in bounds.items():
        found = getattr(found, side)(_value(value))
    return [thing.get("name") for thing in ctx.db.query(found).order("desc" if desc else "asc")]


@rdb.query
def consumed(ctx: rdb.QueryCtx, kind: str, how: str) -> rdb.Value:
    """`first`, `unique`, or `take(0)` of the things of a kind."""
    found = ctx.db.query(things.index("by_kind_key").eq(kind))
    if how == "unique":
        thing = found.unique()
    elif how == "first":
        thing = found.first()
    else:
        return [thing["name"] for thing in found.take(0)]
    return None if thing is None else thing["name"]


@rdb.query
def names_kept(ctx: rdb.QueryCtx, kind: str, other_than: rdb.Value) -> list[rdb.Value]:
    """Python's filter: a document that lacks the key is another one than any value."""
    found = ctx.db.query(things.index("by_kind_key").eq(kind))
    return [thing["name"] for thing in found.filter(lambda thing: thing.get("key") != other_than)]


@rdb.query
def page_of(ctx: rdb.QueryCtx, options: rdb.PaginationOptions, kind: str) -> rdb.PaginationResult[rdb.Value]:
    found = ctx.db.query(things.index("by_kind_key").eq(kind))
    return found.paginate(options).map(lambda thing: thing["name"])
