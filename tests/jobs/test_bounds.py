"""Can a job be so large, or a limit so low, that it does not end or is never cleared away?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.limits import DEFAULT_LIMITS, MIB
from reactivedb.testing import FakeClock
from reactivedb.values import size_bytes

WEEK_S = 7 * 24 * 3600.0
CALL_MAX = DEFAULT_LIMITS.scheduled_call_size_bytes_max
rows = rdb.Table("rows")


@rdb.mutation
def note(ctx: rdb.MutationCtx, text: str) -> None:
    ctx.db.insert(rows, {"length": len(text)})


@rdb.action
async def note_outside(ctx: rdb.ActionCtx, text: str) -> None:
    await ctx.run_mutation(note, text)


@rdb.mutation
def fail(ctx: rdb.MutationCtx, text: str) -> None:
    raise RuntimeError(text * 1_000_000)


@rdb.action
async def fail_outside(ctx: rdb.ActionCtx, text: str) -> None:
    raise RuntimeError(text * 1_000_000)


@rdb.mutation
def nested(ctx: rdb.MutationCtx, value: Any) -> None:
    ctx.db.insert(rows, {"length": len(value)})


JOBS = {"note": note, "noteOutside": note_outside, "fail": fail, "failOutside": fail_outside}


@rdb.mutation
def schedule(ctx: rdb.MutationCtx, job: str, text: str, count: int = 1) -> None:
    for _ in range(count):
        ctx.scheduler.run_after(1, JOBS[job], text)


@rdb.mutation
def schedule_nested(ctx: rdb.MutationCtx, levels: int) -> None:
    value: Any = 1.0
    for _ in range(levels):
        value = [value]
    ctx.scheduler.run_after(1, nested, value)


@rdb.query
def lengths(ctx: rdb.QueryCtx) -> list[float]:
    return [row["length"] for row in ctx.db.query(rows)]


@rdb.query
def states(ctx: rdb.QueryCtx) -> list[dict[str, str]]:
    return [job["state"] for job in ctx.db.system.query("_scheduled_functions")]


@rdb.query
def job_count(ctx: rdb.QueryCtx) -> int:
    return ctx.db.system.query("_scheduled_functions").count()


def app(**limits: int) -> rdb.App:
    functions = (note, note_outside, fail, fail_outside, nested)
    callers = (schedule, schedule_nested, lengths, states, job_count)
    return app_of(rows, *functions, *callers, limits=rdb.Limits(**limits))


def text_of(size: int) -> str:
    """The text with which the arguments of a job have that size."""
    return "x" * (size - size_bytes({"text": ""}))


def run_out(db: rdb.Database, clock: FakeClock) -> None:
    clock.advance(2)
    db.run_until_idle(timeout_s=30)


@pytest.mark.parametrize("job", ["note", "noteOutside"])
@pytest.mark.parametrize("over", [-1, 0, 1])
def test_the_arguments_of_a_job_may_be_larger_than_a_document(job: str, over: int) -> None:
    clock = FakeClock()
    with app().open(clock=clock) as db:
        text = text_of(CALL_MAX + over)
        if over > 0:
            with pytest.raises(rdb.LimitExceededError) as caught:
                db.mutation(schedule, job, text)
            assert caught.value.code == "ScheduledFunctionArgumentsTooLarge"
            return
        db.mutation(schedule, job, text)
        run_out(db, clock)
        assert db.query(states) == [{"kind": "success"}]
        assert db.query(lengths) == [len(text)]


@pytest.mark.parametrize("over", [0, 1])
def test_the_arguments_of_one_runs_jobs_may_have_sixteen_mebibytes(over: int) -> None:
    with app().open(jobs=False) as db:
        # The largest four, or a fifth one beside them.
        count = 16 * MIB // CALL_MAX
        if over:
            with pytest.raises(rdb.LimitExceededError) as caught:
                db.mutation(schedule, "note", text_of(CALL_MAX), count + 1)
            assert caught.value.code == "ScheduledFunctionsArgumentsTooLarge"
        else:
            db.mutation(schedule, "note", text_of(CALL_MAX), count)
        assert db.query(job_count) == (0 if over else count)


def test_the_arguments_of_a_job_may_nest_as_deep_as_those_of_a_call() -> None:
    clock = FakeClock()
    with app().open(clock=clock) as db:
        db.mutation(schedule_nested, 60)
        run_out(db, clock)
        assert db.query(lengths) == [1]


@pytest.mark.parametrize("job", ["fail", "failOutside"])
def test_a_job_that_failed_with_an_endless_text_has_failed(job: str) -> None:
    clock = FakeClock()
    with app().open(clock=clock) as db:
        db.mutation(schedule, job, "spam ")
        run_out(db, clock)
        [state] = db.query(states)
        assert state["kind"] == "failed"
        assert state["error"].startswith("Uncaught RuntimeError: spam spam")
        assert state["error"].endswith("(truncated)")
        assert len(state["error"]) < 40_000


@pytest.mark.parametrize("job", ["note", "noteOutside"])
@pytest.mark.parametrize("limit", ["read_size_bytes_max", "written_size_bytes_max"])
def test_a_job_ends_however_low_the_limits_of_a_run_are(job: str, limit: str) -> None:
    clock = FakeClock()
    with app(**{limit: 110}).open(clock=clock) as db:
        db.mutation(schedule, job, "x" * 200)
        run_out(db, clock)
        assert db.runtime.jobs.ended == {"success": 1}
        assert db.query(lengths) == [200]


@pytest.mark.parametrize(
    "limits", [{"documents_read_max": 5}, {"read_size_bytes_max": 1_000}, {"documents_written_max": 5}]
)
def test_ended_jobs_are_cleared_away_however_low_the_limits_of_a_run_are(
    limits: dict[str, int], tmp_path: Path
) -> None:
    clock = FakeClock()
    with app().open(tmp_path / "data.db", clock=clock) as db:
        db.mutation(schedule, "note", "x" * 100, 20)
        run_out(db, clock)
    clock.advance(WEEK_S + 10)
    with app(**limits).open(tmp_path / "data.db", clock=clock) as db:
        assert db.query(job_count) == 0
