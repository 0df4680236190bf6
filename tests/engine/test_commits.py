"""When does a commit count, what is undone with a failed group, and what conflicts with what?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from inline_app import FlakyStorage, app_of

import reactivedb as rdb
from reactivedb.engine import Engine
from reactivedb.errors import StorageError
from reactivedb.functions import ANONYMOUS, SYSTEM_TABLES, Runner
from reactivedb.schema import table_definition
from reactivedb.storage import MemoryStorage
from reactivedb.testing import FakeClock

from .notes import Note, Run, stored


@pytest.fixture
def storage() -> FlakyStorage:
    return FlakyStorage()


@pytest.fixture
def flaky(storage: FlakyStorage) -> Engine:
    engine = Engine(storage, clock=FakeClock())
    engine.declare([table_definition(Note)], ())
    return engine


def watch_durability(engine: Engine, ts: int) -> list[StorageError | None]:
    heard: list[StorageError | None] = []
    engine.committer.when_durable(ts, heard.append)
    return heard


def test_timestamps_rise_while_the_clock_stands_still(engine: Engine) -> None:
    first, second = (Run(engine) for _ in range(2))
    first.insert("ada")
    second.insert("ada")
    assert first.commit() < second.commit()


def test_a_transaction_that_changed_nothing_takes_no_timestamp(engine: Engine) -> None:
    stored(engine, ("ada", 1))
    before = engine.committer.applied_ts
    reader = Run(engine)
    reader.db.query(Note).collect()
    assert reader.commit() == before == engine.committer.applied_ts


def test_one_sync_makes_a_whole_group_durable_in_order(flaky: Engine, storage: FlakyStorage) -> None:
    told: list[int] = []
    syncs = storage.sync_count
    for number in range(3):
        run = Run(flaky)
        run.insert("ada", number)
        flaky.committer.when_durable(run.commit(), lambda _, number=number: told.append(number))
    assert told == []
    flaky.make_durable()
    assert told == [0, 1, 2]
    assert storage.sync_count == syncs + 1
    assert flaky.committer.durable_ts == flaky.committer.flushed_ts == flaky.committer.applied_ts


def test_a_commit_is_visible_before_it_is_durable(engine: Engine) -> None:
    stored(engine, ("ada", 1))
    heard = watch_durability(engine, engine.committer.applied_ts)
    assert Run(engine).scores(Note) == [1]
    assert heard == []
    engine.make_durable()
    assert heard == [None]


def test_a_sync_covers_only_what_was_flushed_before_it(flaky: Engine) -> None:
    stored(flaky, ("ada", 1))
    flushed_ts = flaky.flush()
    stored(flaky, ("ada", 2))
    late = watch_durability(flaky, flaky.committer.applied_ts)
    flaky.sync(flushed_ts)
    assert late == []
    assert flaky.committer.durable_ts == flushed_ts < flaky.committer.applied_ts


def test_a_failed_flush_undoes_the_group_and_nothing_before_it(flaky: Engine, storage: FlakyStorage) -> None:
    [kept] = stored(flaky, ("ada", 1))
    flaky.make_durable()
    log = flaky.reader()
    run = Run(flaky)
    run.db.patch(kept, score=2)
    run.insert("bob", 3)
    heard = watch_durability(flaky, run.commit())
    storage.failing_flush_count = 1
    with pytest.raises(StorageError):
        flaky.flush()
    assert [error.code for error in heard if error] == ["DiskFull"]
    assert Run(flaky).scores(Note) == [1]  # state and cache are those of the file
    assert log.take_lost()
    assert log.pull() == []
    flaky.cache.check()
    assert storage.check() == []
    stored(flaky, ("cleo", 4))
    flaky.make_durable()
    assert Run(flaky).scores(Note.by_score) == [1, 4]


def test_a_failed_append_undoes_the_whole_open_group(flaky: Engine, storage: FlakyStorage) -> None:
    first = Run(flaky)
    first.insert("ada", 1)
    heard = watch_durability(flaky, first.commit())
    storage.appends_until_failure = 0
    second = Run(flaky)
    second.insert("ada", 2)
    with pytest.raises(StorageError):
        second.commit()
    assert [type(error) for error in heard] == [StorageError]
    assert Run(flaky).scores(Note) == []


def test_a_timestamp_is_never_given_twice_not_even_after_an_undone_group(
    flaky: Engine, storage: FlakyStorage
) -> None:
    run = Run(flaky)
    run.insert("ada")
    lost_ts = run.commit()
    storage.failing_flush_count = 1
    with pytest.raises(StorageError):
        flaky.flush()
    again = Run(flaky)
    again.insert("ada")
    assert again.commit() > lost_ts


def test_who_asks_late_for_an_undone_commit_is_told_so(flaky: Engine, storage: FlakyStorage) -> None:
    run = Run(flaky)
    run.insert("ada")
    lost_ts = run.commit()
    storage.failing_flush_count = 1
    with pytest.raises(StorageError):  # another thread's flush
        flaky.flush()
    with pytest.raises(StorageError):
        flaky.make_durable(lost_ts)
    stored(flaky, ("bob", 2))
    flaky.make_durable()  # later commits become durable all the same
    assert [type(error) for error in watch_durability(flaky, lost_ts)] == [StorageError]


def test_after_a_failed_sync_everybody_is_told_and_nothing_is_synced_again(
    flaky: Engine, storage: FlakyStorage
) -> None:
    stored(flaky, ("ada", 1))
    heard = watch_durability(flaky, flaky.committer.applied_ts)
    storage.sync_fails = True
    with pytest.raises(StorageError):
        flaky.make_durable()
    syncs = storage.sync_count
    assert [error.code for error in heard if error] == ["SyncFailed"]
    late = watch_durability(flaky, flaky.committer.applied_ts)
    assert [error.code for error in late if error] == ["SyncFailed"]
    assert storage.sync_count == syncs


# Conflicts (what several processes on one log will need; tested at the contract)


def conflicting(engine: Engine, read: Callable[[Run], object], write: Callable[[Run], object]) -> bool:
    """Does a transaction that began and read before `write` was committed have to run again?"""
    reader, writer = Run(engine), Run(engine)
    read(reader)
    write(writer)
    writer.commit()
    try:
        engine.committer.validate(reader.transaction.base_ts, reader.transaction.read_set)
    except rdb.ConflictError:
        return True
    return False


def test_a_later_commit_inside_of_what_was_read_is_a_conflict(engine: Engine) -> None:
    [id] = stored(engine, ("ada", 5))
    of_ada = Note.by_author.eq("ada")
    assert conflicting(engine, lambda run: run.db.get(id), lambda run: run.db.patch(id, text="x"))
    assert conflicting(engine, lambda run: run.scores(of_ada), lambda run: run.insert("ada", 7))  # phantom
    assert conflicting(engine, lambda run: run.scores(of_ada), lambda run: run.db.patch(id, author="bob"))
    assert conflicting(engine, lambda run: run.scores(of_ada), lambda run: run.db.patch(id, author="ada"))
    assert conflicting(engine, lambda run: run.db.query(Note).count(), lambda run: run.db.delete(id))


def test_a_later_commit_outside_of_what_was_read_is_none(engine: Engine) -> None:
    [id, other] = stored(engine, ("ada", 5), ("bob", 6))
    of_ada = Note.by_author.eq("ada")
    assert not conflicting(engine, lambda run: run.db.get(id), lambda run: run.db.patch(other, score=1))
    assert not conflicting(engine, lambda run: run.scores(of_ada), lambda run: run.insert("bob", 7))
    low = Note.by_score.lt(3)
    assert not conflicting(engine, lambda run: run.scores(low), lambda run: run.insert("ada", 3))
    first = lambda run: run.db.query(Note.by_score).first()  # noqa: E731
    assert not conflicting(engine, first, lambda run: run.insert("ada", 99))


def test_a_filter_keeps_commits_it_would_not_have_shown_from_conflicting(engine: Engine) -> None:
    stored(engine, ("ada", 5))
    high = lambda run: run.db.query(Note).filter(lambda note: note.score > 4).collect()  # noqa: E731
    assert not conflicting(engine, high, lambda run: run.insert("ada", 1))
    assert conflicting(engine, high, lambda run: run.insert("ada", 8))


def test_a_conflict_names_what_was_written(engine: Engine) -> None:
    [id] = stored(engine, ("ada", 5))
    reader, writer = Run(engine), Run(engine)
    reader.db.get(id)
    reader.insert("bob")
    writer.db.delete(id)
    writer.commit()
    with pytest.raises(rdb.ConflictError) as caught:
        reader.commit()
    assert (caught.value.fields["table"], caught.value.fields["id"]) == ("notes", id)
    assert Run(engine).scores(Note) == []


def test_a_base_older_than_the_kept_history_is_a_conflict(flaky: Engine) -> None:
    reader = Run(flaky)
    for number in range(1100):
        stored(flaky, ("ada", number))
    with pytest.raises(rdb.ConflictError):
        flaky.committer.validate(reader.transaction.base_ts, reader.transaction.read_set)


def test_the_runner_runs_a_function_again_after_a_conflict_and_gives_up_in_the_end() -> None:
    rivals = [0]

    @rdb.mutation
    def increment(ctx: rdb.MutationCtx) -> float:
        [note] = ctx.db.query(Note).collect()
        if rivals[0]:  # a commit of another process, between this read and this commit
            rivals[0] -= 1
            rival = Run(engine)
            rival.db.patch(note.id, score=note.score + 10)
            rival.commit()
        ctx.db.patch(note.id, score=note.score + 1)
        return note.score

    app = app_of(Note, increment)
    engine = Engine(MemoryStorage(), clock=FakeClock())
    engine.declare(app.schema.tables.values(), SYSTEM_TABLES)
    runner = Runner(engine, app.registry)
    stored(engine, ("ada", 0))
    rivals[0] = 2
    result = runner.mutation(app.registry.of(increment), {}, ANONYMOUS)
    assert result.unwrap() == 20
    assert Run(engine).scores(Note) == [21]
    rivals[0] = 100
    result = runner.mutation(app.registry.of(increment), {}, ANONYMOUS)
    assert isinstance(result.error, rdb.ConflictError)
    assert rivals[0] == 100 - 1 - engine.limits.conflict_retry_count_max
