"""Which commits run a live query again, for whom, and what is kept of it?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from inline_app import FlakyStorage, app_of

import reactivedb as rdb
from reactivedb.app import Runtime
from reactivedb.functions import ANONYMOUS, Identity
from reactivedb.subscriptions import LiveQuery
from reactivedb.testing import FakeClock
from reactivedb.values import decode


class Note(rdb.Document, table="notes"):
    author: str
    score: float = 0

    by_author = rdb.Index("author")
    by_score = rdb.Index("score")


@rdb.mutation
def add(ctx: rdb.MutationCtx, author: str, score: float = 0) -> rdb.Id[Note]:
    return ctx.db.insert(Note(author=author, score=score))


@rdb.mutation
def set_score(ctx: rdb.MutationCtx, id: rdb.Id[Note], score: float) -> None:
    ctx.db.patch(id, score=score)


@rdb.query
def total(ctx: rdb.QueryCtx, author: str) -> float:
    return sum(note.score for note in ctx.db.query(Note.by_author.eq(author)))


@rdb.query
def names(ctx: rdb.QueryCtx, author: str) -> list[str]:
    return [note.author for note in ctx.db.query(Note.by_author.eq(author))]


@rdb.query
def at_creation(ctx: rdb.QueryCtx, author: str, creation_time: float) -> list[float]:
    return [note.score for note in ctx.db.query(Note.by_author.eq(author, creation_time))]


@rdb.query
def best(ctx: rdb.QueryCtx) -> list[float]:
    return [note.score for note in ctx.db.query(Note.by_score).order("desc").take(2)]


@rdb.query
def twice(ctx: rdb.QueryCtx) -> float:
    high = ctx.db.query(Note.by_score).filter(lambda note: note.score > 5).count()
    return float(high + ctx.db.query(Note.by_score).filter(lambda note: note.score < 0).count())


@rdb.query
def overlapping(ctx: rdb.QueryCtx) -> float:
    return float(len(ctx.db.query(Note.by_score).take(1)) + len(ctx.db.query(Note.by_score).take(2)))


@rdb.query
def by_names(ctx: rdb.QueryCtx) -> float:
    found = 0
    for name in ("ada", "bob"):
        found += ctx.db.query(Note).filter(lambda note: note.author == name).count()  # noqa: B023
    return float(found)


@rdb.query
def lazily(ctx: rdb.QueryCtx) -> list[float]:
    """Scores that rise; the filter's threshold moves while it is asked."""
    shown, low = [], -1.0
    for note in ctx.db.query(Note).filter(lambda note: note.score > low):  # noqa: B023
        shown.append(note.score)
        low = note.score
    return shown


@rdb.query
def failing_filter(ctx: rdb.QueryCtx) -> float:
    return float(ctx.db.query(Note).filter(lambda note: 1 / note.score > 0).count())


@rdb.query
def mine(ctx: rdb.QueryCtx) -> str:
    user = ctx.auth.get_user_identity()
    return user.subject if user is not None else "nobody"


@rdb.query
def sometimes_mine(ctx: rdb.QueryCtx) -> float:
    if ctx.db.query(Note).first() is not None:
        ctx.auth.get_user_identity()
    return 1


ADA, BOB = (Identity.acting_as({"tokenIdentifier": f"issuer|{name}"}) for name in ("ada", "bob"))


class Holder:
    """One that follows one query and counts what it is told."""

    def __init__(
        self,
        runtime: Runtime,
        path: str,
        identity: Identity = ANONYMOUS,
        *,
        at_once: bool = True,
        **args: Any,
    ) -> None:
        self.runtime, self.identity, self.told_count = runtime, identity, 0
        self.live: LiveQuery = runtime.cache.hold(f"notes:{path}", args, self)
        if at_once:
            runtime.cache.refresh()

    @property
    def owner(self) -> Holder:
        return self

    def changed(self, live: LiveQuery) -> None:
        self.live = live
        self.told_count += 1

    @property
    def value(self) -> Any:
        assert self.live.result is not None
        assert self.live.result.json is not None, self.live.result.error
        return decode(self.live.result.json)

    @property
    def failure(self) -> str:
        assert self.live.result is not None
        assert self.live.result.error is not None
        return self.live.result.error.message

    def release(self) -> None:
        self.runtime.cache.release(self.live, self)


@pytest.fixture
def storage() -> FlakyStorage:
    return FlakyStorage()


@pytest.fixture
def runtime(storage: FlakyStorage) -> Iterator[Runtime]:
    queries = (total, at_creation, best, twice, overlapping, by_names, lazily, failing_filter)
    app = app_of(Note, add, set_score, mine, sometimes_mine, *queries)
    opened = app.runtime(storage, clock=FakeClock())
    yield opened
    opened.cache.check()


def write(runtime: Runtime, function: Any, *args: Any, refresh: bool = True) -> Any:
    runner = runtime.runner
    definition = runner.registry.of(function)
    value = runner.mutation(definition, runner.bind(definition, args, {}), ANONYMOUS).unwrap()
    if refresh:
        runtime.cache.refresh()
        runtime.cache.check()
    return value


def test_only_a_write_inside_of_what_was_read_runs_the_query(runtime: Runtime) -> None:
    holder = Holder(runtime, "total", author="ada")
    write(runtime, add, "bob", 5)
    assert holder.live.run_count == 1
    write(runtime, add, "ada", 5)
    assert (holder.live.run_count, holder.value) == (2, 5)


def test_everybody_shares_one_run_and_one_result(runtime: Runtime) -> None:
    holders = [Holder(runtime, "total", author="ada") for _ in range(3)]
    assert len({id(holder.live) for holder in holders}) == 1
    write(runtime, add, "ada", 1)
    assert holders[0].live.run_count == 2
    assert [holder.told_count for holder in holders] == [2, 1, 1]


def test_several_commits_between_two_refreshes_cost_one_run(runtime: Runtime) -> None:
    holder = Holder(runtime, "total", author="ada")
    for _ in range(5):
        write(runtime, add, "ada", 1, refresh=False)
    runtime.cache.refresh()
    assert (holder.live.run_count, holder.value) == (2, 5)


def test_an_equal_result_is_told_nobody(runtime: Runtime) -> None:
    holder = Holder(runtime, "total", author="ada")
    write(runtime, add, "ada", 0)
    assert (holder.live.run_count, holder.told_count) == (2, 1)


def test_a_write_beyond_the_last_document_taken_is_not_seen(runtime: Runtime) -> None:
    for score in (1, 2, 3):
        write(runtime, add, "ada", score)
    holder = Holder(runtime, "best")
    write(runtime, add, "ada", 1.5)
    assert holder.live.run_count == 1
    write(runtime, add, "ada", 2.5)
    assert (holder.live.run_count, holder.value) == (2, [3, 2.5])


def test_an_equal_prefix_may_end_with_the_creation_time(runtime: Runtime) -> None:
    id = write(runtime, add, "ada", 1)
    document = runtime.engine.load(runtime.engine.catalog.table("notes"), id)
    assert document is not None
    holder = Holder(runtime, "at_creation", author="ada", creationTime=document.creation_time)
    write(runtime, set_score, id, 2)
    assert holder.value == [2]


def test_a_filter_keeps_writes_out_that_it_would_not_show(runtime: Runtime) -> None:
    holder = Holder(runtime, "twice")
    id = write(runtime, add, "ada", 3)
    assert holder.live.run_count == 1
    write(runtime, set_score, id, 7)  # was not shown, is now
    assert (holder.live.run_count, holder.value) == (2, 1)
    write(runtime, set_score, id, 4)  # was shown, is not any more
    assert (holder.live.run_count, holder.value) == (3, 0)
    write(runtime, set_score, id, -1)
    write(runtime, set_score, id, 3)
    assert holder.live.run_count == 5


def test_a_filter_is_asked_with_what_it_captured_when_the_query_ran(runtime: Runtime) -> None:
    holder = Holder(runtime, "by_names")
    write(runtime, add, "cleo")
    assert holder.live.run_count == 1
    write(runtime, add, "ada")
    assert holder.value == 1
    write(runtime, add, "bob")
    assert (holder.live.run_count, holder.value) == (3, 2)


def test_a_filter_whose_captured_value_moves_lets_every_write_through(runtime: Runtime) -> None:
    write(runtime, add, "ada", 5)
    holder = Holder(runtime, "lazily")
    write(runtime, add, "ada", 3)
    assert (holder.live.run_count, holder.value) == (2, [5])
    write(runtime, add, "ada", 6)
    assert holder.value == [5, 6]


def test_a_filter_that_raises_about_a_write_lets_it_through(runtime: Runtime) -> None:
    holder = Holder(runtime, "failing_filter")
    assert holder.value == 0
    write(runtime, add, "ada", 0)
    assert holder.live.run_count == 2
    assert holder.live.result is not None
    assert holder.live.result.error is not None


def test_a_result_nobody_holds_stays_while_it_is_true(runtime: Runtime) -> None:
    holder = Holder(runtime, "total", author="ada")
    live = holder.live
    holder.release()
    write(runtime, add, "bob")
    assert Holder(runtime, "total", author="ada").live is live
    assert live.run_count == 1
    live_again = Holder(runtime, "total", author="ada")
    for one in list(live.holders):
        runtime.cache.release(live, one)
    write(runtime, add, "ada")
    assert len(runtime.cache) == 0
    assert Holder(runtime, "total", author="ada").live is not live_again.live


def test_one_commit_may_touch_an_idle_result_in_several_ways(runtime: Runtime) -> None:
    write(runtime, add, "ada", 1)
    write(runtime, add, "ada", 2)
    Holder(runtime, "overlapping").release()
    write(runtime, add, "ada", 0)
    assert len(runtime.cache) == 0


def test_reading_one_range_twice_leaves_no_watch_behind(runtime: Runtime) -> None:
    holder = Holder(runtime, "twice")
    for score in range(6, 10):
        write(runtime, add, "ada", score)
    assert holder.value == 4
    assert len(runtime.cache.tracker) == 2
    holder.release()
    write(runtime, add, "ada", 9)
    assert len(runtime.cache.tracker) == 0


def test_idle_results_are_bounded(storage: FlakyStorage) -> None:
    limits = rdb.Limits(idle_result_size_bytes_max=5_000)
    runtime = app_of(Note, add, total, limits=limits).runtime(storage, clock=FakeClock())
    for number in range(20):
        Holder(runtime, "total", author=str(number)).release()
    assert 0 < len(runtime.cache) < 5
    runtime.cache.check()


def test_the_results_of_all_live_queries_are_bounded_together(storage: FlakyStorage) -> None:
    limits = rdb.Limits(live_results_size_bytes_max=25, idle_result_size_bytes_max=0)
    runtime = app_of(Note, add, names, limits=limits).runtime(storage, clock=FakeClock())
    for author in ("ten-letter", "nine-char", "bob"):
        write(runtime, add, author)
    ten, shared = (Holder(runtime, "names", author="ten-letter") for _ in range(2))
    assert ten.value == shared.value == ["ten-letter"]
    assert "TooManyLiveResults" in Holder(runtime, "names", author="nine-char").failure
    bob = Holder(runtime, "names", author="bob")
    assert bob.value == ["bob"]
    write(runtime, add, "bob")
    assert "may have 25 bytes together, with this one they would have 27" in bob.failure
    runtime.cache.check()
    # Once there is room again, the next run has its result.
    ten.release()
    shared.release()
    write(runtime, add, "bob")
    assert bob.value == ["bob"] * 3
    runtime.cache.check()


def test_a_result_that_the_identity_went_into_never_crosses(runtime: Runtime) -> None:
    ada, bob, other_ada = (Holder(runtime, "mine", who) for who in (ADA, BOB, ADA))
    assert [holder.value for holder in (ada, bob, other_ada)] == ["ada", "bob", "ada"]
    assert ada.live is other_ada.live is not bob.live


@pytest.mark.parametrize(("path", "entry_count"), [("best", 1), ("mine", 2)])
def test_identities_that_ask_before_the_first_run_share_what_is_not_theirs(
    runtime: Runtime, path: str, entry_count: int
) -> None:
    cache = runtime.cache
    holders = [Holder(runtime, path, who, at_once=False) for who in (ADA, BOB, ADA)]
    cache.refresh()
    assert [holder.told_count for holder in holders] == [1, 1, 1]
    assert len({holder.live for holder in holders}) == len(cache) == entry_count
    assert sum(live.run_count for live in {holder.live for holder in holders}) == entry_count
    write(runtime, add, "ada", 5)
    assert len(cache) == entry_count
    cache.check()


def test_holders_part_when_the_query_begins_to_look_at_the_identity(runtime: Runtime) -> None:
    ada, bob = (Holder(runtime, "sometimes_mine", who) for who in (ADA, BOB))
    assert ada.live is bob.live
    write(runtime, add, "ada")
    assert ada.live is not bob.live
    assert bob.value == 1


def test_the_one_who_asked_first_may_leave_before_the_others_part(runtime: Runtime) -> None:
    ada, bob = (Holder(runtime, "sometimes_mine", who) for who in (ADA, BOB))
    ada.release()
    write(runtime, add, "ada")
    assert bob.live.identity == BOB
    assert len(runtime.cache) == 1


def test_after_an_undone_group_results_are_those_of_the_file(runtime: Runtime, storage: FlakyStorage) -> None:
    holder = Holder(runtime, "total", author="ada")
    write(runtime, add, "ada", 5)
    assert holder.value == 5  # computed, not yet shown to anybody
    storage.failing_flush_count = 1
    with pytest.raises(rdb.StorageError):
        runtime.engine.flush()
    runtime.cache.refresh()
    assert holder.value == 0


def test_a_query_that_does_not_exist_is_a_result_too(runtime: Runtime) -> None:
    holder = Holder(runtime, "missing")
    assert holder.live.result is not None
    assert holder.live.result.error is not None
    assert "Could not find public function" in holder.live.result.error.message
