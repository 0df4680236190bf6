"""Do counts that are remembered stay true?"""

from __future__ import annotations

import random
from typing import Any

import pytest
from inline_app import FlakyStorage

import reactivedb as rdb
from reactivedb.engine import Engine
from reactivedb.engine.counts import LARGE_COUNT_MIN, Counts
from reactivedb.errors import StorageError
from reactivedb.schema import table_definition
from reactivedb.storage import MemoryStorage
from reactivedb.testing import FakeClock

from .notes import Note, Run, stored

RANGES: list[Any] = [
    Note,
    Note.by_id,
    Note.by_score.gte(3),
    Note.by_author.eq("a"),
    Note.by_author_score.eq("b").lt(4),
]


def counts_of(run: Run) -> list[int]:
    return [run.db.query(range_).count() for range_ in RANGES]


def listed(run: Run) -> list[int]:
    return [len(run.db.query(range_).collect()) for range_ in RANGES]


def test_counts_follow_whatever_is_written(engine: Engine) -> None:
    engine.counts = Counts(engine.storage, large_count_min=0)
    rng = random.Random(11)
    ids = stored(engine, *((rng.choice("abc"), float(rng.randrange(6))) for _ in range(30)))
    for _ in range(60):
        run = Run(engine)
        for _ in range(rng.randrange(1, 4)):
            id = rng.choice(ids)
            match rng.randrange(3):
                case 0:
                    ids.append(run.insert(rng.choice("abc"), float(rng.randrange(6))))
                case 1 if len(ids) > 5:
                    run.db.delete(id)
                    ids.remove(id)
                case _:
                    run.db.patch(id, author=rng.choice("abc"), score=float(rng.randrange(6)))
            assert counts_of(run) == listed(run)
        run.commit()
        assert counts_of(Run(engine)) == listed(Run(engine))
        engine.counts.check()


class NotingStorage(MemoryStorage):
    """Notes what it has counted."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: list[int] = []

    def count(self, index_number: int, low: bytes, high: bytes) -> int:
        self.counted.append(super().count(index_number, low, high))
        return self.counted[-1]


def test_a_large_count_is_remembered_and_a_small_one_is_not() -> None:
    storage = NotingStorage()
    engine = Engine(storage, clock=FakeClock())
    engine.declare([table_definition(Note)], ())
    stored(engine, *(("a", 1.0) for _ in range(LARGE_COUNT_MIN)), ("b", 2.0))
    storage.counted.clear()
    for _ in range(3):
        assert Run(engine).db.query(Note.by_author.eq("a")).count() == LARGE_COUNT_MIN
        assert Run(engine).db.query(Note.by_author.eq("b")).count() == 1
    assert storage.counted == [LARGE_COUNT_MIN, 1, 1, 1]
    stored(engine, ("a", 3.0), ("b", 3.0))
    assert Run(engine).db.query(Note.by_author.eq("a")).count() == LARGE_COUNT_MIN + 1
    assert len(storage.counted) == 4


def test_of_each_index_the_counts_that_were_asked_last_are_remembered(engine: Engine) -> None:
    engine.counts = Counts(engine.storage, large_count_min=0)
    stored(engine, *((f"author {number}", float(number)) for number in range(40)))
    for number in range(40):
        assert Run(engine).db.query(Note.by_author.eq(f"author {number}")).count() == 1
        assert Run(engine).db.query(Note.by_score.gte(0)).count() == 40
    engine.counts.check()
    stored(engine, ("author 39", 1.0), ("author 0", 1.0))
    assert Run(engine).db.query(Note.by_author.eq("author 39")).count() == 2
    assert Run(engine).db.query(Note.by_author.eq("author 0")).count() == 2
    engine.counts.check()


def test_what_a_failed_flush_undoes_is_counted_no_more() -> None:
    storage = FlakyStorage()
    engine = Engine(storage, clock=FakeClock())
    engine.declare([table_definition(Note)], ())
    engine.counts = Counts(storage, large_count_min=0)
    stored(engine, ("a", 1.0))
    engine.flush()
    assert Run(engine).db.query(Note).count() == 1
    stored(engine, ("a", 2.0))
    assert Run(engine).db.query(Note).count() == 2
    storage.failing_flush_count = 1
    with pytest.raises(StorageError):
        engine.flush()
    assert Run(engine).db.query(Note).count() == 1


def test_a_schema_change_that_writes_entries_is_counted() -> None:
    class Ranked(rdb.Document, table="notes"):
        author: str
        score: float = 0
        text: str = ""

        by_text = rdb.Index("text")

    engine = Engine(FlakyStorage(), clock=FakeClock())
    engine.declare([table_definition(Note)], ())
    engine.counts = Counts(engine.storage, large_count_min=0)
    stored(engine, ("a", 1.0), ("b", 2.0))
    assert counts_of(Run(engine)) == listed(Run(engine))
    engine.declare([table_definition(Ranked)], ())
    assert Run(engine).db.query(Ranked.by_text).count() == 2
    engine.counts.check()
