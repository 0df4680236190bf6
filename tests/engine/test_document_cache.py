"""Which documents stay in memory?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reactivedb.engine import Engine

from .notes import Note, Run, stored

# What a small note is taken to weigh, roughly.
NOTE_SIZE_BYTES = 2_000


@pytest.fixture
def cold(engine: Engine) -> Engine:
    """An engine over a hundred notes of ten authors, with nothing in its cache."""
    stored(engine, *((f"author {number % 10}", number) for number in range(100)))
    engine.cache.clear()
    return engine


def test_what_a_scan_meets_stays_from_the_second_time_on(cold: Engine) -> None:
    ranges = [Note.by_author.eq(f"author {number}") for number in range(10)]
    for times, held in ((1, 0), (2, 100), (3, 100)):
        for of_author in ranges:
            assert len(Run(cold).db.query(of_author).take(10)) == 10
        assert len(cold.cache) == held, f"after {times} scans of each"
    cold.cache.check()


def test_a_pass_over_a_table_drives_nothing_out(cold: Engine) -> None:
    [hot] = stored(cold, ("hot", 0))
    assert len(Run(cold).db.query(Note).take(1_000)) == 101
    assert list(cold.cache.ids) == [hot]


def test_a_scan_that_has_moved_on_by_a_document_is_the_same_scan(cold: Engine) -> None:
    newest = Note.by_author.eq("author 3")
    Run(cold).db.query(newest).order("desc").take(5)
    [added] = stored(cold, ("author 3", 1_000))
    shown = Run(cold).db.query(newest).order("desc").take(5)
    assert shown[0].id == added
    assert set(cold.cache.ids) == {note.id for note in shown}


def test_the_least_recently_used_goes_when_the_cache_is_full(limited: Callable[..., Engine]) -> None:
    engine = limited(document_cache_size_bytes_max=10 * NOTE_SIZE_BYTES)
    ids = stored(engine, *(("ada", number) for number in range(30)))
    assert 0 < len(engine.cache) < 30
    assert list(engine.cache.ids) == ids[-len(engine.cache) :]
    oldest = next(iter(engine.cache.ids))
    assert Run(engine).db.get(oldest) is not None
    stored(engine, ("grace", 0))
    assert oldest in engine.cache.ids
    engine.cache.check()
