"""Does what is counted for live queries cover what they keep?"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any
from weakref import ref

import pytest
from inline_app import FlakyStorage, app_of

import reactivedb as rdb
from reactivedb.app import Runtime
from reactivedb.functions import ANONYMOUS
from reactivedb.subscriptions import LiveQuery, QuerySet
from reactivedb.testing import FakeClock

ENTRY_BYTES = 8 * 1024


class Mark(rdb.Document, table="marks"):
    name: str

    by_name = rdb.Index("name")


@rdb.mutation
def mark(ctx: rdb.MutationCtx, name: str) -> None:
    ctx.db.insert(Mark(name=name))


@rdb.query
def small_lists(ctx: rdb.QueryCtx, count: float) -> list[list[str]]:
    return [[] for _ in range(int(count))]


@rdb.query
def many_reads(ctx: rdb.QueryCtx, count: float, length: float = 5) -> float:
    for number in range(int(count)):
        ctx.db.query(Mark.by_name.eq(str(number) * int(length))).first()
    return count


@rdb.query
def many_ranges(ctx: rdb.QueryCtx, count: float) -> float:
    for number in range(int(count)):
        ctx.db.query(Mark.by_name.gte(str(number)).lt(f"{number}~")).collect()
    return count


@rdb.query
def filtered(ctx: rdb.QueryCtx, name: str) -> float:
    # A text cannot change, so the filter is kept with it, to be asked about later writes.
    return float(ctx.db.query(Mark).filter(lambda found: found.name == name).count())


@rdb.query
def talkative(ctx: rdb.QueryCtx, length: float) -> None:
    print("x" * int(length))


@rdb.query
def failing(ctx: rdb.QueryCtx, length: float) -> None:
    raise rdb.ApplicationError("x" * int(length))


FUNCTIONS = (Mark, mark, small_lists, many_reads, many_ranges, filtered, talkative, failing)


def runtime_with(**limits: Any) -> Runtime:
    return app_of(*FUNCTIONS, limits=rdb.Limits(**limits)).runtime(FlakyStorage(), clock=FakeClock())


class Holder:
    identity = ANONYMOUS

    def __init__(self, runtime: Runtime, path: str, *, keeps_value: bool = False, **args: Any) -> None:
        self.told_count = 0
        self.live: LiveQuery = runtime.cache.hold(f"notes:{path}", args, self, keeps_value=keeps_value)
        runtime.cache.refresh()

    @property
    def owner(self) -> Holder:
        return self

    def changed(self, live: LiveQuery) -> None:
        self.live = live
        self.told_count += 1

    @property
    def failure(self) -> str:
        assert self.live.result is not None
        assert self.live.result.error is not None
        return self.live.result.error.message


def taken_bytes(work: Callable[[], Any]) -> tuple[int, Any]:
    """What is kept of the work, beside what it gives."""
    gc.collect()
    tracemalloc.start()
    kept = work()
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return taken, kept


@pytest.mark.parametrize(
    ("path", "args"),
    [
        ("small_lists", {"count": 5000}),
        ("many_reads", {"count": 300}),
        ("many_reads", {"count": 50, "length": 2000}),
        ("many_ranges", {"count": 60}),
        ("talkative", {"length": 30_000}),
        ("failing", {"length": 50_000}),
        ("filtered", {"name": "x" * 50_000}),
    ],
)
def test_what_is_counted_for_a_live_query_covers_what_it_keeps(path: str, args: dict[str, Any]) -> None:
    runtime = runtime_with()
    Holder(runtime, path, **{name: type(args[name])(1) for name in args})
    taken, holder = taken_bytes(lambda: Holder(runtime, path, **args))
    counted = holder.live.size_bytes + holder.live.args_size_bytes
    assert taken < 1.5 * (counted + ENTRY_BYTES)
    assert counted < 4 * taken
    runtime.cache.check()


def test_a_result_for_a_client_is_kept_as_its_text_alone() -> None:
    runtime = runtime_with()
    result = Holder(runtime, "small_lists", count=1000).live.result
    assert result is not None
    assert result.json is not None
    assert result.value is None
    assert result.size_bytes == len(result.json)


def test_a_value_for_a_holder_in_this_process_counts_as_what_it_takes() -> None:
    runtime = runtime_with()
    Holder(runtime, "small_lists", count=1, keeps_value=True)
    taken, holder = taken_bytes(lambda: Holder(runtime, "small_lists", count=5000, keeps_value=True))
    assert holder.live.result.value == [[] for _ in range(5000)]
    assert taken < 1.2 * (holder.live.size_bytes + ENTRY_BYTES)
    # One that a client follows is another one, with its text alone.
    assert Holder(runtime, "small_lists", count=5000).live is not holder.live


def test_a_live_value_of_this_process_is_an_object_and_new_for_each_consumer() -> None:
    with app_of(*FUNCTIONS).open(":memory:") as database:
        with database.subscribe(small_lists, 2) as one, database.subscribe(small_lists, 2) as other:
            assert one.value == other.value == [[], []]
            assert one.value is not other.value
        with database.subscribe(failing, 3) as live, pytest.raises(rdb.ApplicationError, match="xxx"):
            live.value  # noqa: B018


def test_what_an_error_in_this_process_keeps_has_no_variables_of_its_function() -> None:
    runtime = runtime_with()
    raised = Holder(runtime, "failing", length=5, keeps_value=True).live.result.raised  # type: ignore[union-attr]
    assert raised is not None
    trace, names = raised.__traceback__, list[str]()
    while trace is not None:
        names += trace.tb_frame.f_locals
        trace = trace.tb_next
    assert "length" not in names


@pytest.mark.parametrize(
    ("path", "args"),
    [
        ("small_lists", {"count": 8000}),
        ("many_reads", {"count": 100}),
        ("talkative", {"length": 30_000}),
        ("failing", {"length": 30_000}),
        ("filtered", {"name": "x" * 30_000}),
    ],
)
def test_whatever_makes_a_live_query_large_it_fails_when_there_is_no_room(
    path: str, args: dict[str, Any]
) -> None:
    runtime = runtime_with(live_results_size_bytes_max=20_000)
    holder = Holder(runtime, path, **args)
    assert "TooManyLiveResults" in holder.failure
    assert holder.live.size_bytes < 1000
    runtime.cache.check()


def test_a_query_whose_reads_have_no_room_runs_again_for_any_change_of_what_it_reads() -> None:
    runtime = runtime_with(live_results_size_bytes_max=20_000)
    holder = Holder(runtime, "many_reads", count=100)
    assert len(runtime.cache.tracker) == 1
    with runtime.engine.lock:
        definition = runtime.runner.registry.of(mark)
        result = runtime.runner.mutation(definition, {"name": "none of them"}, ANONYMOUS)
        assert result.error is None
        runtime.cache.refresh()
    assert holder.live.run_count == 2
    runtime.cache.check()


def test_idle_results_count_with_their_arguments_and_their_reads() -> None:
    runtime = runtime_with(idle_result_size_bytes_max=100_000)
    for number in range(10):
        for path, args in (
            ("many_reads", {"count": 60 + number}),
            ("filtered", {"name": "x" * 20_000 + str(number)}),
        ):
            holder = Holder(runtime, path, **args)
            runtime.cache.release(holder.live, holder)
    assert 0 < len(runtime.cache) < 4
    assert runtime.cache.idle_size_bytes <= 100_000
    runtime.cache.check()


def test_a_large_result_that_was_replaced_is_not_held_for_a_client_that_was_told_it() -> None:
    runtime = runtime_with()
    queries = QuerySet(runtime.cache, on_change=lambda: None)
    live = queries.add(0, "notes:many_reads", {"count": 1}, ANONYMOUS)
    large = queries.add(1, "notes:small_lists", {"count": 8000}, ANONYMOUS)
    runtime.cache.refresh()
    assert [change.query_id for change in queries.take_changes()] == [0, 1]
    # What has not changed is not told again.
    runtime.cache.invalidate_all()
    runtime.cache.refresh()
    assert queries.take_changes() == []
    assert live.run_count == large.run_count == 2
    result = ref(large.result)
    large.result = None
    gc.collect()
    assert result() is None
