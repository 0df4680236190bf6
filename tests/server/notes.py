"""An application for the server's tests: one function of each sort."""

from __future__ import annotations

import reactivedb as rdb


class Note(rdb.Document, table="notes"):
    text: str


@rdb.query
def texts(ctx: rdb.QueryCtx) -> list[str]:
    return [note.text for note in ctx.db.query(Note).collect()]


@rdb.query
def echo(ctx: rdb.QueryCtx, value: rdb.Value) -> rdb.Value:
    return value


@rdb.mutation
def add(ctx: rdb.MutationCtx, text: str) -> None:
    print("adding")
    ctx.db.insert(Note(text=text))


@rdb.mutation
def refuse(ctx: rdb.MutationCtx) -> None:
    raise rdb.ApplicationError({"code": "Refused", "count": rdb.Int64(1)})


@rdb.mutation
def crash(ctx: rdb.MutationCtx) -> None:
    raise RuntimeError("the inner working")


@rdb.internal_query
def hidden(ctx: rdb.QueryCtx) -> str:
    return "seen"


@rdb.action
async def shout(ctx: rdb.ActionCtx, text: str) -> str:
    return text.upper()


@rdb.query
def count_at_most(ctx: rdb.QueryCtx, most: int) -> int:
    return min(most, len(ctx.db.query(Note).collect()))


@rdb.mutation
def clash(ctx: rdb.MutationCtx) -> None:
    raise rdb.ConflictError("others write what this one reads")


@rdb.query
def clash_in_query(ctx: rdb.QueryCtx) -> None:
    raise rdb.ConflictError("others write what this one reads")


@rdb.mutation
def later(ctx: rdb.MutationCtx, text: str, delay_s: float) -> None:
    ctx.scheduler.run_after(delay_s, add, text)
