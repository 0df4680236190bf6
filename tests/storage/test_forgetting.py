"""Does the log forget what nobody can read any more, and nothing else?"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any, cast

import apsw
import pytest

from reactivedb.storage import LOG_WRITE_SIZE_BYTES, MemoryStorage, Storage, open_sqlite
from reactivedb.storage.sqlite_connection import SqlConnection
from reactivedb.storage.sqlite_log import SqliteLog

from .commits import INDEX, TABLE, commit, insert, text_of, write

EVERYTHING = 10**9


def steps(storage: Storage) -> list[tuple[int, str]]:
    return [(ts, step.id) for ts, step in storage.log(0, limit=1000)]


def forget(storage: Storage, before_ts: int, *, size_bytes_max: int = EVERYTHING) -> None:
    while storage.forget_log(before_ts, size_bytes_max=size_bytes_max, limit=2) == 2:
        pass


def written(storage: Storage) -> None:
    """`a` changes twice, `b` once, `c` is deleted, `d` stays as it was."""
    storage.put_index(INDEX)
    storage.append(insert(10, "a", "b", "c", "d", creation_time=7.0))
    storage.append(commit(20, [write("a", text_of("a", 7.0, n=2), prev_ts=10)]))
    storage.append(commit(30, [write("c", prev_ts=10)], removed=[b"c"]))
    storage.append(commit(40, [write("b", text_of("b", 7.0, n=2), prev_ts=10)]))
    storage.append(commit(50, [write("a", text_of("a", 7.0, n=3), prev_ts=20)]))
    storage.flush()


def test_the_version_at_the_horizon_and_all_later_ones_stay(storage: Storage) -> None:
    written(storage)
    forget(storage, 39)
    assert steps(storage) == [(10, "b"), (10, "d"), (20, "a"), (40, "b"), (50, "a")]
    assert storage.log_extent().horizon_ts == 30
    assert storage.log_extent().forgotten_count == 3
    forget(storage, 50)
    assert steps(storage) == [(10, "d"), (40, "b"), (50, "a")]


def test_a_horizon_inside_of_a_commit_moves_on_write_by_write(storage: Storage) -> None:
    storage.put_index(INDEX)
    storage.append(insert(10, "a", "b", "c"))
    storage.append(commit(20, [write(id, text_of(id, n=2), prev_ts=10) for id in "abc"]))
    assert storage.forget_log(20, size_bytes_max=EVERYTHING, limit=4) == 4
    assert storage.log_extent().horizon_ts == 20
    assert steps(storage) == [(10, "b"), (10, "c"), (20, "a"), (20, "b"), (20, "c")]
    assert storage.check() == []
    assert storage.forget_log(20, size_bytes_max=EVERYTHING, limit=4) == 2
    assert steps(storage) == [(20, "a"), (20, "b"), (20, "c")]


def test_the_size_bounds_what_lies_behind_the_horizon(storage: Storage) -> None:
    written(storage)
    newest = len(text_of("a", 7.0, n=3)) + LOG_WRITE_SIZE_BYTES
    assert storage.log_extent().write_count == 8
    forget(storage, 0, size_bytes_max=newest)
    extent = storage.log_extent()
    assert (extent.horizon_ts, extent.write_count, extent.size_bytes) == (40, 1, newest)


def test_documents_outcomes_and_the_newest_times_are_not_touched(storage: Storage) -> None:
    written(storage)
    documents = storage.scan_table(TABLE.number, "", None, limit=9)
    storage.append(commit(60, [write("d", prev_ts=10)], removed=[b"d"]))
    before = storage.catalog()
    forget(storage, 60)
    assert storage.scan_table(TABLE.number, "", None, limit=9) == [row for row in documents if row.id != "d"]
    # The log's newest row, and every row that tells the creation time, are gone.
    assert steps(storage) == [(40, "b"), (50, "a")]
    assert storage.catalog() == before
    assert storage.check() == []


def test_a_rollback_brings_back_what_was_forgotten(storage: Storage) -> None:
    written(storage)
    before = (steps(storage), storage.log_extent(), storage.catalog())
    storage.append(insert(60, "e"))
    forget(storage, 60)
    storage.rollback()
    assert (steps(storage), storage.log_extent(), storage.catalog()) == before
    assert storage.check() == []
    forget(storage, 50)
    storage.flush()
    storage.rollback()
    assert steps(storage) == [(10, "d"), (40, "b"), (50, "a")]


def test_single_versions_and_deletions_are_found(storage: Storage) -> None:
    written(storage)
    assert [step.id for step in storage.logged(10, {"c", "a", "x"})] == ["a", "c"]
    assert storage.logged(11, ["a"]) == []
    assert storage.deleted_at("c") == 30
    assert storage.deleted_at("a") is None
    forget(storage, 30)
    assert storage.deleted_at("c") is None


def test_versions_in_a_large_commit_are_found_whatever_was_forgotten_of_it(storage: Storage) -> None:
    ids = [f"id{number:04}" for number in range(1_000)]
    storage.put_index(INDEX)
    storage.append(insert(10, *reversed(ids)))
    ts = 10
    for id in [*ids[100:300], ids[0], ids[999]]:
        ts += 10
        storage.append(commit(ts, [write(id, text_of(id, n=ts), prev_ts=10)]))
        storage.forget_log(ts, size_bytes_max=EVERYTHING, limit=EVERYTHING)
    assert storage.log_extent().forgotten_count == 202
    left = [*ids[1:100], *ids[300:999]]
    assert steps(storage)[: len(left)] == [(10, id) for id in left]
    for id in (ids[1], ids[99], ids[300], ids[700], ids[998]):
        assert [step.id for step in storage.logged(10, [id])] == [id]
    assert storage.logged(10, [ids[0]]) == storage.logged(10, [ids[200]]) == []
    assert [step.id for step in storage.logged(10, [ids[99], "x", ids[1]])] == [ids[1], ids[99]]
    assert [step.id for step in storage.logged(10, ids[90:])] == [*ids[90:100], *ids[300:999]]
    assert storage.check() == []


def test_a_commit_in_another_order_than_that_of_ids_is_looked_through(tmp_path: Path) -> None:
    """Files of earlier versions have such commits."""
    storage = open_sqlite(tmp_path / "data.db")
    ids = [f"id{number:03}" for number in range(500)]
    storage.append(insert(10, *ids))
    connection: Any = cast(Any, storage)._connection
    connection.execute("UPDATE log SET position = -1 - position; UPDATE log SET position = 500 + position")
    for id in (ids[0], ids[250], ids[499]):
        assert [step.id for step in storage.logged(10, [id])] == [id]
    storage.close()


def test_forgetting_one_version_does_not_look_through_the_commit_that_made_it(tmp_path: Path) -> None:
    steps_taken: list[int] = []
    for size in (1_000, 16_000):
        storage = open_sqlite(tmp_path / f"{size}.db")
        storage.append(insert(10, *(f"id{number:05}" for number in range(size))))
        storage.append(commit(20, [write("id00777", text_of("id00777", n=2), prev_ts=10)]))
        storage.forget_log(10, size_bytes_max=EVERYTHING, limit=EVERYTHING)
        count = 0

        def one_more() -> bool:
            nonlocal count
            count += 1
            return False

        # Called at every step of SQLite's machine.
        cast(Any, storage)._connection.set_progress_handler(one_more, 1)
        assert storage.forget_log(20, size_bytes_max=EVERYTHING, limit=EVERYTHING) == 1
        cast(Any, storage)._connection.set_progress_handler(None)
        assert storage.log_extent().forgotten_count == 1
        steps_taken.append(count)
        storage.close()
    assert steps_taken[1] < 1.5 * steps_taken[0]


def test_forgetting_one_version_in_memory_does_not_look_through_its_commit_either() -> None:
    lines_run: list[int] = []
    for size in (1_000, 16_000):
        storage = MemoryStorage()
        storage.append(insert(10, *(f"id{number:05}" for number in range(size))))
        storage.append(commit(20, [write("id00777", text_of("id00777", n=2), prev_ts=10)]))
        storage.forget_log(10, size_bytes_max=EVERYTHING, limit=EVERYTHING)
        count = 0

        def one_more(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal count
            count += 1
            return one_more

        before = sys.gettrace()
        sys.settrace(one_more)
        try:
            assert storage.forget_log(20, size_bytes_max=EVERYTHING, limit=EVERYTHING) == 1
        finally:
            sys.settrace(before)
        assert storage.log_extent().forgotten_count == 1
        lines_run.append(count)
    assert lines_run[1] < 1.5 * lines_run[0]


def test_an_opened_file_knows_its_horizon_and_what_lies_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    storage = open_sqlite(path)
    written(storage)
    forget(storage, 25)
    storage.flush()
    extent = storage.log_extent()
    for _ in range(2):
        storage.close()
        storage = open_sqlite(path)
        assert storage.log_extent() == extent
    forget(storage, 50)
    storage.flush()
    extent, catalog = storage.log_extent(), storage.catalog()
    storage.close()
    storage = open_sqlite(path)
    assert storage.log_extent() == extent
    assert storage.catalog() == catalog
    assert storage.check() == []
    storage.close()


@pytest.mark.parametrize("rewritten", [0, 3])
def test_what_was_written_since_the_last_opening_counts_once(tmp_path: Path, rewritten: int) -> None:
    path = tmp_path / "data.db"
    with_checkpoints = open_sqlite(path, checkpoint_pages=1)
    for number in range(1, 20):
        with_checkpoints.append(insert(number * 10, f"id{number}"))
        with_checkpoints.forget_log((number - rewritten) * 10, size_bytes_max=EVERYTHING, limit=10)
        with_checkpoints.flush()
    extent = with_checkpoints.log_extent()
    assert extent.write_count == rewritten
    with_checkpoints.close()
    opened = open_sqlite(path)
    assert opened.log_extent() == extent
    opened.close()


def test_opening_passes_only_what_was_logged_since_it_was_last_counted(tmp_path: Path) -> None:
    costs: list[int] = []
    for commit_count in (10, 1000):
        storage = open_sqlite(path := tmp_path / f"{commit_count}.db")
        for ts in range(1, commit_count + 1):
            storage.append(insert(ts, f"id{ts:04}"))
        storage.flush()
        extent = storage.log_extent()
        storage.close()
        # Opening counts what it finds, the next one trusts it.
        open_sqlite(path).close()
        connection = apsw.Connection(str(path))
        steps_taken = 0

        def step() -> bool:
            nonlocal steps_taken
            steps_taken += 1
            return False

        connection.set_progress_handler(step, 1)
        log = SqliteLog()
        log.load(cast(SqlConnection, connection).cursor())
        connection.close()
        assert log.extent == extent
        costs.append(steps_taken)
    assert costs[0] == costs[1]
