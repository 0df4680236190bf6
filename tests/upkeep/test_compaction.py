"""Does a file become smaller, while others go on, and killed at any step?"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import reactivedb as rdb
from reactivedb.engine import compaction
from reactivedb.storage import compact_file, open_sqlite

from . import diary
from .diary import MARKER, file_size_limit, files_with
from .diary import diary as app
from .test_erasure import make_old

KILLED = Path(__file__).parent / "killed.py"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.db"


def fill_and_empty(path: Path, count: int = 110) -> list[str]:
    """Documents of which most are deleted, and forgotten; gives what is left."""
    with app(log_retention_size_bytes_max=1).open(path, durability="relaxed") as db:
        ids = [db.mutation(diary.write, day, f"{day} {'x' * 9000}") for day in range(count)]
        for id in ids[: count - 20]:
            db.mutation(diary.tear_out, id)
        for day in range(12):
            db.mutation(diary.write, day, f"new {day}")
        return db.query(diary.texts)


def test_a_file_shrinks_to_what_is_stored_while_it_is_open(path: Path) -> None:
    left = fill_and_empty(path)
    before = path.stat().st_size
    with app().open(path) as db:
        report = db.compact()
        assert report.page_count > 100
        assert path.stat().st_size < before // 3
        assert report.size_after_bytes <= path.stat().st_size + 4096
        assert db.query(diary.texts) == left
        assert db.runtime.engine.storage.check() == []
        assert db.compact().page_count == 0
    with app().open(path) as db:
        assert db.query(diary.texts) == left


def test_others_write_between_the_steps_of_a_compaction(path: Path) -> None:
    left = fill_and_empty(path)
    asyncio.run(_compact_beside_others(path, left))


async def _compact_beside_others(path: Path, left: list[str]) -> None:
    async with app().open_async(path, durability="relaxed") as db:
        compacting = asyncio.create_task(db.compact())
        written: list[str] = []
        while not compacting.done():
            written.append(f"beside {len(written)}")
            await db.mutation(diary.write, 0, written[-1])
        assert (await compacting).page_count > 100
        assert len(written) >= 3
        assert await db.query(diary.texts) == sorted(left + written)
        assert db.runtime.engine.storage.check() == []


def test_a_step_of_a_compaction_moves_a_bounded_number_of_pages(path: Path) -> None:
    fill_and_empty(path)
    with app().open(path, durability="relaxed") as db:
        storage = db.runtime.engine.storage
        counts = [storage.room().page_count]
        counts += [storage.room().page_count for _ in compaction(db.runtime.engine)]
        assert max(before - after for before, after in pairwise(counts)) <= 70
        assert counts[0] - counts[-1] > 200


def test_a_full_disk_stops_a_compaction_by_name_and_loses_nothing(path: Path) -> None:
    left = fill_and_empty(path)
    with app().open(path) as db:
        with file_size_limit(20_000), pytest.raises(rdb.StorageError) as caught:
            db.compact()
        assert caught.value.code == "DiskFull"
        assert db.query(diary.texts) == left
        db.compact()
        assert db.query(diary.texts) == left
        assert db.runtime.engine.storage.check() == []


def test_a_database_in_memory_has_nothing_to_give_back() -> None:
    with app().open() as db:
        assert db.compact() == rdb.CompactionReport(0, 0, 0)


def test_a_file_of_an_earlier_version_is_written_anew_without_old_bytes(path: Path) -> None:
    with app(log_retention_size_bytes_max=1).open(path) as db:
        id = db.mutation(diary.write, 1, MARKER)
        db.mutation(diary.write, 2, "stays")
    make_old(path)
    path.chmod(0o640)
    assert compact_file(path)[1] == path.stat().st_size
    # A file of its owner alone, as any that was opened.
    assert path.stat().st_mode & 0o777 == 0o600
    with app().open(path) as db:
        db.erase(id)
        db.compact()
        assert db.query(diary.texts) == ["stays"]
        assert db.runtime.engine.storage.check() == []
    assert files_with(MARKER, path.parent) == []


def test_a_file_that_is_open_is_not_written_anew(path: Path) -> None:
    storage = open_sqlite(path)
    with pytest.raises(rdb.StorageError) as caught:
        compact_file(path)
    assert caught.value.code == "DatabaseInUse"
    storage.close()


def test_a_full_disk_leaves_a_file_that_is_written_anew_as_it_was(path: Path) -> None:
    left = fill_and_empty(path)
    with file_size_limit(60_000), pytest.raises(rdb.StorageError) as caught:
        compact_file(path)
    # SQLite does not hand on why a write of this kind failed, but for ENOSPC, which no limit gives.
    assert caught.value.code in ("DiskFull", "StorageFailed")
    assert sorted(os.listdir(path.parent)) == ["data.db", "data.db.lock"]
    with app().open(path) as db:
        assert db.query(diary.texts) == left


def test_what_is_no_database_is_not_written_anew(path: Path) -> None:
    with pytest.raises(rdb.StorageError) as missing:
        compact_file(path)
    assert missing.value.code == "FileMissing"
    path.write_bytes(b"not a database at all" * 300)
    with pytest.raises(rdb.StorageError) as foreign:
        compact_file(path)
    assert foreign.value.code == "DatabaseCorrupt"
    assert path.read_bytes() == b"not a database at all" * 300


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_compaction_killed_at_a_random_moment_loses_nothing(path: Path, seed: int) -> None:
    left = fill_and_empty(path, 500)
    process = subprocess.Popen(
        [sys.executable, KILLED, "compact", path, str(seed)], stdout=subprocess.PIPE, text=True
    )
    output, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, output
    written = output.split()
    with app().open(path) as db:
        stored = db.query(diary.texts)
        # What was being written when it was killed may be there or not.
        assert set(left) | set(written) <= set(stored)
        assert len(stored) <= len(left) + len(written) + 1
        assert db.runtime.engine.storage.check() == []
        db.compact()
        assert db.query(diary.texts) == stored
