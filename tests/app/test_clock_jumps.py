"""What happens in a database whose wall clock is set ahead and back?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inline_app import module_of

import reactivedb as rdb
from reactivedb.app import Database
from reactivedb.functions import ANONYMOUS, RequestKey
from reactivedb.testing import FakeClock

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
MONTH_S = 30 * DAY_S
KEY = RequestKey("client", 1)


class Note(rdb.Document, table="notes"):
    text: str


@rdb.mutation
def write(ctx: rdb.MutationCtx, text: str = "tick") -> rdb.Id[Note]:
    return ctx.db.insert(Note(text=text))


@rdb.mutation
def write_later(ctx: rdb.MutationCtx, seconds: float, text: str) -> None:
    ctx.scheduler.run_after(seconds, write, text)


@rdb.mutation
def write_at(ctx: rdb.MutationCtx, at_ms: float, text: str) -> None:
    ctx.scheduler.run_at(at_ms, write, text)


@rdb.query
def texts(ctx: rdb.QueryCtx) -> list[str]:
    return [note.text for note in ctx.db.query(Note)]


@rdb.query
def job_kinds(ctx: rdb.QueryCtx) -> list[str]:
    return [job["state"]["kind"] for job in ctx.db.system.query("_scheduled_functions")]


MEMBERS = (Note, write, write_later, write_at, texts, job_kinds)


def app_with(crons: rdb.Crons | None = None, **limits: Any) -> rdb.App:
    return rdb.App(module_of(*MEMBERS), root="", crons=crons or rdb.Crons(), limits=rdb.Limits(**limits))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.db"


@pytest.fixture
def db(path: Path, clock: FakeClock) -> Iterator[Database]:
    with app_with().open(path, clock=clock) as opened:
        yield opened


def pass_time(db: Database, clock: FakeClock, seconds: float, *, steps: int = 1) -> None:
    for _ in range(steps):
        clock.advance(seconds / steps)
        db.run_until_idle()


def jump(db: Database, clock: FakeClock, seconds: float) -> None:
    clock.jump(seconds)
    db.run_until_idle()


def forget(db: Database) -> None:
    """What a server does once an hour, beside a commit."""
    db.mutation(write, "beside")
    with db.runtime.engine.lock:
        db.runtime.engine.forget_outcomes()
        db.runtime.jobs.sweep()


def request(db: Database) -> None:
    """A client's mutation, sent once more if its answer is lost."""
    runner = db.runtime.runner
    if runner.recorded(KEY) is None:
        definition = runner.registry.of(write)
        runner.mutation(definition, {"text": "once"}, ANONYMOUS, key=KEY).unwrap()


# Recorded answers


def test_no_request_runs_twice_after_a_month_ahead_and_back(db: Database, clock: FakeClock) -> None:
    request(db)
    jump(db, clock, MONTH_S)
    for _ in range(5):
        pass_time(db, clock, 2 * HOUR_S)
        db.mutation(write, "ahead")
        forget(db)
    jump(db, clock, -MONTH_S)
    db.mutation(write, "back")
    forget(db)
    request(db)
    assert db.query(texts).count("once") == 1


@pytest.mark.parametrize("jump_s", [MONTH_S, 365 * DAY_S, -MONTH_S, 13 * DAY_S])
def test_no_request_runs_twice_over_openings_under_another_clock(
    path: Path, clock: FakeClock, jump_s: float
) -> None:
    with app_with().open(path, clock=clock) as db:
        request(db)
    clock.jump(jump_s)
    for _ in range(2):
        with app_with().open(path, clock=clock) as db:
            pass_time(db, clock, 2 * HOUR_S)
            db.mutation(write, "ahead")
            forget(db)
    clock.jump(-jump_s)
    with app_with().open(path, clock=clock) as db:
        request(db)
        assert db.query(texts).count("once") == 1


def test_what_passed_on_another_boot_of_the_machine_is_not_believed(path: Path) -> None:
    with app_with().open(path, clock=FakeClock()) as db:
        request(db)

    later = FakeClock(boot="another")
    later.jump(MONTH_S)
    with app_with().open(path, clock=later) as db:
        pass_time(db, later, 13 * DAY_S)
        forget(db)
        request(db)
        assert db.query(texts).count("once") == 1
        pass_time(db, later, DAY_S + HOUR_S)
        forget(db)
        assert db.runtime.runner.recorded(KEY) is None


def test_an_answer_is_forgotten_once_its_time_has_passed(db: Database, clock: FakeClock) -> None:
    request(db)
    jump(db, clock, MONTH_S)
    pass_time(db, clock, 14 * DAY_S - 60)
    forget(db)
    assert db.runtime.runner.recorded(KEY) is not None
    pass_time(db, clock, 120)
    forget(db)
    assert db.runtime.runner.recorded(KEY) is None


def test_forgetting_goes_on_after_the_clock_was_set_back(db: Database, clock: FakeClock) -> None:
    jump(db, clock, -MONTH_S)
    request(db)
    pass_time(db, clock, 14 * DAY_S + 60)
    forget(db)
    assert db.runtime.runner.recorded(KEY) is None


# History


def test_history_is_not_given_up_by_a_clock_that_was_ahead(db: Database, clock: FakeClock) -> None:
    id = db.mutation(write, "first")
    ts = db.latest_ts
    jump(db, clock, MONTH_S)
    for _ in range(12):
        pass_time(db, clock, HOUR_S)
        db.mutation(write, "ahead")
    jump(db, clock, -MONTH_S)
    db.mutation(write, "back")
    assert db.at(ts).query(texts) == ["first"]
    assert len(db.history(id)) == 1
    pass_time(db, clock, DAY_S + MONTH_S + 4 * HOUR_S, steps=30)
    for _ in range(3):
        pass_time(db, clock, 2 * HOUR_S)
        db.mutation(write, "much later")
    assert db.runtime.engine.retention.horizon_ts > ts


def test_timestamps_never_go_back_and_each_reads_its_own_state(db: Database, clock: FakeClock) -> None:
    seen: list[tuple[int, list[str]]] = []
    for seconds in (0, MONTH_S, -MONTH_S, -5, 3, DAY_S):
        jump(db, clock, seconds)
        for _ in range(3):
            db.mutation(write, str(len(seen)))
            seen.append((db.latest_ts, db.query(texts)))
    assert [ts for ts, _ in seen] == sorted({ts for ts, _ in seen})
    for ts, state in seen:
        assert db.at(ts).query(texts) == state


@pytest.mark.parametrize("jumps_s", [(MONTH_S,), (MONTH_S, -MONTH_S), (-5.0,)])
def test_what_was_deleted_is_gone_for_the_public_after_its_minute_by_every_clock(
    db: Database, clock: FakeClock, jumps_s: tuple[float, ...]
) -> None:
    engine = db.runtime.engine
    from reactivedb.engine import check_public_at

    db.mutation(write, "before")
    for seconds in jumps_s:
        jump(db, clock, seconds)
        db.mutation(write, "between")
    pass_time(db, clock, 100)
    db.mutation(write, "secret")
    ts = db.latest_ts
    db.mutation(write, "next")
    pass_time(db, clock, 50)
    check_public_at(engine, ts)
    pass_time(db, clock, 20)
    with pytest.raises(rdb.ValidationError) as raised:
        check_public_at(engine, ts)
    assert raised.value.code == "TimestampOutOfRange"
    check_public_at(engine, db.latest_ts)


# Jobs


def test_a_job_of_a_clock_that_was_ahead_runs_after_its_delay(db: Database, clock: FakeClock) -> None:
    jump(db, clock, MONTH_S)
    db.mutation(write_later, 60, "soon")
    db.mutation(write_later, 7200, "later")
    pass_time(db, clock, 30)
    jump(db, clock, -MONTH_S)
    assert db.query(texts) == []
    pass_time(db, clock, 29)
    assert db.query(texts) == []
    pass_time(db, clock, 2)
    assert db.query(texts) == ["soon"]
    pass_time(db, clock, 7200 - 62)
    assert db.query(texts) == ["soon"]
    pass_time(db, clock, 2)
    assert db.query(texts) == ["soon", "later"]


def test_a_job_of_a_clock_that_was_ahead_runs_after_an_opening_too(path: Path, clock: FakeClock) -> None:
    with app_with().open(path, clock=clock):
        pass
    clock.jump(MONTH_S)
    with app_with().open(path, clock=clock) as db:
        db.mutation(write_later, 60, "soon")
    clock.jump(-MONTH_S)
    with app_with().open(path, clock=clock) as db:
        pass_time(db, clock, 61)
        assert db.query(texts) == ["soon"]


def test_a_job_for_a_date_keeps_it(db: Database, clock: FakeClock) -> None:
    at_ms = clock.now_ns() / 1e6 + DAY_S * 1000
    jump(db, clock, HOUR_S)
    db.mutation(write_at, at_ms, "tomorrow")
    jump(db, clock, -HOUR_S)
    pass_time(db, clock, DAY_S - 1)
    assert db.query(texts) == []
    pass_time(db, clock, 2)
    assert db.query(texts) == ["tomorrow"]


def test_a_job_runs_once_when_the_machine_slept_past_its_time(db: Database, clock: FakeClock) -> None:
    db.mutation(write_later, 3600, "woken")
    jump(db, clock, 7200)
    jump(db, clock, -7200)
    pass_time(db, clock, 7200)
    assert db.query(texts) == ["woken"]


def test_jobs_go_on_after_a_failure_of_the_storage_under_a_clock_that_was_ahead(
    db: Database, clock: FakeClock
) -> None:
    jump(db, clock, MONTH_S)
    db.runtime.loop.call_soon_threadsafe(db.runtime.jobs.storage_failed)
    jump(db, clock, -MONTH_S)
    db.mutation(write_later, 0, "again")
    pass_time(db, clock, 2)
    assert db.query(texts) == ["again"]


def test_a_finished_job_is_kept_under_a_clock_that_is_ahead(db: Database, clock: FakeClock) -> None:
    db.mutation(write_later, 0, "done")
    db.run_until_idle()
    jump(db, clock, MONTH_S)
    pass_time(db, clock, 2 * HOUR_S)
    forget(db)
    assert db.query(job_kinds) == ["success"]


# Crons


def interval() -> rdb.Crons:
    crons = rdb.Crons()
    crons.interval("job", write, minutes=10)
    return crons


def hourly() -> rdb.Crons:
    crons = rdb.Crons()
    crons.cron("job", write, "*/10 * * * *")
    return crons


@pytest.mark.parametrize("crons", [interval, hourly])
@pytest.mark.parametrize("reopened", [False, True])
def test_a_cron_job_runs_once_at_a_jump_ahead_and_goes_on_after_the_jump_back(
    path: Path, clock: FakeClock, crons: Callable[[], rdb.Crons], reopened: bool
) -> None:
    app = app_with(crons())
    db = app.open(path, clock=clock)
    pass_time(db, clock, 3600, steps=12)
    before = len(db.query(texts))
    for seconds in (MONTH_S, -MONTH_S):
        if reopened:
            db.close()
            clock.jump(seconds)
            db = app.open(path, clock=clock)
            db.run_until_idle()
        else:
            jump(db, clock, seconds)
        assert len(db.query(texts)) - before in (0, 1)
        pass_time(db, clock, 3600, steps=12)
        ticks = len(db.query(texts)) - before
        assert 6 <= ticks <= 7
        before += ticks
    db.close()


@pytest.mark.parametrize("crons", [interval, hourly])
def test_a_small_correction_of_the_clock_repeats_no_tick(
    path: Path, clock: FakeClock, crons: Callable[[], rdb.Crons]
) -> None:
    with app_with(crons()).open(path, clock=clock) as db:
        pass_time(db, clock, 3600, steps=12)
        before = len(db.query(texts))
        jump(db, clock, -3)
        pass_time(db, clock, 30)
        assert len(db.query(texts)) == before
        pass_time(db, clock, 3570, steps=12)
        assert len(db.query(texts)) == before + 5


def test_a_cron_job_of_each_month_is_brought_forward_again(path: Path, clock: FakeClock) -> None:
    crons = rdb.Crons()
    crons.daily("job", write, hour_utc=12, minute_utc=0)
    with app_with(crons).open(path, clock=clock) as db:
        jump(db, clock, 365 * DAY_S)
        assert len(db.query(texts)) == 1
        jump(db, clock, -365 * DAY_S)
        pass_time(db, clock, 12 * HOUR_S + 1)
        assert len(db.query(texts)) == 2
