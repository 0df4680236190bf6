"""A table, and functions of each sort on it."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import reactivedb as rdb


class Place(rdb.Model):
    """Where something is."""

    name: str = pydantic.Field(min_length=1, max_length=20)
    floor: int = 0


class Thing(rdb.Document, table="things"):
    """What somebody owns."""

    label: str
    weight: float
    count: rdb.Int64
    place: Place | None = None
    state: Literal["new", "used"] = "new"

    by_label = rdb.Index("label")


@rdb.mutation
def add_thing(
    ctx: rdb.MutationCtx,
    label: Annotated[str, pydantic.Field(pattern="^[a-z]{1,8}$")],
    weight: Annotated[float, pydantic.Field(ge=0, lt=1000)],
    count: rdb.Int64,
    place: Place | None = None,
) -> rdb.Id[Thing]:
    """Add one thing.

    Its state is `new`.
    """
    print("adding", label)
    return ctx.db.insert(Thing(label=label, weight=weight, count=count, place=place))


@rdb.query
def list_things(ctx: rdb.QueryCtx, options: rdb.PaginationOptions) -> rdb.PaginationResult[Thing]:
    """Things in the order of their labels."""
    return ctx.db.query(Thing.by_label).paginate(options)


@rdb.query
def get_thing(ctx: rdb.QueryCtx, id: rdb.Id[Thing]) -> Thing | None:
    return ctx.db.get(id)


@rdb.query
def count_things(ctx: rdb.QueryCtx) -> int:
    return len(ctx.db.query(Thing).take(100))


@rdb.mutation
def refuse(ctx: rdb.MutationCtx, reason: str) -> None:
    raise rdb.ApplicationError({"code": "Refused", "reason": reason})


@rdb.action
async def shout(ctx: rdb.ActionCtx, text: str) -> str:
    """Say it loudly."""
    return text.upper()


class Beat(rdb.Document, table="beats"):
    """Says that somebody is still served."""

    number: int


@rdb.internal_mutation
def beat(ctx: rdb.MutationCtx, number: int) -> None:
    last = ctx.db.query(Beat).first()
    if last is None:
        ctx.db.insert(Beat(number=number))
    else:
        ctx.db.patch(last.id, number=number)


@rdb.query
def last_beat(ctx: rdb.QueryCtx) -> int:
    last = ctx.db.query(Beat).first()
    return -1 if last is None else last.number


@rdb.internal_query
def hidden(ctx: rdb.QueryCtx) -> str:
    """Nobody outside may know of it."""
    return "seen"


router = rdb.HttpRouter()


@router.post("/hooks/thing")
async def hook(ctx: rdb.ActionCtx, request: Request) -> Response:
    """A thing was sold elsewhere."""
    return JSONResponse({})


@router.get(prefix="/pages/")
async def page(ctx: rdb.ActionCtx, request: Request) -> Response:
    return Response("page", headers={"x-route": "prefix"})


@router.get("/pages/exact")
async def exact(ctx: rdb.ActionCtx, request: Request) -> Response:
    return Response("exact", headers={"x-route": "exact"})


@router.get("/crash")
async def crash(ctx: rdb.ActionCtx, request: Request) -> Response:
    raise RuntimeError("the inner working")
