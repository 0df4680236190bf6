"""Calls of several threads, and calls from inside of functions: what works, what is refused at once?"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import pytest
from inline_app import FlakyStorage, app_of

import reactivedb as rdb


class Note(rdb.Document, table="notes"):
    text: str


@rdb.mutation
def add(ctx: rdb.MutationCtx, text: str) -> None:
    ctx.db.insert(Note(text=text))


@rdb.query
def count(ctx: rdb.QueryCtx) -> int:
    return ctx.db.query(Note).count()


# What the functions below do besides: each test sets its own.
_inside: list[Callable[[], Any]] = []


@rdb.query
def reading(ctx: rdb.QueryCtx) -> None:
    _inside[0]()


@rdb.mutation
def writing(ctx: rdb.MutationCtx) -> None:
    ctx.db.insert(Note(text="outer"))
    _inside[0]()


@rdb.mutation
def schedule_writing(ctx: rdb.MutationCtx) -> None:
    ctx.scheduler.run_after(0, writing)


@rdb.action
async def acting(ctx: rdb.ActionCtx) -> None:
    _inside[0]()


@rdb.action
async def acting_in_thread(ctx: rdb.ActionCtx) -> None:
    await anyio.to_thread.run_sync(_inside[0])


MEMBERS = (Note, add, count, reading, writing, schedule_writing, acting, acting_in_thread)
APP = app_of(*MEMBERS)


@pytest.fixture(autouse=True)
def nothing_inside() -> None:
    _inside[:] = [lambda: None]


@pytest.mark.parametrize("outer", ["query", "mutation"])
@pytest.mark.parametrize(
    "inner", ["query", "mutation", "action", "subscribe", "run_until_idle", "at", "close"]
)
def test_a_call_inside_of_a_function_is_refused_at_once_and_changes_nothing(outer: str, inner: str) -> None:
    with APP.open() as db:
        _inside[0] = {
            "query": lambda: db.query(count),
            "mutation": lambda: db.mutation(add, "inner"),
            "action": lambda: db.action(acting),
            "subscribe": lambda: db.subscribe(count),
            "run_until_idle": db.run_until_idle,
            "at": lambda: db.at(db.latest_ts),
            "close": db.close,
        }[inner]
        with pytest.raises(rdb.RequestError, match=r"ctx\.db") as refused:
            db.query(reading) if outer == "query" else db.mutation(writing)
        assert refused.value.code == "NestedCall"
        assert db.query(count) == 0


def test_a_scheduled_mutation_that_calls_its_database_fails_and_the_database_goes_on() -> None:
    codes: list[str] = []

    def call_inside() -> None:
        try:
            db.mutation(add, "inner")
        except rdb.RequestError as error:
            codes.append(error.code)
            raise

    with APP.open() as db:
        _inside[0] = call_inside
        db.mutation(schedule_writing)
        db.run_until_idle()
        assert codes == ["NestedCall"]
        assert db.query(count) == 0


@pytest.mark.parametrize("inner", ["action", "run_until_idle", "close"])
def test_what_waits_for_the_loop_is_refused_at_once_inside_of_an_action(inner: str) -> None:
    with APP.open() as db:
        _inside[0] = {
            "action": lambda: db.action(acting_in_thread),
            "run_until_idle": db.run_until_idle,
            "close": db.close,
        }[inner]
        with pytest.raises(rdb.RequestError) as refused:
            db.action(acting)
        assert refused.value.code == "NestedCall"
        assert db.query(count) == 0


def test_an_action_may_call_its_database_from_a_thread_it_waits_for() -> None:
    with APP.open() as db:
        _inside[0] = lambda: db.mutation(add, "from the thread")
        db.action(acting_in_thread)
        assert db.query(count) == 1


def test_waiting_for_idleness_in_a_thread_of_an_action_is_refused_at_once() -> None:
    with APP.open() as db:
        _inside[0] = db.run_until_idle
        with pytest.raises(rdb.RequestError) as refused:
            db.action(acting_in_thread)
        assert refused.value.code == "NestedCall"


async def _idle_inside(db: rdb.AsyncDatabase) -> None:
    await db.run_until_idle()


def test_an_async_database_refuses_to_wait_for_idleness_inside_of_an_action() -> None:
    @rdb.action
    async def waits(ctx: rdb.ActionCtx) -> None:
        await opened[0].run_until_idle()

    opened: list[rdb.AsyncDatabase] = []

    async def main() -> str:
        async with app_of(waits).open_async() as db:
            opened.append(db)
            with pytest.raises(rdb.RequestError) as refused:
                await db.action(waits)
            return refused.value.code

    assert anyio.run(main) == "NestedCall"


def _in_thread(call: Callable[[], Any]) -> Callable[[], Any]:
    """Make the call in a thread and join it; what it raised is raised."""

    def body() -> None:
        errors: list[BaseException] = []

        def guarded() -> None:
            try:
                call()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]

    return body


def _in_executor(call: Callable[[], Any]) -> Callable[[], Any]:
    def body() -> None:
        with ThreadPoolExecutor(1) as executor:
            executor.submit(call).result()

    return body


def _in_context_of_caller(call: Callable[[], Any]) -> Callable[[], Any]:
    context = contextvars.copy_context()
    return _in_thread(lambda: context.run(call))


def _with_event(call: Callable[[], Any]) -> Callable[[], Any]:
    def body() -> None:
        ended = threading.Event()
        errors: list[BaseException] = []

        def guarded() -> None:
            try:
                call()
            except BaseException as error:
                errors.append(error)
            ended.set()

        threading.Thread(target=guarded).start()
        ended.wait()
        if errors:
            raise errors[0]

    return body


@pytest.mark.slow
@pytest.mark.parametrize("wait", [_in_thread, _in_executor, _in_context_of_caller, _with_event])
@pytest.mark.parametrize("outer", ["query", "mutation", "job"])
def test_a_function_that_waits_for_a_thread_that_calls_its_database_ends_with_an_error(
    outer: str, wait: Callable[[Callable[[], Any]], Callable[[], Any]]
) -> None:
    limits = rdb.Limits(user_time_s_max=float("inf"))
    codes: list[str] = []

    def call() -> None:
        try:
            db.mutation(add, "inner")
        except rdb.RequestError as error:
            codes.append(error.code)
            raise

    with app_of(*MEMBERS, limits=limits).open() as db:
        _inside[0] = wait(call)
        if outer == "job":
            db.mutation(schedule_writing)
            db.run_until_idle(timeout_s=60)
        else:
            with pytest.raises(rdb.RequestError, match="waits for another thread"):
                db.query(reading) if outer == "query" else db.mutation(writing)
        assert codes == ["Standstill"]
        assert db.query(count) == 0
        db.mutation(add, "next")
        assert db.query(count) == 1


class _Unwilling:
    """An object of the program's, which answers no question."""

    def __getattr__(self, name: str) -> object:
        raise ZeroDivisionError

    def call(self, call: Callable[[], Any]) -> Any:
        return call()


@pytest.mark.slow
def test_looking_at_a_thread_that_waits_asks_nothing_of_the_programs_objects() -> None:
    limits = rdb.Limits(user_time_s_max=float("inf"))
    with app_of(*MEMBERS, limits=limits).open() as db:
        _inside[0] = _in_thread(lambda: _Unwilling().call(lambda: db.query(count)))
        with pytest.raises(rdb.RequestError, match="waits for another thread"):
            db.mutation(writing)


def test_a_call_waits_for_a_function_that_only_takes_long() -> None:
    entered, proceed = threading.Event(), threading.Event()
    with APP.open() as db, ThreadPoolExecutor(2) as executor:

        def busy() -> None:
            entered.set()
            while not proceed.is_set():
                pass

        _inside[0] = busy
        first = executor.submit(db.mutation, writing)
        entered.wait()
        second = executor.submit(db.query, count)
        proceed.set()
        first.result()
        assert second.result() == 1


def test_an_async_database_awaited_in_another_loop_says_so() -> None:
    async def main() -> None:
        async with APP.open_async() as db:
            calls: list[Callable[[], Any]] = [
                lambda: db.query(count),
                lambda: db.mutation(add, "elsewhere"),
                lambda: db.action(acting),
                lambda: db.run_until_idle(),
                lambda: db.subscribe(count).wait_for_change(),
                lambda: db.at(db.latest_ts).query(count),
            ]
            for call in calls:

                def elsewhere(call: Callable[[], Any] = call) -> str:
                    async def other() -> None:
                        await call()

                    with pytest.raises(rdb.RequestError) as refused:
                        asyncio.run(other())
                    return refused.value.code

                assert await asyncio.to_thread(elsewhere) == "WrongEventLoop"
            assert await db.query(count) == 0

    asyncio.run(main())


def test_calls_that_wait_together_share_a_sync() -> None:
    storage = FlakyStorage()
    entered, proceed = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        while not proceed.is_set():
            pass

    with rdb.Database(APP.runtime(storage)) as db, ThreadPoolExecutor(9) as executor:
        _inside[0] = hold
        first = executor.submit(db.query, reading)
        entered.wait()
        before = storage.sync_count
        waiting = [executor.submit(db.mutation, add, str(number)) for number in range(8)]
        while db._calls._calls.qsize() < 8:  # pyright: ignore[reportPrivateUsage]
            pass
        proceed.set()
        for call in (first, *waiting):
            call.result()
        assert storage.sync_count == before + 1
        assert db.query(count) == 8


def test_what_a_function_raises_reaches_the_caller_as_it_is() -> None:
    class Odd(BaseException):
        pass

    def fail() -> None:
        raise Odd

    with APP.open() as db:
        _inside[0] = fail
        for _ in range(2):
            with pytest.raises(Odd):
                db.mutation(writing)
        assert db.query(count) == 0


def test_a_function_sees_its_callers_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []
    with APP.open() as db:
        variable.set("mine")
        _inside[0] = lambda: seen.append(variable.get())
        db.query(reading)
    assert seen == ["mine"]


def test_every_call_of_a_closed_database_is_refused() -> None:
    with APP.open() as db:
        live = db.subscribe(count)
    db.close()
    for call in (
        lambda: db.query(count),
        lambda: db.mutation(add, "late"),
        lambda: db.action(acting),
        lambda: live.value,
        db.run_until_idle,
    ):
        with pytest.raises(rdb.StorageError) as refused:
            call()
        assert refused.value.code == "DatabaseClosed"
    live.close()
