"""Does a live query become right by itself that was stopped for its time?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.app import Database, Live
from reactivedb.testing import FakeClock

LIMITS = rdb.Limits(user_time_s_max=0.02)


class Note(rdb.Document, table="notes"):
    text: str


@rdb.mutation
def add(ctx: rdb.MutationCtx, text: str) -> None:
    ctx.db.insert(Note(text=text))


machine_is_busy: list[bool] = []


@rdb.query
def texts(ctx: rdb.QueryCtx) -> list[str]:
    found = [note.text for note in ctx.db.query(Note)]
    while machine_is_busy[0]:
        pass
    return found


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def db(clock: FakeClock) -> Iterator[Database]:
    machine_is_busy[:] = [True]
    with app_of(Note, add, texts, limits=LIMITS).open(clock=clock) as db:
        yield db


def pass_s(db: Database, clock: FakeClock, seconds: float) -> None:
    clock.advance(seconds)
    db.run_until_idle()


def is_stopped(live: Live[list[str]]) -> bool:
    try:
        _ = live.value
    except rdb.LimitExceededError as error:
        return error.code == "FunctionTimeout"
    return False


def test_a_live_query_that_was_stopped_is_run_again_and_its_followers_are_told(
    db: Database, clock: FakeClock
) -> None:
    with db.subscribe(texts) as live:
        assert is_stopped(live)
        machine_is_busy[0] = False
        pass_s(db, clock, 0.9)
        assert live.run_count == 1
        pass_s(db, clock, 0.2)
        assert live.wait_for_change(timeout_s=10) == []
        assert live.run_count == 2
        # It is right, and nothing is left to be tried.
        pass_s(db, clock, 1_000)
        assert live.run_count == 2
        db.runtime.cache.check()


def test_it_is_tried_a_few_times_at_growing_distances(db: Database, clock: FakeClock) -> None:
    with db.subscribe(texts) as live:
        assert is_stopped(live)
        ran_at: list[int] = []
        for second in range(400):
            before = live.run_count
            pass_s(db, clock, 1)
            ran_at += [second + 1] * (live.run_count - before)
        assert ran_at == [1, 5, 21, 85]


def test_a_run_that_ends_begins_the_count_anew(db: Database, clock: FakeClock) -> None:
    with db.subscribe(texts) as live:
        pass_s(db, clock, 1)
        machine_is_busy[0] = False
        pass_s(db, clock, 4)
        assert live.value == []
        machine_is_busy[0] = True
        db.mutation(add, "one")
        db.run_until_idle()
        assert is_stopped(live)
        machine_is_busy[0] = False
        pass_s(db, clock, 1)
        assert live.value == ["one"]


def test_one_that_nobody_follows_any_more_is_not_tried_and_not_kept(db: Database, clock: FakeClock) -> None:
    with db.subscribe(texts) as live:
        assert is_stopped(live)
    assert len(db.runtime.cache) == 0
    db.runtime.cache.check()
    pass_s(db, clock, 100)
    machine_is_busy[0] = False
    with db.subscribe(texts) as live:
        assert live.value == []
        assert live.run_count == 1


def test_other_errors_are_not_tried_again(clock: FakeClock) -> None:
    with app_of(Note, fails).open(clock=clock) as db, db.subscribe(fails) as live:
        pass_s(db, clock, 1_000)
        assert live.run_count == 1


@rdb.query
def fails(ctx: rdb.QueryCtx) -> None:
    ctx.db.query(Note).collect()
    raise rdb.ApplicationError("as ever")
