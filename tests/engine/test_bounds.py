"""Does what the engine keeps of commits, and fetches ahead of a reader, stay within its bounds?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pytest

import reactivedb as rdb
from reactivedb.engine import Engine
from reactivedb.schema import table_definition
from reactivedb.storage import MemoryStorage
from reactivedb.testing import FakeClock

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


class _Counting(MemoryStorage):
    """Counts the documents that are taken out of it."""

    taken_count = 0

    def get_many(self, table_number: int, ids: Collection[str]) -> Sequence[tuple[str, int, bytes]]:
        found = super().get_many(table_number, ids)
        self.taken_count += len(found)
        return found

    def scan_documents(
        self, index_number: int, low: bytes, high: bytes, table_number: int, *, reverse: bool, limit: int
    ) -> list[tuple[bytes, str, int, bytes]]:
        found = super().scan_documents(index_number, low, high, table_number, reverse=reverse, limit=limit)
        self.taken_count += len(found)
        return found


def test_a_page_that_is_cut_has_not_fetched_all_that_its_client_asked_for() -> None:
    storage = _Counting()
    limits = rdb.Limits(page_read_size_bytes_max=1_000)
    engine = Engine(storage, clock=FakeClock(), limits=limits)
    engine.declare([table_definition(Note)], ())
    stored(engine, *(("ada", number) for number in range(500)))
    for _ in range(2):  # The second time it is known that little is in the cache.
        engine.cache.clear()
        storage.taken_count = 0
        page = Run(engine).db.query(Note.by_score).paginate(rdb.PaginationOptions(num_items=500, cursor=None))
        assert page.page_status == "SplitRequired"
        assert len(page.page) <= storage.taken_count < 100
