"""When do cron jobs run, over restarts, month ends and new versions of the application?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from inline_app import FlakyStorage, module_of

import reactivedb as rdb
from reactivedb.app import Database
from reactivedb.functions import ANONYMOUS, Run
from reactivedb.functions.cron_jobs import _rows  # pyright: ignore[reportPrivateUsage]
from reactivedb.testing import FakeClock


class Note(rdb.Document, table="notes"):
    text: str
    at: float


@rdb.internal_mutation
def write(ctx: rdb.MutationCtx, text: str = "tick") -> None:
    ctx.db.insert(Note(text=text, at=ctx.now_ms))


@rdb.internal_mutation
def fail(ctx: rdb.MutationCtx) -> None:
    raise ValueError("no")


@rdb.query
def times(ctx: rdb.QueryCtx) -> list[float]:
    return [note.at for note in ctx.db.query(Note)]


@rdb.query
def texts(ctx: rdb.QueryCtx) -> list[str]:
    return [note.text for note in ctx.db.query(Note)]


@rdb.query
def jobs(ctx: rdb.QueryCtx) -> list[str]:
    return [job["state"]["kind"] for job in ctx.db.system.query("_scheduled_functions")]


@rdb.mutation
def cancel_all(ctx: rdb.MutationCtx) -> None:
    for job in ctx.db.system.query("_scheduled_functions").collect():
        ctx.scheduler.cancel(job["_id"])


MEMBERS = (Note, write, fail, times, texts, jobs, cancel_all)


def app_with(crons: rdb.Crons, *more: Any) -> rdb.App:
    return rdb.App(module_of(*MEMBERS, *more), root="", crons=crons)


def every(name: str = "job", function: Any = write, **how: Any) -> rdb.Crons:
    crons = rdb.Crons()
    crons.interval(name, function, **how)
    return crons


def rows(db: Database) -> list[dict[str, Any]]:
    def body(run: Run) -> tuple[list[dict[str, Any]], None]:
        return [dict(row.fields) for row in _rows(run)], None

    return db.runtime.runner.transact(body, ANONYMOUS).unwrap()


def advance(db: Database, clock: FakeClock, seconds: float) -> None:
    clock.advance(seconds)
    db.run_until_idle()


def clock_at(*when: int) -> FakeClock:
    return FakeClock(int(datetime(*when, tzinfo=UTC).timestamp()) * 10**9)  # type: ignore[misc,arg-type]


def days(stamps: list[float]) -> list[str]:
    return [datetime.fromtimestamp(stamp / 1000, UTC).strftime("%m-%d %H:%M") for stamp in stamps]


def test_an_interval_runs_when_first_deployed_and_then_at_every_tick() -> None:
    clock = FakeClock()
    start_ms = clock.now_ns() / 1e6
    with app_with(every(seconds=30)).open(clock=clock) as db:
        db.run_until_idle()
        assert db.query(times) == [start_ms]
        for _ in range(6):
            advance(db, clock, 10)
        assert db.query(times) == [start_ms, start_ms + 30_000, start_ms + 60_000]
        assert db.query(jobs) == ["pending"]
        (row,) = rows(db)
        assert (row["lastRun"], row["nextRun"]) == (start_ms + 60_000, start_ms + 90_000)


def test_ticks_that_nobody_was_there_for_are_one_run_and_the_grid_stays() -> None:
    clock = FakeClock()
    start_ms = clock.now_ns() / 1e6
    with app_with(every(minutes=1)).open(clock=clock) as db:
        db.run_until_idle()
        advance(db, clock, 200)
        assert len(db.query(times)) == 2
        assert rows(db)[0]["nextRun"] == start_ms + 240_000


def test_a_restart_neither_loses_nor_doubles_a_tick(tmp_path: Path) -> None:
    clock = FakeClock()
    start_ms = clock.now_ns() / 1e6
    app, path = app_with(every(minutes=1)), tmp_path / "data.db"
    for _ in range(4):
        for _ in range(2):
            with app.open(path, clock=clock) as db:
                db.run_until_idle()
        clock.advance(60)
    with app.open(path, clock=clock, jobs=False) as db:
        assert db.query(times) == [start_ms + 60_000 * n for n in range(4)]


def test_arguments_are_passed_and_a_job_that_fails_goes_on() -> None:
    clock = FakeClock()
    crons = every("fine", write, hours=1, args={"text": "hello"})
    crons.interval("bad", fail, hours=1)
    with app_with(crons).open(clock=clock) as db:
        db.run_until_idle()
        advance(db, clock, 3600)
        assert db.query(texts) == ["hello", "hello"]
        assert sorted(db.query(jobs)) == ["failed", "failed", "pending", "pending"]


def test_a_run_that_takes_longer_than_its_interval_skips_ticks() -> None:
    clock = FakeClock()
    running: list[anyio.Event] = []

    @rdb.internal_action
    async def slow(ctx: rdb.ActionCtx) -> None:
        end = anyio.Event()
        running.append(end)
        await end.wait()

    async def main() -> None:
        async with app_with(every("slow", slow, seconds=10), slow).open_async(clock=clock) as db:
            while not running:
                await anyio.lowlevel.checkpoint()
            for _ in range(35):
                clock.advance(1)
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
            assert len(running) == 1
            running[0].set()
            while await db.query(jobs) != ["pending"]:
                await anyio.lowlevel.checkpoint()
            assert len(running) == 1
            clock.advance(5)
            while len(running) == 1:
                await anyio.lowlevel.checkpoint()
            running[1].set()

    anyio.run(main)


def test_month_ends_are_those_of_the_calendar() -> None:
    clock = clock_at(2027, 1, 30)
    crons = rdb.Crons()
    crons.monthly("last", write, day=31, hour_utc=12, minute_utc=30)
    with app_with(crons).open(clock=clock) as db:
        for _ in range(130):
            advance(db, clock, 86_400 / 2)
            advance(db, clock, 86_400 / 2)
        stamps = [rows(db)[0]["lastRun"], rows(db)[0]["nextRun"]]
        assert len(db.query(times)) == 3  # January, March, May
    assert days(stamps) == ["05-31 12:30", "07-31 12:30"]


def test_expressions_and_the_named_times_are_utc() -> None:
    clock = clock_at(2026, 11, 23, 8, 0)  # a Monday
    crons = rdb.Crons()
    crons.cron("a", write, "0 9 * * 1")
    crons.weekly("b", write, day_of_week="sunday", hour_utc=7, minute_utc=5)
    crons.daily("c", write, hour_utc=23, minute_utc=59)
    crons.hourly("d", write, minute_utc=0)
    crons.hourly("e", write)
    with app_with(crons).open(clock=clock) as db:
        found = {row["name"]: row["nextRun"] for row in rows(db)}
        assert days([found[name] for name in "abcd"]) == [
            "11-23 09:00",
            "11-29 07:05",
            "11-23 23:59",
            "11-23 09:00",
        ]
        assert db.query(texts) == []


def test_removed_jobs_vanish_and_changed_ones_begin_again(tmp_path: Path) -> None:
    clock, path = FakeClock(), tmp_path / "data.db"
    crons = every("gone", write, hours=1, args={"text": "gone"})
    crons.interval("kept", write, hours=1, args={"text": "kept"})
    with app_with(crons).open(path, clock=clock) as db:
        db.run_until_idle()
    clock.advance(60)
    with app_with(every("kept", write, minutes=1, args={"text": "kept"})).open(path, clock=clock) as db:
        db.run_until_idle()
        assert [row["name"] for row in rows(db)] == ["kept"]
        advance(db, clock, 60)
        assert db.query(texts) == ["gone", "kept", "kept", "kept"]


def test_a_reload_deploys_the_jobs_of_the_new_application() -> None:
    clock = FakeClock()
    with app_with(every(hours=1)).open(clock=clock) as db:
        db.run_until_idle()
        db.runtime.reload(app_with(rdb.Crons()))
        assert rows(db) == []


def test_who_cancels_a_run_skips_that_one() -> None:
    clock = FakeClock()
    with app_with(every(minutes=1)).open(clock=clock) as db:
        db.run_until_idle()
        db.mutation(cancel_all)
        db.run_until_idle()
        advance(db, clock, 120)
        assert len(db.query(texts)) == 2


def test_a_tick_whose_group_failed_runs_when_there_is_room_again() -> None:
    clock, storage = FakeClock(), FlakyStorage()
    with Database(app_with(every(minutes=1)).runtime(storage, clock=clock)) as db:
        db.run_until_idle()
        storage.failing_flush_count = 1
        advance(db, clock, 60)
        advance(db, clock, 5)
        assert len(db.query(times)) == 2
        assert [row["name"] for row in rows(db)] == ["job"]


@pytest.mark.parametrize(
    "how", [{}, {"seconds": 0}, {"seconds": 1, "minutes": 1}, {"hours": -1}, {"minutes": 1.5}]
)
def test_an_interval_that_is_none_is_refused(how: dict[str, Any]) -> None:
    with pytest.raises(rdb.SchemaError) as caught:
        every(**how)
    assert caught.value.code == "InvalidCron"


@pytest.mark.parametrize("expression", ["", "* * * *", "60 * * * *", "0 0 30 2 *", "* * * * * *", "x"])
def test_an_expression_that_is_none_is_refused(expression: str) -> None:
    with pytest.raises(rdb.SchemaError) as caught:
        rdb.Crons().cron("job", write, expression)
    assert caught.value.code == "InvalidCron"


def test_names_arguments_and_functions_are_checked_when_declared() -> None:
    crons = every(hours=1)
    with pytest.raises(rdb.SchemaError) as caught:
        crons.hourly("job", write)
    assert caught.value.code == "DuplicateCron"
    with pytest.raises(rdb.SchemaError):
        every("täglich", hours=1)
    for broken in (
        every("job", times, hours=1),
        every("job", write, hours=1, args={"txt": "x"}),
        every("job", write, hours=1, args={"text": 1}),
    ):
        with pytest.raises(rdb.SchemaError) as caught:
            app_with(broken)
        assert caught.value.code == "InvalidCron"
