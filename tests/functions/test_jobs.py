"""When does a scheduled job run, how often, and what does its row say?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from inline_app import FlakyStorage, app_of

import reactivedb as rdb
from reactivedb.app import Database, RunLog
from reactivedb.functions import ADMIN, JOBS
from reactivedb.testing import FakeClock


class Note(rdb.Document, table="notes"):
    text: str


@rdb.internal_mutation
def write(ctx: rdb.MutationCtx, text: str) -> None:
    ctx.db.insert(Note(text=text))


@rdb.internal_mutation
def fail(ctx: rdb.MutationCtx, text: str) -> None:
    ctx.db.insert(Note(text=text))
    raise ValueError("no")


@rdb.internal_action
async def act(ctx: rdb.ActionCtx, text: str) -> None:
    await ctx.run_mutation(write, text=f"{text} done")


@rdb.mutation
def later(ctx: rdb.MutationCtx, which: str, delay: float, text: str = "x") -> str:
    return ctx.scheduler.run_after(delay, {"write": write, "fail": fail, "act": act}[which], text=text)


@rdb.mutation
def at(ctx: rdb.MutationCtx, when: float) -> str:
    return ctx.scheduler.run_at(when, write, text="at")


@rdb.mutation
def cancel(ctx: rdb.MutationCtx, id: str) -> None:
    ctx.scheduler.cancel(id)


@rdb.mutation
def change_of_mind(ctx: rdb.MutationCtx) -> None:
    ctx.scheduler.run_after(0, write, text="never")
    raise rdb.ApplicationError("no")


@rdb.internal_mutation
def chain(ctx: rdb.MutationCtx, left: int) -> None:
    ctx.db.insert(Note(text=str(left)))
    if left:
        ctx.scheduler.run_after(0, chain, left - 1)


@rdb.mutation
def start_chain(ctx: rdb.MutationCtx) -> None:
    ctx.scheduler.run_after(0, chain, 20)


@rdb.query
def texts(ctx: rdb.QueryCtx) -> list[str]:
    return [note.text for note in ctx.db.query(Note)]


@rdb.query
def state(ctx: rdb.QueryCtx, id: str) -> rdb.Value:
    row = ctx.db.system.get(id)
    return row and row["state"]


@rdb.query
def rows(ctx: rdb.QueryCtx) -> list[Any]:
    return ctx.db.system.query("_scheduled_functions").collect()


MEMBERS = (Note, write, fail, act, later, at, cancel, change_of_mind, chain, start_chain, texts, state)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def kind_of(db: Database, id: str) -> Any:
    return db.query(state, id)["kind"]  # type: ignore[index,call-overload]  # a value of the wire


def test_a_job_runs_when_its_time_has_come_and_not_before(clock: FakeClock) -> None:
    with app_of(*MEMBERS).open(clock=clock) as db:
        id = db.mutation(later, "write", 60)
        db.run_until_idle()
        assert (db.query(texts), kind_of(db, id)) == ([], "pending")
        clock.advance(59.999)
        db.run_until_idle()
        assert db.query(texts) == []
        clock.advance(0.001)
        db.run_until_idle()
        assert (db.query(texts), kind_of(db, id)) == (["x"], "success")


def test_jobs_run_in_the_order_of_their_times(clock: FakeClock) -> None:
    with app_of(*MEMBERS).open(clock=clock) as db:
        for delay in (3, 1, 2):
            db.mutation(later, "write", delay, text=str(delay))
        clock.advance(10)
        db.run_until_idle()
        assert db.query(texts) == ["1", "2", "3"]


def test_a_cancelled_job_never_runs(clock: FakeClock) -> None:
    with app_of(*MEMBERS).open(clock=clock) as db:
        id = db.mutation(later, "write", 5)
        db.mutation(cancel, id)
        clock.advance(10)
        db.run_until_idle()
        assert (db.query(texts), kind_of(db, id)) == ([], "canceled")


def test_a_job_exists_exactly_if_its_mutation_committed(clock: FakeClock) -> None:
    with app_of(*MEMBERS).open(clock=clock) as db:
        with pytest.raises(rdb.ApplicationError):
            db.mutation(change_of_mind)
        db.run_until_idle()
        assert db.query(texts) == []


def test_a_job_that_fails_says_so_and_leaves_nothing(clock: FakeClock) -> None:
    with app_of(*MEMBERS).open(clock=clock) as db:
        id = db.mutation(later, "fail", 0)
        db.run_until_idle()
        assert (db.query(texts), kind_of(db, id)) == ([], "failed")
        assert "ValueError: no" in str(db.query(state, id))


def test_an_action_may_be_a_job(clock: FakeClock) -> None:
    with app_of(*MEMBERS).open(clock=clock) as db:
        id = db.mutation(later, "act", 0, text="it is")
        db.run_until_idle()
        assert (db.query(texts), kind_of(db, id)) == (["it is done"], "success")


def test_a_job_may_schedule_the_next_one_at_once(clock: FakeClock) -> None:
    with app_of(*MEMBERS).open(clock=clock) as db:
        db.mutation(start_chain)
        db.run_until_idle()
        assert len(db.query(texts)) == 21


def test_a_time_may_lie_in_the_past(clock: FakeClock) -> None:
    with app_of(*MEMBERS).open(clock=clock) as db:
        db.mutation(at, 0.0)
        db.run_until_idle()
        assert db.query(texts) == ["at"]


@pytest.mark.parametrize("delay", [-1.0, float("nan"), float("inf")])
def test_a_delay_that_is_none_is_refused(delay: float) -> None:
    with app_of(*MEMBERS).open() as db, pytest.raises(rdb.ValidationError) as caught:
        db.mutation(later, "write", delay)
    assert caught.value.code == "InvalidDelay"


def test_times_may_be_datetimes_with_a_zone(clock: FakeClock) -> None:
    @rdb.mutation
    def plan(ctx: rdb.MutationCtx) -> None:
        ctx.scheduler.run_after(timedelta(seconds=1), write, text="one")
        ctx.scheduler.run_at(datetime.fromtimestamp(ctx.now_ms / 1000, UTC), write, text="now")
        with pytest.raises(rdb.ValidationError):
            ctx.scheduler.run_at(datetime(2026, 1, 1), write, text="where?")

    with app_of(*MEMBERS, plan).open(clock=clock) as db:
        db.mutation(plan)
        clock.advance(1)
        db.run_until_idle()
        assert db.query(texts) == ["now", "one"]


def test_without_jobs_nothing_runs(clock: FakeClock) -> None:
    with app_of(*MEMBERS).open(clock=clock, jobs=False) as db:
        id = db.mutation(later, "write", 0)
        db.run_until_idle()
        assert (db.query(texts), kind_of(db, id)) == ([], "pending")


@pytest.mark.slow
def test_pending_jobs_run_exactly_once_over_many_openings(clock: FakeClock, tmp_path: Path) -> None:
    app, path = app_of(*MEMBERS), tmp_path / "data.db"
    with app.open(path, clock=clock) as db:
        for number in range(3):
            db.mutation(later, "write", 10 * (number + 1), text=str(number))
    for _ in range(5):
        clock.advance(10)
        with app.open(path, clock=clock) as db:
            db.run_until_idle()
    with app.open(path, clock=clock) as db:
        assert db.query(texts) == ["0", "1", "2"]


def test_an_action_found_running_at_open_has_failed(clock: FakeClock, tmp_path: Path) -> None:
    app, path = app_of(*MEMBERS), tmp_path / "data.db"
    with app.open(path, clock=clock, jobs=False) as db:
        id = db.mutation(later, "act", 0)
        db.runtime.jobs._mark_running(id)  # pyright: ignore[reportPrivateUsage]  # then the process is killed
    with app.open(path, clock=clock) as db:
        db.run_until_idle()
        assert (kind_of(db, id), db.query(texts)) == ("failed", [])


def test_a_job_of_a_function_that_is_gone_fails_visibly(clock: FakeClock, tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    with app_of(*MEMBERS).open(path, clock=clock) as db:
        id = db.mutation(later, "write", 10)
    clock.advance(10)
    without_write = [member for member in MEMBERS if member is not write]
    with app_of(*without_write).open(path, clock=clock) as db:
        db.run_until_idle()
        assert kind_of(db, id) == "failed"
        assert "Could not find" in str(db.query(state, id))


def test_finished_jobs_are_forgotten_after_their_time(clock: FakeClock, tmp_path: Path) -> None:
    app, path = app_of(*MEMBERS), tmp_path / "data.db"
    with app.open(path, clock=clock) as db:
        id = db.mutation(later, "write", 0)
        db.run_until_idle()
    clock.advance(rdb.Limits().finished_job_retention_s + 1)
    with app.open(path, clock=clock) as db:
        assert db.query(state, id) is None


def test_a_job_whose_group_failed_runs_when_there_is_room_again(clock: FakeClock) -> None:
    storage = FlakyStorage()
    with Database(app_of(*MEMBERS).runtime(storage, clock=clock)) as db:
        id = db.mutation(later, "write", 10)
        db.run_until_idle()
        storage.failing_flush_count = 1
        clock.advance(10)
        db.run_until_idle()
        clock.advance(5)
        db.run_until_idle()
        assert (db.query(texts), kind_of(db, id)) == (["x"], "success")


def test_too_many_jobs_of_one_run_are_refused() -> None:
    @rdb.mutation
    def many(ctx: rdb.MutationCtx) -> None:
        for _ in range(4):
            ctx.scheduler.run_after(0, write, text="x")

    with (
        app_of(*MEMBERS, many, limits=rdb.Limits(scheduled_max=3)).open() as db,
        pytest.raises(rdb.LimitExceededError) as caught,
    ):
        db.mutation(many)
    assert caught.value.code == "TooManyFunctionsScheduled"


def test_functions_cannot_write_the_rows_of_jobs() -> None:
    @rdb.mutation
    def meddle(ctx: rdb.MutationCtx) -> None:
        ctx.db.delete(rdb.Id(ctx.scheduler.run_after(5, write, text="x")))

    with app_of(*MEMBERS, meddle).open() as db, pytest.raises(rdb.ValidationError) as caught:
        db.mutation(meddle)
    assert caught.value.code == "SystemTable"
    assert JOBS == "_scheduled_functions"


def test_a_row_says_all_there_is_to_a_job(clock: FakeClock) -> None:
    with app_of(*MEMBERS, rows).open(clock=clock) as db:
        now_ms = clock.now_ns() / 1e6
        ids = [db.mutation(later, which, 1, text="t") for which in ("write", "fail", "act", "write")]
        db.mutation(cancel, ids[3])
        clock.advance(1)
        db.run_until_idle()
        found = {row["_id"]: row for row in db.query(rows)}
        states: list[Any] = [
            {"kind": "success"},
            {"kind": "failed", "error": found[ids[1]]["state"]["error"]},
            {"kind": "success"},
            {"kind": "canceled"},
        ]
        for id, name, state in zip(ids, ["write", "fail", "act", "write"], states, strict=True):
            row = found[id]
            assert row.pop("_creationTime") >= now_ms
            assert row == {
                "_id": id,
                "name": f"notes.js:{name}",
                "args": [{"text": "t"}],
                "scheduledTime": now_ms + 1000,
                "completedTime": now_ms + (1000 if state["kind"] != "canceled" else 0),
                "state": state,
            }
        # The words of the error, and no request that there was not.
        assert found[ids[1]]["state"]["error"].startswith("Uncaught ValueError: no\n    at fail (")


def test_a_job_knows_nothing_of_the_user_who_scheduled_it(clock: FakeClock) -> None:
    seen: list[str | None] = []

    def look(ctx: Any) -> None:
        user = ctx.auth.get_user_identity()
        seen.append(user and user.subject)

    @rdb.internal_mutation
    def look_in_mutation(ctx: rdb.MutationCtx) -> None:
        look(ctx)

    @rdb.internal_action
    async def look_in_action(ctx: rdb.ActionCtx) -> None:
        look(ctx)
        await ctx.run_mutation(look_in_mutation)

    @rdb.mutation
    def schedule(ctx: rdb.MutationCtx) -> None:
        look(ctx)
        ctx.scheduler.run_after(0, look_in_mutation)
        ctx.scheduler.run_after(0, look_in_action)

    with app_of(*MEMBERS, look_in_mutation, look_in_action, schedule).open(clock=clock) as db:
        runner = db.runtime.runner
        ada = ADMIN.acting_as({"subject": "ada", "issuer": "https://issuer.test"})
        runner.mutation(runner.registry.of(schedule), {}, ada).unwrap()
        db.runtime.delivery.committed_elsewhere()
        db.run_until_idle()
    assert seen == ["ada", None, None, None]


def test_cancelling_a_job_that_is_not_kept_any_more_does_nothing(clock: FakeClock, tmp_path: Path) -> None:
    app, path = app_of(*MEMBERS), tmp_path / "data.db"
    with app.open(path, clock=clock) as db:
        id = db.mutation(later, "write", 0)
        db.run_until_idle()
    clock.advance(rdb.Limits().finished_job_retention_s + 1)
    with app.open(path, clock=clock) as db:
        assert db.query(state, id) is None
        db.mutation(cancel, id)
        assert db.query(state, id) is None


def test_what_is_no_job_cannot_be_cancelled() -> None:
    @rdb.mutation
    def insert(ctx: rdb.MutationCtx) -> str:
        return ctx.db.insert(Note(text="x"))

    with app_of(*MEMBERS, insert).open() as db:
        for id in (db.mutation(insert), "nonsense"):
            with pytest.raises(rdb.ValidationError) as caught:
                db.mutation(cancel, id)
            assert caught.value.code == "InvalidId"


def test_a_scheduled_mutation_stands_in_the_log_of_runs(clock: FakeClock) -> None:
    with app_of(*MEMBERS).open(clock=clock) as db:
        logs: list[RunLog] = []
        db.runtime.report.on_run = logs.append
        for which in ("write", "fail"):
            db.mutation(later, which, 1)
        clock.advance(1)
        db.run_until_idle()
        failed = [log.path for log in logs if log.error is not None]
        assert ("notes:write" in [log.path for log in logs], failed) == (True, ["notes:fail"])


def test_no_more_actions_run_as_jobs_at_once_than_may() -> None:
    running: list[int] = []
    most: list[int] = []
    ends = [anyio.Event() for _ in range(5)]

    @rdb.internal_action
    async def slow(ctx: rdb.ActionCtx, number: int) -> None:
        running.append(number)
        most.append(len(running))
        await ends[number].wait()
        running.remove(number)

    @rdb.mutation
    def start(ctx: rdb.MutationCtx) -> None:
        for number in range(5):
            ctx.scheduler.run_after(0, slow, number)
        ctx.scheduler.run_after(0, write, text="is not held up")

    async def main() -> None:
        app = app_of(*MEMBERS, slow, start, limits=rdb.Limits(running_jobs_max=2))
        async with app.open_async() as db:
            await db.mutation(start)
            while await db.query(texts) != ["is not held up"]:
                await anyio.lowlevel.checkpoint()
            for end in ends:
                while not most:
                    await anyio.lowlevel.checkpoint()
                end.set()
            await db.run_until_idle(timeout_s=5)
        assert (len(most), max(most), running) == (5, 2, [])

    anyio.run(main)
