"""One function for each kind of value: it gives back what it is given."""

from __future__ import annotations

import dataclasses
import enum
from typing import Annotated, Any, Literal, NotRequired

import pydantic
from typing_extensions import TypedDict

import reactivedb as rdb


class Color(enum.Enum):
    RED = "red"
    DEEP = 7


class Point(TypedDict):
    """A point on a page."""

    x: float
    y: NotRequired[float]


@dataclasses.dataclass(frozen=True)
class Size:
    width: int
    height: int = 1


class Circle(rdb.Model):
    kind: Literal["circle"]
    radius: float


class Square(rdb.Model):
    kind: Literal["square"]
    side_length: Annotated[int, pydantic.Field(gt=0, le=100)]
    note: str | None = None


@rdb.query
def null(ctx: rdb.QueryCtx, value: None) -> None:
    return value


@rdb.query
def boolean(ctx: rdb.QueryCtx, value: bool) -> bool:
    return value


@rdb.query
def number(ctx: rdb.QueryCtx, value: float) -> float:
    return value


@rdb.query
def integer(ctx: rdb.QueryCtx, value: int) -> int:
    return value


@rdb.query
def int64(ctx: rdb.QueryCtx, value: rdb.Int64) -> rdb.Int64:
    return value


@rdb.query
def string(ctx: rdb.QueryCtx, value: str) -> str:
    return value


@rdb.query
def binary(ctx: rdb.QueryCtx, value: bytes) -> bytes:
    return value


@rdb.query
def anything(ctx: rdb.QueryCtx, value: rdb.Value) -> rdb.Value:
    return value


@rdb.query
def literal(ctx: rdb.QueryCtx, value: Literal["a", 1, False]) -> Literal["a", 1, False]:
    return value


@rdb.query
def color(ctx: rdb.QueryCtx, value: Color) -> Color:
    return value


@rdb.query
def any_id(ctx: rdb.QueryCtx, value: rdb.Id[Any]) -> rdb.Id[Any]:
    return value


@rdb.query
def array(ctx: rdb.QueryCtx, value: list[int | str]) -> list[int | str]:
    return value


@rdb.query
def record(ctx: rdb.QueryCtx, value: dict[str, float]) -> dict[str, float]:
    return value


@rdb.query
def record_by_id(ctx: rdb.QueryCtx, value: dict[rdb.Id[Any], bool]) -> dict[rdb.Id[Any], bool]:
    return value


@rdb.query
def point(ctx: rdb.QueryCtx, value: Point) -> Point:
    return value


@rdb.query
def size(ctx: rdb.QueryCtx, value: Size) -> Size:
    return value


@rdb.query
def shape(ctx: rdb.QueryCtx, value: Circle | Square) -> Circle | Square:
    """One of two classes, told apart by `kind`."""
    return value


@rdb.query
def mixed(ctx: rdb.QueryCtx, value: rdb.Int64 | float | bytes | None) -> rdb.Int64 | float | bytes | None:
    return value


@rdb.query
def optional(ctx: rdb.QueryCtx, first: str | None = None, second_one: int = 2) -> list[str | int | None]:
    return [first, second_one]


@rdb.query
def constrained(
    ctx: rdb.QueryCtx,
    even: Annotated[int, pydantic.Field(multiple_of=2)],
    short: Annotated[list[bool], pydantic.Field(min_length=1, max_length=3)],
    word: Annotated[str, pydantic.StringConstraints(pattern="^[a-c]+$", max_length=4)] = "a",
) -> None:
    return None


@rdb.query
def unsaid(ctx: rdb.QueryCtx, value=None):  # pyright: ignore[reportMissingParameterType, reportUnknownParameterType]
    return value  # pyright: ignore[reportUnknownVariableType]
