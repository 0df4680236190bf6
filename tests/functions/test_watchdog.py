"""Is a query or mutation stopped that does not end by itself, and nothing else with it?"""

from __future__ import annotations

import logging
import math
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.app import Database
from reactivedb.functions import watchdog

LIMITS = rdb.Limits(user_time_s_max=0.03)


class Note(rdb.Document, table="notes"):
    text: str


@rdb.query
def texts(ctx: rdb.QueryCtx) -> list[str]:
    return [note.text for note in ctx.db.query(Note)]


@rdb.query
def spin(ctx: rdb.QueryCtx) -> None:
    while True:
        pass


@rdb.mutation
def add_many(ctx: rdb.MutationCtx, count: int) -> int:
    return sum(bool(ctx.db.insert(Note(text="one of many"))) for _ in range(count))


@rdb.mutation
def add_many_and_spin(ctx: rdb.MutationCtx, count: int) -> None:
    ctx.run_mutation(add_many, count)
    while True:
        pass


@rdb.mutation
def add_many_and_fail(ctx: rdb.MutationCtx, count: int) -> None:
    ctx.run_mutation(add_many, count)
    raise rdb.ApplicationError("all of it is undone")


@rdb.mutation
def go_on_after_many_undone(ctx: rdb.MutationCtx, count: int) -> str:
    with pytest.raises(rdb.ApplicationError):
        ctx.run_mutation(add_many_and_fail, count)
    return "went on"


@rdb.mutation
def write_and_spin(ctx: rdb.MutationCtx) -> None:
    ctx.db.insert(Note(text="never"))
    while True:
        pass


@rdb.mutation
def swallow(ctx: rdb.MutationCtx) -> str:
    ctx.db.insert(Note(text="never"))
    try:
        while True:
            pass
    except BaseException:
        return "as if nothing had happened"


@rdb.mutation
def swallow_for_ever(ctx: rdb.MutationCtx) -> None:
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


@rdb.mutation
def swallow_twice_for_ever(ctx: rdb.MutationCtx) -> None:
    while True:
        try:
            try:
                while True:
                    pass
            except BaseException:
                len("in a handler")
        except BaseException:
            len("in another")


@rdb.mutation
def swallow_in_a_helper(ctx: rdb.MutationCtx) -> None:
    def helper() -> None:
        while True:
            try:
                ctx.db.query(Note).collect()
            except BaseException:
                continue

    while True:
        try:
            helper()
        except BaseException:
            continue


@rdb.mutation
def only_the_engine_works(ctx: rdb.MutationCtx) -> None:
    for number in range(1_000_000):
        ctx.db.get(rdb.Id[Note](ids[number % len(ids)]))


@rdb.mutation
def outer(ctx: rdb.MutationCtx) -> None:
    while True:
        try:
            ctx.run_mutation(write_and_spin)
        except Exception:
            continue


@rdb.mutation
def wait_in_c(ctx: rdb.MutationCtx) -> None:
    ctx.db.insert(Note(text="never"))
    time.sleep(0.6)


@rdb.mutation
def compute_in_c(ctx: rdb.MutationCtx) -> None:
    ctx.db.insert(Note(text="never"))
    # Backtracks for the better part of a second without giving up the interpreter's lock.
    re.match(r"(a+)+$", "a" * 24 + "b")


@rdb.mutation
def add(ctx: rdb.MutationCtx, text: str) -> str:
    return ctx.db.insert(Note(text=text))


ids: list[str] = []
SPINNING = (
    spin,
    write_and_spin,
    swallow,
    swallow_for_ever,
    swallow_twice_for_ever,
    swallow_in_a_helper,
    outer,
)
MEMBERS = (
    *SPINNING,
    Note,
    texts,
    only_the_engine_works,
    wait_in_c,
    compute_in_c,
    add,
    add_many,
    add_many_and_spin,
    add_many_and_fail,
    go_on_after_many_undone,
)


@pytest.fixture(autouse=True)
def quiet_finalizers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lands in a finalizer is raised again later; pytest's report of it would be stopped, too."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)


@pytest.fixture
def db() -> Iterator[Database]:
    with app_of(*MEMBERS, limits=LIMITS).open() as db:
        yield db


@contextmanager
def stopped(path: str, limit_s: float = 0.03) -> Iterator[None]:
    with pytest.raises(rdb.LimitExceededError) as caught:
        yield
    error = caught.value
    assert (error.code, error.limit, error.maximum) == ("FunctionTimeout", "user_time_s_max", limit_s)
    assert f"`notes:{path}`" in error.message


@pytest.mark.parametrize("function", SPINNING, ids=lambda function: function.__name__)
def test_a_function_that_does_not_end_is_stopped_and_leaves_nothing(db: Database, function: Any) -> None:
    run = db.query if function is spin else db.mutation
    path = "".join([word.title() if n else word for n, word in enumerate(function.__name__.split("_"))])
    with stopped(path):
        run(function)
    assert sys.gettrace() is None
    assert db.query(texts) == []
    db.mutation(add, "after")
    assert db.query(texts) == ["after"]


def test_a_function_that_only_has_the_engine_work_is_refused_by_the_engine(db: Database) -> None:
    limits = rdb.Limits(user_time_s_max=0.03, documents_read_max=10**9, read_size_bytes_max=10**12)
    with app_of(*MEMBERS, limits=limits).open() as db:
        ids[:] = [db.mutation(add, "one")]
        with stopped("onlyTheEngineWorks"):
            db.mutation(only_the_engine_works)


class _Listener(logging.Handler):
    """Says that the watching thread has written its line."""

    def __init__(self, told: threading.Event) -> None:
        super().__init__(logging.WARNING)
        self._told = told
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage()
        if "C call" in self.text:
            self._told.set()


@pytest.mark.slow
def test_time_in_one_c_call_is_logged_and_the_commit_refused(caplog: pytest.LogCaptureFixture) -> None:
    # Long enough for a busy machine to get to the C call in time.
    limit_s = 0.2
    with app_of(*MEMBERS, limits=rdb.Limits(user_time_s_max=limit_s)).open() as db:
        db.mutation(add, "before")
        for function, path in ((wait_in_c, "waitInC"), (compute_in_c, "computeInC")):
            caplog.clear()
            told = threading.Event()
            logger, listener = logging.getLogger("reactivedb"), _Listener(told)
            logger.addHandler(listener)
            with caplog.at_level(logging.WARNING, logger="reactivedb"), stopped(path, limit_s):
                db.mutation(function)
            # The watching thread may write its line after the call has ended.
            assert told.wait(60)
            logger.removeHandler(listener)
            assert f"`notes:{path}`" in listener.text
        assert db.query(texts) == ["before"]


@pytest.mark.slow
def test_what_the_engine_takes_is_not_the_functions_time(db: Database) -> None:
    # Some 100 µs each, of a bound of 30 ms.
    assert db.mutation(add_many, 2_000) == 2_000
    assert len(db.query(texts)) == 2_000
    with stopped("addManyAndSpin"):
        db.mutation(add_many_and_spin, 100)


@pytest.mark.slow
def test_what_the_engine_took_for_what_was_undone_is_not_the_functions_time_either(db: Database) -> None:
    assert db.mutation(go_on_after_many_undone, 2_000) == "went on"
    assert db.query(texts) == []


def test_a_function_in_its_time_is_left_alone_in_any_thread(db: Database) -> None:
    def add_some() -> None:
        for number in range(20):
            db.mutation(add, str(number))

    threads = [threading.Thread(target=add_some) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(db.query(texts)) == 60


def test_a_run_in_another_thread_is_stopped_too(db: Database) -> None:
    caught: list[BaseException] = []

    def spin_there() -> None:
        try:
            db.query(spin)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=spin_there)
    thread.start()
    thread.join()
    assert [getattr(error, "code", error) for error in caught] == ["FunctionTimeout"]


@pytest.mark.slow
def test_nothing_lands_after_the_function(db: Database) -> None:
    """Runs that end just about when their time is up, many times: each ends in one way or the other."""

    @rdb.mutation
    def about(ctx: rdb.MutationCtx, until_s: float) -> None:
        began = time.perf_counter()
        while time.perf_counter() - began < until_s:
            pass

    with app_of(Note, about, limits=rdb.Limits(user_time_s_max=0.004)).open() as db:
        ends = {"ended": 0, "stopped": 0}
        for number in range(300):
            try:
                db.mutation(about, 0.0038 + number % 10 * 0.00005)
                ends["ended"] += 1
            except rdb.LimitExceededError:
                ends["stopped"] += 1
            # An exception that lands late would land here.
            for _ in range(200):
                pass
    assert sum(ends.values()) == 300


def test_an_infinite_limit_watches_nothing() -> None:
    with app_of(*MEMBERS, limits=rdb.Limits(user_time_s_max=math.inf)).open() as db:
        db.mutation(wait_for_the_watch, False)


def test_a_traced_thread_is_not_watched() -> None:
    def trace(frame: FrameType, event: str, arg: object) -> None:
        return None

    # As debuggers and coverage do: the database's threads come later.
    threading.settrace(trace)
    try:
        with app_of(*MEMBERS).open() as db:
            db.mutation(wait_for_the_watch, False)
    finally:
        threading.settrace(None)
    with app_of(*MEMBERS).open() as db:
        db.mutation(wait_for_the_watch, True)


@rdb.mutation
def wait_for_the_watch(ctx: rdb.MutationCtx, watched: bool) -> None:
    assert (threading.get_ident() in watchdog._watchdog.armed) is watched  # pyright: ignore[reportPrivateUsage]


MEMBERS = (*MEMBERS, wait_for_the_watch)


@pytest.mark.slow
def test_an_idle_database_lets_the_watchdog_sleep(db: Database) -> None:
    db.mutation(add, "one")
    deadline = time.monotonic() + 5
    while not watchdog._watchdog.sleeps:  # pyright: ignore[reportPrivateUsage]
        assert time.monotonic() < deadline
        time.sleep(0.01)
