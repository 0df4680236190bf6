"""Is an action that asks for it tried again, so often and not more, over restarts too?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.app import Database
from reactivedb.testing import FakeClock

failures: list[int] = []


@rdb.internal_action(retry=rdb.Retry(max_attempts=3, delay_s=10, factor=3))
async def flaky(ctx: rdb.ActionCtx, fails: int) -> None:
    if len(failures) < fails:
        failures.append(1)
        raise ValueError("no")


@rdb.internal_action
async def once(ctx: rdb.ActionCtx, fails: int) -> None:
    failures.append(1)
    raise ValueError("no")


@rdb.mutation
def start(ctx: rdb.MutationCtx, fails: int) -> str:
    return ctx.scheduler.run_after(0, flaky, fails)


@rdb.mutation
def start_once(ctx: rdb.MutationCtx) -> str:
    return ctx.scheduler.run_after(0, once, 1)


@rdb.mutation
def cancel(ctx: rdb.MutationCtx, id: str) -> None:
    ctx.scheduler.cancel(id)


@rdb.query
def job(ctx: rdb.QueryCtx, id: str) -> Any:
    return ctx.db.system.get(id)


MEMBERS = (flaky, once, start, start_once, cancel, job)


@pytest.fixture
def clock() -> FakeClock:
    failures.clear()
    return FakeClock()


def kind_after(db: Database, clock: FakeClock, seconds: float, id: str) -> str:
    clock.advance(seconds)
    db.run_until_idle()
    return db.query(job, id)["state"]["kind"]


def test_a_failed_action_is_tried_again_after_growing_times(clock: FakeClock) -> None:
    with app_of(*MEMBERS).open(clock=clock) as db:
        id = db.mutation(start, 2)
        kinds = [kind_after(db, clock, seconds, id) for seconds in (0, 9, 1, 29, 1)]
        assert kinds == ["pending", "pending", "pending", "pending", "success"]
        assert db.query(job, id)["attempt"] == 3
    assert len(failures) == 2


def test_the_last_attempt_that_fails_is_the_end(clock: FakeClock) -> None:
    with app_of(*MEMBERS).open(clock=clock) as db:
        id = db.mutation(start, 9)
        kinds = [kind_after(db, clock, seconds, id) for seconds in (0, 100, 100, 100)]
        assert kinds == ["pending", "pending", "failed", "failed"]
        assert "ValueError: no" in db.query(job, id)["state"]["error"]
    assert len(failures) == 3


def test_without_a_retry_an_action_runs_at_most_once(clock: FakeClock) -> None:
    with app_of(*MEMBERS).open(clock=clock) as db:
        id = db.mutation(start_once)
        assert [kind_after(db, clock, 100, id) for _ in range(2)] == ["failed", "failed"]
        assert "attempt" not in db.query(job, id)
    assert len(failures) == 1


def test_a_cancelled_job_is_not_tried_again(clock: FakeClock) -> None:
    with app_of(*MEMBERS).open(clock=clock) as db:
        id = db.mutation(start, 9)
        db.run_until_idle()
        db.mutation(cancel, id)
        assert kind_after(db, clock, 100, id) == "canceled"
    assert len(failures) == 1


def test_an_action_that_ended_with_its_process_is_tried_again(clock: FakeClock, tmp_path: Path) -> None:
    app, path = app_of(*MEMBERS), tmp_path / "data.db"
    with app.open(path, clock=clock, jobs=False) as db:
        id = db.mutation(start, 0)
        db.runtime.jobs._mark_running(id)  # pyright: ignore[reportPrivateUsage]  # then the process is killed
    with app.open(path, clock=clock) as db:
        db.run_until_idle()
        assert db.query(job, id)["state"]["kind"] == "pending"
        assert kind_after(db, clock, 10, id) == "success"


@pytest.mark.parametrize("how", [{"max_attempts": 0}, {"max_attempts": 2, "factor": 0.5}])
def test_a_retry_that_is_none_is_refused(how: dict[str, Any]) -> None:
    with pytest.raises(rdb.SchemaError) as caught:
        rdb.Retry(**how)
    assert caught.value.code == "InvalidRetry"


def test_delays_grow_to_their_bound() -> None:
    retry = rdb.Retry(max_attempts=10_000, delay_s_max=5)
    assert [retry.delay_s_after(attempt) for attempt in (1, 2, 3, 4, 9_999)] == [1, 2, 4, 5, 5]
