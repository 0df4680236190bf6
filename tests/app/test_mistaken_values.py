"""What is a caller told who gives something else than an id, a timestamp, a number of versions or a limit?"""

from __future__ import annotations

import math
from typing import Any

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.testing import FakeClock

rows = rdb.Table("rows")
NO_TEXTS: list[Any] = [None, 5, 1.5, b"x" * 32, [], {"_id": "x"}]


@rdb.mutation
def put(ctx: rdb.MutationCtx, number: int) -> rdb.Id[Any]:
    return ctx.db.insert(rows, {"number": number})


@rdb.mutation
def renumber(ctx: rdb.MutationCtx, id: rdb.Id[Any], number: int) -> None:
    ctx.db.patch(id, {"number": number})


@rdb.query
def numbers(ctx: rdb.QueryCtx) -> list[float]:
    return [row["number"] for row in ctx.db.query(rows)]


def reading(given: Any, door: str) -> rdb.RegisteredQuery[[], Any]:
    @rdb.query
    def read(ctx: rdb.QueryCtx) -> Any:
        match door:
            case "get":
                return ctx.db.get(given)
            case "system":
                return ctx.db.system.get(given)
            case _:
                return ctx.db.normalize_id("rows", given)

    return read


@pytest.mark.parametrize("given", NO_TEXTS)
def test_what_is_no_text_is_no_id(given: Any) -> None:
    for door in ("get", "system"):
        read = reading(given, door)
        with app_of(rows, put, read).open() as db, pytest.raises(rdb.ValidationError) as caught:
            db.query(read)
        assert caught.value.code == "InvalidId"
    read = reading(given, "normalize")
    with app_of(rows, put, read).open() as db:
        assert db.query(read) is None
        with pytest.raises(rdb.ValidationError) as caught:
            db.history(given)
        assert caught.value.code == "InvalidId"


@pytest.mark.parametrize("given", [None, "1", True, 1.5, math.nan, math.inf])
def test_a_timestamp_is_an_integer(given: Any) -> None:
    with app_of(rows, put).open() as db:
        db.mutation(put, 1)
        with pytest.raises(rdb.ValidationError) as caught:
            db.at(given)
    assert caught.value.code == "InvalidTimestamp"


@pytest.mark.parametrize("given", [None, "1", True, 1.5, -1])
def test_a_number_of_versions_is_an_integer_from_0_on(given: Any) -> None:
    with app_of(rows, put).open() as db:
        id = db.mutation(put, 1)
        with pytest.raises(rdb.ValidationError) as caught:
            db.history(id, limit=given)
        assert caught.value.code == "InvalidHistoryLimit"
        assert db.history(id, limit=0) == []


@pytest.mark.parametrize("given", [None, "5", -1, math.nan, True])
def test_a_limit_is_a_number_from_0_on(given: Any) -> None:
    with pytest.raises(rdb.SchemaError) as caught:
        app_of(rows, limits=rdb.Limits(documents_read_max=given))
    assert caught.value.code == "InvalidLimit"
    assert "documents_read_max" in caught.value.message
    no_limits: Any = {"documents_read_max": 5}
    with pytest.raises(rdb.SchemaError) as caught:
        rdb.App(limits=no_limits)
    assert caught.value.code == "InvalidLimit"


def test_a_retention_without_end_keeps_everything() -> None:
    clock = FakeClock()
    limits = rdb.Limits(
        log_retention_s=math.inf, outcome_retention_s=math.inf, finished_job_retention_s=math.inf
    )
    with app_of(rows, put, renumber, numbers, limits=limits).open(clock=clock) as db:
        id = db.mutation(put, 1)
        first = db.latest_ts
        for number in range(2, 5):
            clock.advance(365 * 24 * 3600)
            db.mutation(renumber, id, number)
        assert db.at(first).query(numbers) == [1]
        assert db.retention_report().forgotten_count == 0
