"""What does the SQLite storage promise when the disk is full, fails, or is slow?"""

from __future__ import annotations

import os
import resource
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from reactivedb.errors import StorageError
from reactivedb.storage import Commit, SqliteStorage, open_sqlite
from reactivedb.storage.wal_sync import FileWalSync

from .commits import INDEX, TABLE, commit, insert, text_of, write
from .fault_vfs import FaultVFS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.db"


@pytest.fixture
def vfs() -> FaultVFS:
    return FaultVFS(f"fault {uuid.uuid4()}")


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """The system refuses to let any file of this process grow further: a full disk without a mount."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def begin(storage: SqliteStorage) -> SqliteStorage:
    """With a table, an index and one document, all flushed."""
    storage.put_table(TABLE)
    storage.put_index(INDEX)
    storage.append(insert(1, "a"))
    storage.flush()
    return storage


def large(ts: int, id: str) -> Commit:
    return commit(ts, [write(id, text_of(id, body="x" * 1_000_000))])


def stored_ids(storage: SqliteStorage) -> list[str]:
    return [version.id for version in storage.scan_table(TABLE.number, "", None, limit=99)]


class CountedWalSync(FileWalSync):
    sync_count = 0

    def sync(self) -> None:
        super().sync()
        self.sync_count += 1


class FailingWalSync(FileWalSync):
    fails = False

    def sync(self) -> None:
        if self.fails:
            raise OSError(5, "Input/output error")
        super().sync()


def _append_large(storage: SqliteStorage, count: int) -> None:
    for ts in range(1, count + 1):
        storage.append(large(ts, f"large{ts}"))


# A full disk


def test_a_full_disk_fails_the_group_and_room_mends_it(path: Path) -> None:
    storage = begin(open_sqlite(path))
    with file_size_limit(500_000):
        storage.append(insert(2, "b"))
        storage.append(large(3, "large"))
        with pytest.raises(StorageError) as raised:
            storage.flush()
        assert raised.value.code == "DiskFull"
        assert stored_ids(storage) == ["a"]
        assert storage.catalog().last_ts == 1
        storage.append(insert(2, "small enough"))
        storage.flush()
    storage.append(large(3, "large"))
    storage.flush()
    storage.sync()
    storage.close()
    again = open_sqlite(path)
    assert stored_ids(again) == ["a", "large", "small enough"]
    assert again.check() == []
    again.close()


def test_a_group_larger_than_the_cache_fails_while_it_is_appended(path: Path) -> None:
    storage = open_sqlite(path)
    # SQLite's cache holds 16 of these.
    with file_size_limit(1_000_000), pytest.raises(StorageError) as raised:
        _append_large(storage, 30)
    assert raised.value.code == "DiskFull"
    assert stored_ids(storage) == []
    storage.append(insert(1, "a"))
    storage.flush()
    assert stored_ids(storage) == ["a"]
    storage.close()


def test_a_database_cannot_be_made_on_a_full_disk(path: Path) -> None:
    with file_size_limit(2000), pytest.raises(StorageError) as raised:
        open_sqlite(path)
    assert raised.value.code == "DiskFull"
    open_sqlite(path).close()


def test_a_crashed_database_opens_on_a_full_disk(path: Path) -> None:
    (crashed := path.with_name("crashed")).mkdir()
    storage = begin(open_sqlite(path))
    storage.append(commit(2, [write("b", text_of("b", body="x" * 100_000))]))
    storage.flush()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", crashed / f"{path.name}{suffix}")
    storage.close()
    with file_size_limit((crashed / "data.db-wal").stat().st_size):
        again = open_sqlite(crashed / "data.db")
        assert stored_ids(again) == ["a", "b"]
        again.append(large(3, "c"))
        with pytest.raises(StorageError) as raised:
            again.flush()
        assert raised.value.code == "DiskFull"
        again.close()
    again = open_sqlite(crashed / "data.db")
    assert stored_ids(again) == ["a", "b"]
    assert again.check() == []
    again.close()


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (apsw.SQLITE_FULL, "DiskFull"),
        (apsw.SQLITE_IOERR_WRITE, "StorageFailed"),
        (apsw.SQLITE_READONLY, "ReadOnly"),
    ],
)
def test_a_write_that_fails_leaves_what_was_flushed(
    path: Path, vfs: FaultVFS, result: int, code: str
) -> None:
    storage = begin(open_sqlite(path, vfs=vfs.vfs_name))
    storage.append(insert(2, "b"))
    with vfs.failing("write", "-wal", result), pytest.raises(StorageError) as raised:
        storage.flush()
    assert raised.value.code == code
    storage.append(insert(2, "c"))
    storage.flush()
    assert stored_ids(storage) == ["a", "c"]
    storage.close()


def test_a_checkpoint_without_room_loses_nothing_and_is_tried_again(path: Path, vfs: FaultVFS) -> None:
    storage = open_sqlite(path, vfs=vfs.vfs_name, checkpoint_pages=1)
    size_before = path.stat().st_size
    with vfs.failing("write", "data.db", apsw.SQLITE_FULL):
        for ts in range(1, 20):
            storage.append(insert(ts, f"{ts:03}"))
            storage.flush()
            storage.sync()
    assert path.stat().st_size == size_before
    storage.append(large(20, "large"))
    storage.flush()
    assert path.stat().st_size > size_before
    assert len(stored_ids(storage)) == 20
    storage.close()


# Failed syncs


def _fail_in_the_checkpoint(storage: SqliteStorage, vfs: FaultVFS) -> None:
    with vfs.failing("sync", "data.db", apsw.SQLITE_IOERR_FSYNC):
        storage.flush()


def _fail_in_the_wal_header(storage: SqliteStorage, vfs: FaultVFS) -> None:
    with vfs.failing("sync", "-wal", apsw.SQLITE_IOERR_FSYNC):
        storage.flush()


@pytest.mark.parametrize("fail", [_fail_in_the_checkpoint, _fail_in_the_wal_header])
def test_a_sync_inside_sqlite_that_fails_closes_the_storage_for_good(
    path: Path, vfs: FaultVFS, fail: Callable[[SqliteStorage, FaultVFS], None]
) -> None:
    storage = begin(open_sqlite(path, vfs=vfs.vfs_name, checkpoint_pages=1))
    storage.append(insert(2, "b"))
    with pytest.raises(StorageError) as raised:
        fail(storage, vfs)
    assert raised.value.code == "SyncFailed"
    with pytest.raises(StorageError) as raised:
        storage.append(insert(3, "c"))
    assert raised.value.code == "StorageClosed"
    storage.close()
    again = open_sqlite(path)
    assert "a" in stored_ids(again)
    assert again.check() == []
    again.close()


def test_a_failed_sync_closes_the_storage_and_the_next_opening_recovers(path: Path) -> None:
    made: list[FailingWalSync] = []

    def open_wal(wal: Path) -> FailingWalSync:
        made.append(FailingWalSync(wal))
        return made[-1]

    storage = open_sqlite(path, open_wal=open_wal)
    storage.append(insert(1, "a"))
    storage.flush()
    storage.sync()
    storage.append(insert(2, "b"))
    storage.flush()
    made[0].fails = True
    with pytest.raises(StorageError) as raised:
        storage.sync()
    assert raised.value.code == "SyncFailed"
    made[0].fails = False
    for call in (storage.sync, storage.flush, storage.catalog):
        with pytest.raises(StorageError) as raised:
            call()
        assert raised.value.code == "StorageClosed"
    with pytest.raises(StorageError) as raised:
        open_sqlite(path)
    assert raised.value.code == "DatabaseInUse"
    storage.close()

    again = open_sqlite(path)
    assert stored_ids(again) == ["a", "b"]
    again.close()


# Durability


def test_each_sync_reaches_the_disk_once_and_relaxed_ones_never(path: Path) -> None:
    made: list[CountedWalSync] = []

    def open_wal(wal: Path) -> CountedWalSync:
        made.append(CountedWalSync(wal))
        return made[-1]

    full = open_sqlite(path, open_wal=open_wal)
    relaxed = open_sqlite(path.with_name("relaxed.db"), durability="relaxed", open_wal=open_wal)
    assert full.sync_cost_s > 0
    assert relaxed.sync_cost_s == 0
    opened = [sync.sync_count for sync in made]
    for storage in (full, relaxed):
        storage.append(insert(1, "a"))
        storage.append(insert(2, "b"))
        storage.flush()
        storage.sync()
        assert stored_ids(storage) == ["a", "b"]
    assert [sync.sync_count for sync in made] == [opened[0] + 1, opened[1]]
    full.close()
    relaxed.close()


def test_a_thread_may_sync_while_commits_go_on(path: Path) -> None:
    storage = open_sqlite(path, checkpoint_pages=20)
    done = threading.Event()
    failures: list[StorageError] = []

    def sync_on() -> None:
        try:
            while not done.is_set():
                storage.sync()
        except StorageError as error:
            failures.append(error)

    thread = threading.Thread(target=sync_on)
    thread.start()
    for ts in range(1, 100):
        storage.append(insert(ts, f"{ts:03}"))
        storage.flush()
    done.set()
    thread.join()
    assert failures == []
    assert len(stored_ids(storage)) == 99
    storage.close()


def test_the_wal_stays_short(path: Path) -> None:
    storage = begin(open_sqlite(path, checkpoint_pages=50))
    for ts in range(2, 200):
        storage.append(insert(ts, f"{ts:03}"))
        storage.flush()
    assert Path(f"{path}-wal").stat().st_size < 100 * 4200
    assert storage.check() == []
    storage.close()


def test_sqlite_moves_no_wal_by_itself(path: Path) -> None:
    storage = begin(open_sqlite(path, checkpoint_pages=1_000_000))
    size_before = path.stat().st_size
    for ts in range(2, 8):
        # Each is more than the thousand pages after which SQLite would move the WAL.
        storage.append(commit(ts, [write(f"{ts}", text_of(f"{ts}", body="x" * 5_000_000))]))
        storage.flush()
        storage.sync()
    assert path.stat().st_size == size_before
    assert storage._connection.pragma("wal_autocheckpoint") == 0  # pyright: ignore[reportPrivateUsage]
    storage.close()


def test_the_names_of_both_files_are_durable_once_the_wal_is_ready_to_be_synced(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut could take a whole file whose contents were synced."""
    synced: list[tuple[str, bool, bool]] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        wal = path.with_name(path.name + "-wal")
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), path.exists(), wal.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    open_sqlite(path).close()
    assert (str(path.parent), True, True) in synced
