"""What would the queries of `reactive_app` give, and what do they read, if the data were plain lists?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from naive_values import compare, order_key

from reactivedb.values import UNSET

from .reactive_app import ABSENT

Row = dict[str, Any]
FIELDS = {"by_creation_time": (), "by_key": ("key",), "by_kind_key": ("kind", "key")}


@dataclass(frozen=True)
class Read:
    """Which documents a query looked at (`covers`), and which of them it would show (`keeps`).

    One that only counts them (`counts`) does not look at any.
    """

    table: str
    covers: Callable[[Row], bool]
    keeps: Callable[[Row], bool] = lambda row: True
    counts: bool = False

    def touched_by(self, table: str, old: Row | None, new: Row | None) -> bool:
        rows = [row for row in (old, new) if row is not None]
        if self.counts:
            return table == self.table and sum(map(self.covers, rows)) == 1
        return table == self.table and any(map(self.covers, rows)) and any(map(self.keeps, rows))


class Model:
    """Both tables, as rows by id."""

    def __init__(self, tables: dict[str, dict[str, Row]] | None = None) -> None:
        self.tables = tables or {"owners": {}, "things": {}}

    def copy(self) -> Model:
        return Model({name: dict(rows) for name, rows in self.tables.items()})

    def apply(self, step: Any, made: Any) -> tuple[str, Row | None, Row | None]:
        """Make a write; gives the table, the row before and the row after it."""
        rows = self.tables[step["table"]]
        fields = {name: value for name, value in step.get("fields", {}).items() if value != ABSENT}
        if step["do"] == "insert":
            new: Row = {**fields, "_id": made[0], "_creationTime": made[1]}
            rows[made[0]] = new
            return step["table"], None, new
        old = rows.pop(step["id"])
        if step["do"] == "delete":
            return step["table"], old, None
        rows[step["id"]] = new = {**fields, "_id": old["_id"], "_creationTime": old["_creationTime"]}
        return step["table"], old, new

    def look(self, spec: Any) -> tuple[Any, list[Read]]:
        """The result of a query and what it read."""
        return LOOKS[spec["op"]](self, spec)

    def get(self, id: str) -> Row | None:
        return next((rows[id] for rows in self.tables.values() if id in rows), None)


class Scan:
    """A range in its order; `take` consumes some of it."""

    def __init__(self, model: Model, spec: Any) -> None:
        self.fields = FIELDS[spec["index"]]
        self.eq = [UNSET if value == ABSENT else value for value in spec["eq"]]
        self.bounds = {side: UNSET if value == ABSENT else value for side, value in spec["bounds"].items()}
        self.desc: bool = spec["desc"]
        rows = [row for row in model.tables["things"].values() if self.in_range(row)]
        self.rows = sorted(rows, key=self.place, reverse=self.desc)

    def place(self, row: Row) -> tuple[Any, ...]:
        values = [row.get(field, UNSET) for field in self.fields]
        return tuple(map(order_key, (*values, row["_creationTime"], row["_id"])))

    def in_range(self, row: Row) -> bool:
        values = [row.get(field, UNSET) for field in (*self.fields, "_creationTime")]
        if any(compare(value, wanted) != 0 for value, wanted in zip(values, self.eq, strict=False)):
            return False
        value = values[len(self.eq)]
        holds = {"gt": (1,), "gte": (0, 1), "lt": (-1,), "lte": (-1, 0)}
        return all(compare(value, bound) in holds[side] for side, bound in self.bounds.items())

    def whole(self, keeps: Callable[[Row], bool] = lambda row: True) -> Read:
        return Read("things", self.in_range, keeps)

    def up_to(self, last: Row, keeps: Callable[[Row], bool] = lambda row: True) -> Read:
        end = self.place(last)

        def covers(row: Row) -> bool:
            place = self.place(row)
            return self.in_range(row) and (end <= place if self.desc else place <= end)

        return Read("things", covers, keeps)

    def take(
        self, count: float | None, wanted: Callable[[Row], bool], keeps: Callable[[Row], bool]
    ) -> tuple[list[Row], list[Row], list[Read]]:
        """The rows wanted, all rows looked at, and the read."""
        taken: list[Row] = []
        if count == 0:
            return [], [], []
        for position, row in enumerate(self.rows):
            if wanted(row):
                taken.append(row)
            if len(taken) == count:
                return taken, self.rows[: position + 1], [self.up_to(row, keeps)]
        return taken, self.rows, [self.whole(keeps)]


def everything(row: Row) -> bool:
    return True


def shown(rows: list[Row]) -> list[Any]:
    return [[row["_id"], row.get("key", ABSENT), row["size"]] for row in rows]


def by_id(table: str, id: str) -> Read:
    return Read(table, lambda row: row["_id"] == id)


def read_by_id(model: Model, id: str, owners: set[str]) -> Read:
    return by_id("owners" if id in owners or id in model.tables["owners"] else "things", id)


def scan(model: Model, spec: Any) -> tuple[Any, list[Read]]:
    minimum = spec["min"]
    keeps = everything if minimum is None else lambda row: row["size"] >= minimum
    taken, _, reads = Scan(model, spec).take(spec["take"], keeps, keeps)
    return shown(taken), reads


def loop(model: Model, spec: Any) -> tuple[Any, list[Read]]:
    one = Scan(model, spec)
    filters = [lambda row, size=size: row["size"] == size for size in spec["sizes"]]
    return [shown(list(filter(keeps, one.rows))) for keeps in filters], [
        one.whole(keeps) for keeps in filters
    ]


def reading(model: Model, spec: Any) -> tuple[Any, list[Read]]:
    def has_owner(row: Row) -> bool:
        return "owner" in row and row["owner"] in model.tables["owners"]

    taken, seen, reads = Scan(model, spec).take(spec["take"] or 3, has_owner, everything)
    return shown(taken), reads + [by_id("owners", row["owner"]) for row in seen if "owner" in row]


def remembering(model: Model, spec: Any) -> tuple[Any, list[Read]]:
    one = Scan(model, spec)
    first = {row["size"]: row for row in reversed(one.rows)}
    return shown([row for row in one.rows if first[row["size"]] is row]), [one.whole()]


def count(model: Model, spec: Any) -> tuple[Any, list[Read]]:
    one = Scan(model, spec)
    return float(len(one.rows)), [Read("things", one.in_range, counts=True)]


def join(model: Model, spec: Any) -> tuple[Any, list[Read]]:
    taken, _, reads = Scan(model, spec).take(spec["take"] or 4, everything, everything)
    owners = [model.tables["owners"].get(row.get("owner", "")) for row in taken]
    result = [[row["_id"], owner and owner["name"]] for row, owner in zip(taken, owners, strict=True)]
    return result, reads + [by_id("owners", row["owner"]) for row in taken if "owner" in row]


def get(model: Model, spec: Any) -> tuple[Any, list[Read]]:
    found = model.tables[spec["table"]].get(spec["id"])
    return found and found["name" if spec["table"] == "owners" else "size"], [
        by_id(spec["table"], spec["id"])
    ]


def until(model: Model, spec: Any) -> tuple[Any, list[Read]]:
    one, total = Scan(model, spec), 0.0
    for row in one.rows:
        total += row["size"]
        if total >= 5:
            return total, [one.up_to(row)]
    return total, [one.whole()]


LOOKS: dict[str, Callable[[Model, Any], tuple[Any, list[Read]]]] = {
    "scan": scan,
    "loop": loop,
    "reading": reading,
    "remembering": remembering,
    "count": count,
    "join": join,
    "get": get,
    "until": until,
}
