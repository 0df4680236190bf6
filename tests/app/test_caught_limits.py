"""Can a function that catches the error of a limit go on, with nothing left of what went too far?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.testing import FakeClock

rows = rdb.Table("rows")


@rdb.mutation
def insert(ctx: rdb.MutationCtx, count: int, text: str = "") -> None:
    for _ in range(count):
        ctx.db.insert(rows, {"text": text})


@rdb.mutation
def schedule(ctx: rdb.MutationCtx, count: int, text: str = "") -> None:
    for _ in range(count):
        ctx.scheduler.run_after(1000, insert, 1, text)


TOO_MUCH: dict[str, Callable[[rdb.MutationCtx], None]] = {
    "TooManyDocumentsWritten": lambda ctx: ctx.run_mutation(insert, 11),
    "TooManyBytesWritten": lambda ctx: ctx.run_mutation(insert, 2, "x" * 600),
    "TooManyFunctionsScheduled": lambda ctx: ctx.run_mutation(schedule, 6),
    "ScheduledFunctionsArgumentsTooLarge": lambda ctx: ctx.run_mutation(schedule, 2, "x" * 600),
}


@rdb.mutation
def go_on_after(ctx: rdb.MutationCtx, code: str, work: str) -> None:
    """As much as one run may do, but for two documents."""
    with pytest.raises(rdb.LimitExceededError) as caught:
        TOO_MUCH[code](ctx)
    assert caught.value.code == code
    if work == "insert":
        ctx.run_mutation(insert, 8)
    else:
        ctx.run_mutation(schedule, 5)


@rdb.mutation
def write_less(ctx: rdb.MutationCtx) -> None:
    with pytest.raises(rdb.LimitExceededError):
        ctx.db.insert(rows, {"text": "x" * 2_000})
    ctx.db.insert(rows, {"text": "x" * 300})
    with pytest.raises(rdb.LimitExceededError):
        ctx.scheduler.run_after(1000, insert, 1, "x" * 2_000)
    ctx.scheduler.run_after(1000, insert, 1, "x" * 300)


@rdb.action
async def schedule_at_once(ctx: rdb.ActionCtx, count: int) -> None:
    await asyncio.gather(*(ctx.scheduler.run_after(1000, insert, 1) for _ in range(count)))


@rdb.mutation
def insert_texts(ctx: rdb.MutationCtx, texts: list[str]) -> list[str]:
    return [ctx.db.insert(rows, {"text": text}) for text in texts]


@rdb.query
def read_less(ctx: rdb.QueryCtx, long: str, short: str) -> object:
    with pytest.raises(rdb.LimitExceededError) as caught:
        ctx.db.get(rdb.Id[Any](long))
    assert caught.value.code == "TooManyBytesRead"
    return ctx.db.get(rdb.Id[Any](short))


@rdb.query
def read_once_more(ctx: rdb.QueryCtx, id: str) -> list[Any]:
    for _ in range(3):
        ctx.db.query(rows).count()
        ctx.db.get(rdb.Id[Any](id))
    asked: list[Any] = []
    for _ in range(2):
        for read in (lambda: ctx.db.query(rows).count(), lambda: ctx.db.get(rdb.Id[Any](id))):
            with pytest.raises(rdb.LimitExceededError) as caught:
                read()
            asked.append(caught.value.asked)
    return asked


@rdb.query
def counts(ctx: rdb.QueryCtx) -> list[int]:
    return [ctx.db.query(rows).count(), ctx.db.system.query("_scheduled_functions").count()]


LIMITS = rdb.Limits(
    documents_written_max=10,
    written_size_bytes_max=1_200,
    scheduled_max=5,
    scheduled_args_size_bytes_max=1_000,
)


def opened() -> rdb.Database:
    app = app_of(rows, insert, schedule, go_on_after, write_less, schedule_at_once, counts, limits=LIMITS)
    return app.open(clock=FakeClock(), jobs=False)


@pytest.mark.parametrize(("work", "made"), [("insert", [8, 0]), ("schedule", [0, 5])])
@pytest.mark.parametrize("code", list(TOO_MUCH))
def test_what_a_failed_nested_call_had_written_is_not_counted(code: str, work: str, made: list[int]) -> None:
    with opened() as db:
        db.mutation(go_on_after, code, work)
        assert db.query(counts) == made


def test_a_write_that_was_refused_is_not_counted() -> None:
    with opened() as db:
        db.mutation(write_less)
        assert db.query(counts) == [1, 1]


@pytest.mark.parametrize(("count", "fits"), [(4, True), (5, True), (6, False)])
def test_an_action_may_schedule_as_many_jobs_as_a_mutation(count: int, fits: bool) -> None:
    with opened() as db:
        if fits:
            db.action(schedule_at_once, count)
        else:
            with pytest.raises(rdb.LimitExceededError) as caught:
                db.action(schedule_at_once, count)
            assert (caught.value.code, caught.value.asked) == ("TooManyFunctionsScheduled", count)
        assert db.query(counts) == [0, min(count, 5)]


def test_a_read_that_was_refused_is_not_counted() -> None:
    with app_of(rows, insert_texts, read_less, limits=rdb.Limits(read_size_bytes_max=1_000)).open() as db:
        long, short = db.mutation(insert_texts, ["x" * 2_000, "x" * 500])
        assert db.query(read_less, long, short)


def test_each_refusal_of_a_read_says_the_same_count() -> None:
    limits = rdb.Limits(ranges_read_max=3, documents_read_max=3)
    with app_of(rows, insert_texts, read_once_more, limits=limits).open() as db:
        [id] = db.mutation(insert_texts, ["x"])
        assert db.query(read_once_more, id) == [4, 4, 4, 4]
