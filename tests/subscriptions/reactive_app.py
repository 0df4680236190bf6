"""The application of the reactive invariant: it runs whatever query or list of writes it is handed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from inline_app import app_of

import reactivedb as rdb
from reactivedb.values import to_jsonable

ABSENT = "<absent>"


class Owner(rdb.Document, table="owners"):
    name: str


things = rdb.Table("things", indexes={"by_key": ["key"], "by_kind_key": ["kind", "key"]})


def label_of(spec: Any) -> str:
    """One text per query."""
    return json.dumps(to_jsonable(spec), sort_keys=True)


def invariant_app(runs: Counter[str]) -> rdb.App:
    """`runs` counts how often each query ran."""

    @rdb.query
    def look(ctx: rdb.QueryCtx, spec: rdb.Value) -> rdb.Value:
        runs[label_of(spec)] += 1
        return LOOKS[spec["op"]](ctx, spec)

    @rdb.mutation
    def write(ctx: rdb.MutationCtx, steps: list[rdb.Value]) -> list[rdb.Value]:
        return [_write(ctx.db, step) for step in steps]

    return app_of(Owner, things, look, write)


def _write(db: Any, step: Any) -> Any:
    """What was made: id and creation time; of other steps nothing."""
    fields = {name: value for name, value in step.get("fields", {}).items() if value != ABSENT}
    match step["do"]:
        case "insert" if step["table"] == "owners":
            id = db.insert(Owner(**fields))
            return [str(id), db.get(id).creation_time]
        case "insert":
            id = db.insert(things, fields)
            return [str(id), db.get(id)["_creationTime"]]
        case "replace" if step["table"] == "owners":
            db.replace(step["id"], Owner(**fields))
        case "replace":
            db.replace(step["id"], fields)
        case _:
            db.delete(step["id"])
    return None


def _range(spec: Any) -> Any:
    bound = things.index(spec["index"])
    chosen: Any = bound
    if spec["eq"]:
        chosen = bound.eq(*map(_value, spec["eq"]))
    for side, value in spec["bounds"].items():
        chosen = getattr(chosen, side)(_value(value))
    return chosen


def _value(value: Any) -> Any:
    return rdb.UNSET if value == ABSENT else value


def _ordered(ctx: rdb.QueryCtx, spec: Any) -> Any:
    return ctx.db.query(_range(spec)).order("desc" if spec["desc"] else "asc")


def _shown(found: Any) -> list[Any]:
    return [[thing["_id"], thing.get("key", ABSENT), thing["size"]] for thing in found]


def _scan(ctx: rdb.QueryCtx, spec: Any) -> Any:
    """A range, filtered by what a later write can be asked about, up to a number."""
    found, minimum = _ordered(ctx, spec), spec["min"]
    if minimum is not None:
        found = found.filter(lambda thing: thing["size"] >= minimum)
    return _shown(found if spec["take"] is None else found.take(int(spec["take"])))


def _loop(ctx: rdb.QueryCtx, spec: Any) -> Any:
    """The same range twice, with a filter that captures the loop's variable."""
    result: list[Any] = []
    for size in spec["sizes"]:
        found = _ordered(ctx, spec).filter(lambda thing: thing["size"] == size)  # noqa: B023
        result.append(_shown(found))
    return result


def _filter_that_reads(ctx: rdb.QueryCtx, spec: Any) -> Any:
    def has_owner(thing: dict[str, Any]) -> bool:
        return "owner" in thing and ctx.db.get(thing["owner"]) is not None

    return _shown(_ordered(ctx, spec).filter(has_owner).take(int(spec["take"] or 3)))


def _filter_that_remembers(ctx: rdb.QueryCtx, spec: Any) -> Any:
    seen: set[float] = set()

    def is_new_size(thing: dict[str, Any]) -> bool:
        is_new = thing["size"] not in seen
        seen.add(thing["size"])
        return is_new

    return _shown(_ordered(ctx, spec).filter(is_new_size))


def _count(ctx: rdb.QueryCtx, spec: Any) -> Any:
    return _ordered(ctx, spec).count()


def _join(ctx: rdb.QueryCtx, spec: Any) -> Any:
    result: list[Any] = []
    for thing in _ordered(ctx, spec).take(int(spec["take"] or 4)):
        owner = ctx.db.get(thing["owner"]) if "owner" in thing else None
        result.append([thing["_id"], owner.name if owner is not None else None])
    return result


def _get(ctx: rdb.QueryCtx, spec: Any) -> Any:
    found = ctx.db.get(spec["id"])
    return found.name if isinstance(found, Owner) else found and found["size"]


def _until(ctx: rdb.QueryCtx, spec: Any) -> Any:
    """A loop that is left in the middle."""
    total = 0.0
    for thing in _ordered(ctx, spec):
        total += thing["size"]
        if total >= 5:
            break
    return total


LOOKS: dict[str, Callable[[rdb.QueryCtx, Any], Any]] = {
    "scan": _scan,
    "loop": _loop,
    "reading": _filter_that_reads,
    "remembering": _filter_that_remembers,
    "count": _count,
    "join": _join,
    "get": _get,
    "until": _until,
}
