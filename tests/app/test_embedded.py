"""What does a program see that runs a database in its own process?"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from inline_app import FlakyStorage, app_of

import reactivedb as rdb
from reactivedb.app import Database
from reactivedb.testing import FakeClock


class Note(rdb.Document, table="notes"):
    text: str
    tags: list[str]


@dataclass
class Summary:
    texts: list[str]


@rdb.mutation
def add(ctx: rdb.MutationCtx, text: str) -> rdb.Id[Note]:
    if text == "refused":
        raise rdb.ApplicationError("refused")
    return ctx.db.insert(Note(text=text, tags=["a"]))


@rdb.mutation
def remove(ctx: rdb.MutationCtx, id: rdb.Id[Note]) -> None:
    ctx.db.delete(id)


@rdb.query
def texts(ctx: rdb.QueryCtx) -> list[str]:
    found = [note.text for note in ctx.db.query(Note)]
    if "bad" in found:
        raise rdb.ApplicationError("bad is there")
    return found


@rdb.query
def notes(ctx: rdb.QueryCtx) -> list[Note]:
    return ctx.db.query(Note).collect()


@rdb.query
def summary(ctx: rdb.QueryCtx) -> Summary:
    return Summary([note.text for note in ctx.db.query(Note)])


@rdb.action
async def wait_for_ever(ctx: rdb.ActionCtx) -> None:
    await ctx.run_mutation(add, text="started")
    await anyio.sleep_forever()


@rdb.action
async def add_twice(ctx: rdb.ActionCtx, text: str) -> list[str]:
    for number in range(2):
        await ctx.run_mutation(add, text=f"{text}{number}")
    return await ctx.run_query(texts)


@rdb.mutation
def start_waiting(ctx: rdb.MutationCtx) -> str:
    return ctx.scheduler.run_after(0, wait_for_ever)


MEMBERS = (Note, add, remove, texts, notes, summary, wait_for_ever, add_twice, start_waiting)


@pytest.fixture
def app() -> rdb.App:
    return app_of(*MEMBERS)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_a_live_result_gives_the_value_of_now_then_only_the_newest(app: rdb.App) -> None:
    with app.open() as db, db.subscribe(texts) as live:
        assert live.wait_for_change(timeout_s=1) == []
        for text in "abc":
            db.mutation(add, text)
        assert live.wait_for_change(timeout_s=1) == ["a", "b", "c"]
        with pytest.raises(TimeoutError):
            live.wait_for_change(timeout_s=0.01)


def test_taking_the_value_counts_as_having_seen_it(app: rdb.App) -> None:
    with app.open() as db, db.subscribe(texts) as live:
        db.mutation(add, "a")
        assert live.value == ["a"] == live.value
        with pytest.raises(TimeoutError):
            live.wait_for_change(timeout_s=0.01)


def test_a_thread_that_waits_is_woken_by_a_commit_of_another(app: rdb.App) -> None:
    with app.open() as db, db.subscribe(texts) as live:
        seen: list[list[str]] = [live.value]
        waiter = threading.Thread(target=lambda: seen.append(live.wait_for_change(timeout_s=5)))
        waiter.start()
        db.mutation(add, "a")
        waiter.join(5)
        assert seen == [[], ["a"]]


def test_a_query_that_fails_raises_once_and_the_live_result_goes_on(app: rdb.App) -> None:
    with app.open() as db, db.subscribe(texts) as live:
        assert live.value == []
        bad = db.mutation(add, "bad")
        with pytest.raises(rdb.ApplicationError):
            live.wait_for_change(timeout_s=1)
        with pytest.raises(TimeoutError):
            live.wait_for_change(timeout_s=0.01)
        db.mutation(remove, bad)
        assert live.wait_for_change(timeout_s=1) == []


def test_what_one_consumer_does_to_its_value_is_seen_by_nobody_else(app: rdb.App) -> None:
    with (
        app.open() as db,
        db.subscribe(notes) as first,
        db.subscribe(notes) as second,
        db.subscribe(summary) as third,
        db.subscribe(summary) as fourth,
    ):
        id = db.mutation(add, "a")
        mine: Any = first.value
        mine[0].tags.append("mine")
        mine.clear()
        assert [(note.id, note.tags) for note in second.value] == [(id, ["a"])]
        assert [(note.id, note.tags) for note in first.value] == [(id, ["a"])]
        third.value.texts.append("mine")
        assert fourth.value.texts == third.value.texts == ["a"]


def test_a_closed_live_result_holds_nothing(app: rdb.App) -> None:
    with app.open() as db:
        with db.subscribe(texts) as live:
            assert live.value == []
        db.mutation(add, "a")
        db.run_until_idle()
        assert live.run_count == 1
        db.runtime.cache.check()


def test_what_a_mutation_raises_is_raised_and_nothing_is_written(app: rdb.App) -> None:
    with app.open() as db:
        with pytest.raises(rdb.ApplicationError):
            db.mutation(add, "refused")
        assert db.query(texts) == []


def test_an_action_runs_to_its_end_and_gives_its_result(app: rdb.App) -> None:
    with app.open() as db, db.subscribe(texts) as live:
        assert db.action(add_twice, "x") == ["x0", "x1"]
        assert live.value == ["x0", "x1"]


def test_closing_cancels_running_actions_and_their_jobs_have_failed(app: rdb.App, tmp_path: Path) -> None:
    clock, path = FakeClock(), tmp_path / "data.db"
    with app.open(path, clock=clock) as db, db.subscribe(texts) as live:
        id = db.mutation(start_waiting)
        while live.wait_for_change(timeout_s=5) != ["started"]:
            pass
    with app.open(path, clock=clock) as db, db.runtime.engine.lock:
        row = db.runtime.jobs._row(id)  # pyright: ignore[reportPrivateUsage]
        assert row is not None
        assert row.fields["state"]["kind"] == "failed"  # type: ignore[index,call-overload]


def test_a_caller_of_an_action_is_told_that_the_database_was_closed(app: rdb.App) -> None:
    raised: list[BaseException] = []
    db = app.open()

    def call() -> None:
        try:
            db.action(wait_for_ever)
        except rdb.StorageError as error:
            raised.append(error)

    with db.subscribe(texts) as live:
        caller = threading.Thread(target=call)
        caller.start()
        while live.wait_for_change(timeout_s=5) != ["started"]:
            pass
    db.close()
    caller.join(5)
    assert [error.code for error in raised if isinstance(error, rdb.StorageError)] == ["DatabaseClosed"]


def test_a_closed_database_says_so_and_may_be_closed_again(app: rdb.App) -> None:
    db = app.open()
    db.close()
    db.close()
    for use in (lambda: db.query(texts), lambda: db.mutation(add, "a"), lambda: db.subscribe(texts)):
        with pytest.raises(rdb.StorageError) as caught:
            use()
        assert caught.value.code == "DatabaseClosed"


def test_what_was_acknowledged_is_there_after_opening_again(app: rdb.App, tmp_path: Path) -> None:
    with app.open(tmp_path / "data.db") as db:
        db.mutation(add, "kept")
    with app.open(tmp_path / "data.db") as db:
        assert db.query(texts) == ["kept"]


def test_many_threads_lose_no_write(app: rdb.App) -> None:
    with app.open() as db, db.subscribe(texts) as live:
        threads = [
            threading.Thread(target=lambda: [db.mutation(add, "x") for _ in range(10)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(live.value) == 40
        db.runtime.cache.check()


def test_a_failed_group_is_raised_and_the_live_result_is_that_of_the_file(app: rdb.App) -> None:
    storage = FlakyStorage()
    with Database(app.runtime(storage, clock=FakeClock())) as db, db.subscribe(texts) as live:
        db.mutation(add, "kept")
        storage.failing_flush_count = 1
        with pytest.raises(rdb.StorageError):
            db.mutation(add, "lost")
        assert live.value == ["kept"]
        db.mutation(add, "next")
        assert live.value == ["kept", "next"]


@pytest.mark.anyio
async def test_the_async_face_gives_now_and_then_the_newest(app: rdb.App) -> None:
    async with app.open_async() as db, db.subscribe(texts) as results:
        seen = [await anext(results)]
        async with anyio.create_task_group() as tasks:
            for text in "abc":
                tasks.start_soon(db.mutation, add, text)
        seen.append(await anext(results))
        assert seen == [[], ["a", "b", "c"]]
        with pytest.raises(TimeoutError), anyio.fail_after(0.01):
            await anext(results)


@pytest.mark.anyio
async def test_commits_that_are_ready_together_share_a_sync() -> None:
    storage = FlakyStorage()
    runtime = app_of(*MEMBERS).runtime(storage, clock=FakeClock())
    db = rdb.AsyncDatabase(lambda: runtime)
    async with db:
        before = storage.sync_count
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(db.mutation, add, "x")
        assert len(await db.query(texts)) == 20
        assert storage.sync_count - before < 5


@pytest.mark.anyio
async def test_the_async_database_goes_on_after_errors_and_closes(app: rdb.App) -> None:
    async with app.open_async() as db, db.subscribe(texts) as results:
        assert await anext(results) == []
        bad = await db.mutation(add, "bad")
        with pytest.raises(rdb.ApplicationError):
            await anext(results)
        await db.mutation(remove, bad)
        assert await anext(results) == []
        assert await db.action(add_twice, "x") == ["x0", "x1"]
        await db.run_until_idle()
    with pytest.raises(rdb.StorageError):
        await db.query(texts)


@pytest.mark.anyio
async def test_a_burst_of_jobs_leaves_turns_of_the_loop_to_others() -> None:
    @rdb.mutation
    def again(ctx: rdb.MutationCtx, left: int) -> None:
        if left:
            ctx.scheduler.run_after(0, again, left - 1)

    async with app_of(again).open_async(clock=FakeClock()) as db:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count_turns)
            await db.mutation(again, 50)
            before = turns
            await db.run_until_idle()
            tasks.cancel_scope.cancel()
    assert turns - before >= 50


@pytest.mark.anyio
async def test_a_waiting_consumer_is_told_when_the_database_is_closed(app: rdb.App) -> None:
    database = app.open_async()
    await database.open()
    async with database.subscribe(texts) as results:
        assert await anext(results) == []

        async def close() -> None:
            await database.close()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(close)
            with pytest.raises(rdb.StorageError) as caught:
                await anext(results)
    assert caught.value.code == "DatabaseClosed"


def test_a_query_that_fails_again_in_the_same_way_is_told_once() -> None:
    @rdb.query
    def broken(ctx: rdb.QueryCtx) -> None:
        ctx.db.query(Note).collect()
        raise ValueError("always")

    with app_of(Note, add, broken).open() as database, database.subscribe(broken) as live:
        with pytest.raises(ValueError, match="always"):
            live.wait_for_change(timeout_s=1)
        database.mutation(add, "more")
        database.run_until_idle()
        assert live.run_count == 2
        with pytest.raises(TimeoutError):
            live.wait_for_change(timeout_s=0)
