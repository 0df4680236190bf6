"""Which times can a job be given, and is any other refused before it does harm?"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.testing import FakeClock

rows = rdb.Table("rows")


@rdb.mutation
def run(ctx: rdb.MutationCtx) -> None:
    ctx.db.insert(rows, {})


@rdb.query
def count(ctx: rdb.QueryCtx) -> int:
    return ctx.db.query(rows).count()


def scheduling(when: Any, *, after: bool) -> rdb.RegisteredMutation[[], str]:
    @rdb.mutation
    def schedule(ctx: rdb.MutationCtx) -> str:
        return ctx.scheduler.run_after(when, run) if after else ctx.scheduler.run_at(when, run)

    return schedule


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), 1e300, 1e14, "5", None, True])
def test_a_delay_that_is_no_time_is_refused(delay: Any) -> None:
    schedule = scheduling(delay, after=True)
    with app_of(rows, run, count, schedule).open(clock=FakeClock()) as db:
        with pytest.raises(rdb.ValidationError) as caught:
            db.mutation(schedule)
        assert caught.value.code == "InvalidDelay"
        db.run_until_idle(timeout_s=5)


@pytest.mark.parametrize(
    "when", [float("nan"), float("-inf"), 1e306, -1e306, "5", None, datetime(2030, 1, 1)]
)
def test_a_time_that_is_none_is_refused(when: Any) -> None:
    schedule = scheduling(when, after=False)
    with app_of(rows, run, count, schedule).open(clock=FakeClock()) as db:
        with pytest.raises(rdb.ValidationError) as caught:
            db.mutation(schedule)
        assert caught.value.code == "InvalidTime"
        db.run_until_idle(timeout_s=5)


@pytest.mark.parametrize(("when", "ran"), [(-8.64e15, 1), (0, 1), (8.64e15, 0)])
def test_the_first_and_the_last_time_there_are_can_be_given(when: float, ran: int) -> None:
    schedule = scheduling(when, after=False)
    with app_of(rows, run, count, schedule).open(clock=FakeClock()) as db:
        db.mutation(schedule)
        db.run_until_idle(timeout_s=5)
        assert db.query(count) == ran
