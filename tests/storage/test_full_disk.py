"""Does a database open on a disk without any room, and answer?"""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reactivedb.errors import StorageError
from reactivedb.storage import SqliteStorage, open_sqlite

from .commits import INDEX, TABLE, insert


@contextmanager
def no_room(size_bytes: int = 0) -> Iterator[None]:
    """No file grows above that; with 0 there is not even room for SQLite's shared index of the WAL."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def add(storage: SqliteStorage, id: str) -> None:
    storage.append(insert(2, id))
    storage.flush()


def ids_in(storage: SqliteStorage) -> list[str]:
    return [version.id for version in storage.scan_table(TABLE.number, "", None, limit=9)]


@pytest.mark.parametrize("was_killed", [False, True])
@pytest.mark.parametrize("durability", ["full", "relaxed"])
def test_without_room_a_file_is_read_and_writes_are_refused_until_there_is_some(
    tmp_path: Path, was_killed: bool, durability: str
) -> None:
    path = tmp_path / "data.db"
    first = open_sqlite(path)
    first.put_table(TABLE)
    first.put_index(INDEX)
    first.append(insert(1, "a", "b"))
    first.flush()
    if was_killed:
        (left := tmp_path / "left").mkdir()
        for name in ("data.db", "data.db-wal"):
            shutil.copy(tmp_path / name, left / name)
        path = left / "data.db"
    first.close()

    # What is there can be written once more, as on most file systems.
    with no_room(path.with_name("data.db-wal").stat().st_size if was_killed else 0):
        storage = open_sqlite(path, durability=durability)  # pyright: ignore[reportArgumentType]
        for _ in range(2):
            assert ids_in(storage) == ["a", "b"]
            with pytest.raises(StorageError) as raised:
                add(storage, "c")
            assert raised.value.code == "DiskFull"
    add(storage, "c")
    storage.sync()
    storage.close()

    again = open_sqlite(path)
    assert ids_in(again) == ["a", "b", "c"]
    assert again.check() == []
    again.close()


def test_closing_without_room_leaves_the_commits_in_the_wal(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    storage = open_sqlite(path)
    storage.append(insert(1, *(f"id{number:04}" for number in range(500))))
    storage.flush()
    with no_room():
        storage.close()
    again = open_sqlite(path)
    assert len(again.scan_table(TABLE.number, "", None, limit=999)) == 500
    again.close()
