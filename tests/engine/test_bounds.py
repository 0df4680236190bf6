"""Does what the engine keeps of commits stay within its bounds?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import reactivedb as rdb
from reactivedb.engine import Engine

from .notes import Note, Run, stored

Limited = Callable[..., Engine]


def test_a_consumer_that_never_comes_is_told_that_it_lost_track(limited: Limited) -> None:
    engine = limited(commit_history_size_bytes_max=20_000)
    reader = engine.reader()
    for number in range(100):
        stored(engine, ("ada", number))
    assert reader.take_lost()
    records = reader.pull()
    assert 0 < len(records) < 20
    assert records[-1].ts == engine.committer.applied_ts
    assert not reader.waiting


def test_a_consumer_that_comes_in_time_loses_nothing(limited: Limited) -> None:
    engine = limited(commit_history_size_bytes_max=20_000)
    reader = engine.reader()
    for number in range(100):
        stored(engine, ("ada", number))
        assert [record.ts for record in reader.pull()] == [engine.committer.applied_ts]
    assert not reader.take_lost()


def test_one_commit_above_the_bound_still_reaches_a_consumer(limited: Limited) -> None:
    engine = limited(commit_history_size_bytes_max=1)
    reader = engine.reader()
    stored(engine, *[("ada", number) for number in range(20)])
    assert len(reader.pull()) == 1
    assert not reader.take_lost()


def test_a_transaction_older_than_the_kept_commits_is_run_again(limited: Limited) -> None:
    engine = limited(commit_history_size_bytes_max=20_000)
    old = Run(engine)
    old.db.query(Note.by_author.eq("nobody")).collect()
    old.insert("bob")
    for number in range(100):
        stored(engine, ("ada", number))
    with pytest.raises(rdb.ConflictError):
        old.commit()
