"""Does a database that runs for long keep only what it needs?"""

from __future__ import annotations

import asyncio
import gc
import math

from inline_app import app_of

import reactivedb as rdb
from reactivedb.testing import FakeClock

rows = rdb.Table("rows")


@rdb.mutation
def change_of_mind(ctx: rdb.MutationCtx, times: int) -> None:
    """Schedules and cancels, as a debounced save does."""
    for _ in range(times):
        ctx.scheduler.cancel(ctx.scheduler.run_after(3600, put))


@rdb.mutation
def put(ctx: rdb.MutationCtx) -> None:
    ctx.db.insert(rows, {})


@rdb.mutation
def schedule(ctx: rdb.MutationCtx) -> None:
    ctx.scheduler.run_after(3600, put)


@rdb.mutation
def cancel_all(ctx: rdb.MutationCtx) -> None:
    for job in ctx.db.system.query("_scheduled_functions"):
        ctx.scheduler.cancel(job["_id"])


@rdb.query
def count(ctx: rdb.QueryCtx) -> int:
    return ctx.db.query(rows).count()


def test_cancelled_jobs_do_not_wait_in_memory_for_their_time() -> None:
    clock = FakeClock()
    # Thousands of jobs in one mutation may take a second on a busy machine.
    limits = rdb.Limits(user_time_s_max=math.inf)
    app = app_of(rows, change_of_mind, put, schedule, cancel_all, count, limits=limits)
    with app.open(clock=clock) as db:
        heap_sizes: list[int] = []
        for _ in range(10):
            for _ in range(400):
                db.mutation(schedule)
            db.mutation(cancel_all)
            heap_sizes.append(len(db.runtime.jobs._heap))
        assert max(heap_sizes) <= 2_500
        db.mutation(schedule)
        clock.advance(3600)
        db.run_until_idle()
        assert db.query(count) == 1


def test_a_database_that_nobody_follows_keeps_no_commits_for_followers() -> None:
    limits = rdb.Limits(commit_history_size_bytes_max=50_000)
    with app_of(rows, put, count, limits=limits).open() as db:
        for _ in range(300):
            db.mutation(put)
        for reader in db.runtime.engine.committer._readers:
            assert len(reader._records) < 50
        with db.subscribe(count) as live:
            assert live.wait_for_change(timeout_s=5) == 300
            db.mutation(put)
            assert live.wait_for_change(timeout_s=5) == 301


def test_runs_leave_nothing_for_the_garbage_collector() -> None:
    """What refers to itself waits for a collector that goes through everything: a fifth of the time."""
    with app_of(rows, put, schedule, count).open() as db, db.subscribe(count) as live:

        def run_each() -> None:
            db.mutation(put)
            db.mutation(schedule)
            db.query(count)
            live.wait_for_change(timeout_s=5)

        run_each()
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(10):
                run_each()
            gc.collect()
            left = [each for each in gc.garbage if type(each).__module__.startswith("reactivedb")]
            # Of another test, whose thread may end while this one runs.
            left = [
                each
                for each in left
                if not (isinstance(each, asyncio.AbstractEventLoop) and each.is_closed())
            ]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert left == []
