"""h.69-h.73, h.77, h.78: do ranges and pages give npm's client what Convex would?"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from reactivedb.values import UNSET, Int64, encode

from .conftest import JsRun, StartsScript
from .proxy import CuttingProxy
from .server import APPS, DevServer

sys.path.insert(0, str(Path(__file__).parent.parent / "values"))
from naive_values import compare, order_key

ABSENT = "<absent>"
KEYS: list[Any] = [ABSENT, None, Int64(-2), Int64(1), float("-inf"), -0.0, 0.0, 1.0, 2.5, float("nan"), False]
KEYS += [True, "", "Z", "a", "ab", "é", "\uffff", "😀", b"", b"a", [], [1.0], [1.0, None], {}, {"x": 1.0}]
BOUNDS: list[list[str]] = [[], ["gt"], ["gte"], ["lt"], ["lte"], ["gte", "lt"], ["gt", "lte"]]


APP = APPS / "pages"


def real(value: Any) -> Any:
    return UNSET if value == ABSENT else value


def within(key: Any, bounds: dict[str, Any]) -> bool:
    orders = {side: compare(key, real(value)) for side, value in bounds.items()}
    holds = {"gt": (1,), "gte": (0, 1), "lt": (-1,), "lte": (-1, 0)}
    return all(order in holds[side] for side, order in orders.items())


def mixed_ranges(source: random.Random) -> dict[str, Any]:
    """Documents of mixed types, and ranges over them with the names that plain sorting gives."""
    rows = [
        {"name": f"n{number}", "kind": source.choice("ab"), "key": source.choice(KEYS)}
        for number in range(60)
    ]
    place = {row["name"]: number for number, row in enumerate(rows)}
    ranges: list[dict[str, Any]] = []
    for _ in range(150):
        index = source.choice(["by_key", "by_kind_key"])
        equal: list[Any] = [source.choice("ab")] if index == "by_kind_key" else []
        found = [row for row in rows if not equal or row["kind"] == equal[0]]
        bounds: dict[str, Any] = {}
        if source.random() < 0.3:
            equal.append(source.choice(KEYS))
            found = [row for row in found if compare(real(row["key"]), real(equal[-1])) == 0]
        else:
            bounds = {side: source.choice(KEYS) for side in source.choice(BOUNDS)}
            found = [row for row in found if within(real(row["key"]), bounds)]
        desc = source.random() < 0.5
        found.sort(key=lambda row: (order_key(real(row["key"])), place[row["name"]]), reverse=desc)
        asked = {"index": index, "equal": equal, "bounds": bounds, "desc": desc}
        ranges.append({"asked": sent(asked), "expected": [row["name"] for row in found]})
    documents = [{name: value for name, value in row.items() if value != ABSENT} for row in rows]
    return {"documents": [sent(document) for document in documents], "ranges": ranges}


def sent(value: Any) -> Any:
    return json.loads(encode(value))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_h69_ranges_give_the_rows_and_the_order_of_plain_sorting(js: JsRun, seed: int) -> None:
    js("pages", "ranges", **mixed_ranges(random.Random(seed)))


def test_h70_a_missing_field_is_no_null_and_less_than_everything(js: JsRun) -> None:
    js("pages", "absence")


def test_h71_ties_in_an_index_are_in_the_order_of_creation(js: JsRun) -> None:
    js("pages", "ties")


def test_h72_unique_refuses_two_first_may_find_none_and_take_0_is_empty(js: JsRun) -> None:
    js("pages", "consuming")


def test_h73_pages_of_any_size_visit_every_row_once_and_in_order(js: JsRun) -> None:
    js("pages", "everyPageSize")


def test_h77_a_cursor_of_another_query_is_an_invalid_cursor(js: JsRun) -> None:
    js("pages", "foreignCursor")


@pytest.mark.parametrize("loss", ["cut", "stop", "kill"])
def test_h78_cursor_and_journal_survive_a_reconnect_and_a_restart(
    node: StartsScript, server: DevServer, proxy: CuttingProxy, loss: str
) -> None:
    script = node("pages", "survival", proxy.url)
    script.hear("watching")
    if loss == "cut":
        proxy.cut()
    else:
        getattr(server, loss)()
        server.start()
    script.tell("go on")
    script.finish()
