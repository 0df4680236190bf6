"""In which order do values of every type stand in an index?"""

from typing import Literal

import reactivedb as rdb

mixed = rdb.Table("mixed", indexes={"by_group": ["group", "value"]})


@rdb.mutation
def fill(ctx: rdb.MutationCtx, group: str, values: list[rdb.Value]) -> None:
    for value in values:
        ctx.db.insert(mixed, {"group": group, "value": value})


@rdb.mutation
def add_without_value(ctx: rdb.MutationCtx, group: str) -> None:
    ctx.db.insert(mixed, {"group": group})


@rdb.query
def in_order(ctx: rdb.QueryCtx, group: str, direction: Literal["asc", "desc"]) -> list[rdb.Value]:
    rows = ctx.db.query(mixed.index("by_group").eq(group)).order(direction).collect()
    return [row.get("value", "(absent)") for row in rows]


@rdb.query
def equal_to(ctx: rdb.QueryCtx, group: str, value: rdb.Value) -> list[rdb.Value]:
    return [row["value"] for row in ctx.db.query(mixed.index("by_group").eq(group, value)).collect()]
