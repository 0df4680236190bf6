"""Is a file, whatever strikes, either whole and in its row or not there at all?"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from inline_app import FlakyStorage

import reactivedb as rdb
from reactivedb.storage import FileStore, open_sqlite

from . import application as files
from .application import file_app

PROGRAM = Path(__file__).parent / "dying.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("before the name", "a part"),
        ("after the name", "a file"),
        ("before the row", "a file"),
        ("before the removal", "a file"),
    ],
)
def test_a_process_that_is_killed_leaves_no_half_file_behind(tmp_path: Path, point: str, left: str) -> None:
    path, place = tmp_path / "data.db", tmp_path / "data.db.files"
    died = subprocess.run(
        [sys.executable, str(PROGRAM), str(path), point], capture_output=True, text=True, timeout=60
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    kept, removed = died.stdout.split()
    stored = {kept} if point == "before the removal" else {kept, removed}
    extra = set(os.listdir(place)) - stored
    assert len(extra) == 1
    assert extra.pop().endswith(".part") == (left == "a part")

    with file_app().open(path) as db:
        assert {row.id for row in db.query(files.all_files)} == stored
        db.run_until_idle()
        assert set(os.listdir(place)) == stored
        assert db.action(files.read, kept) == b"kept"


@contextmanager
def no_file_above(size_bytes: int) -> Iterator[None]:
    """As a disk that is full: writing beyond that fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    with file_app().open(path) as db:
        with no_file_above(1_000_000), pytest.raises(rdb.StorageError) as caught:
            db.action(files.store, b"x" * 2_000_000)
        assert caught.value.code == "DiskFull"
        assert os.listdir(tmp_path / "data.db.files") == []
        assert db.query(files.all_files) == []
        id = db.action(files.store, b"x" * 2_000_000)
        assert len(db.action(files.read, id) or b"") == 2_000_000


def test_a_folder_that_cannot_be_made_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "data.db.files").write_text("in the way")
    storage = open_sqlite(tmp_path / "data.db")
    storage.close()
    with pytest.raises(rdb.StorageError) as caught:
        FileStore(storage.files_folder).names()
    assert caught.value.code == "StorageFailed"
    assert "data.db.files" in caught.value.message


@pytest.mark.parametrize("point", ["append", "flush"])
def test_a_row_that_cannot_be_committed_takes_its_file_along(tmp_path: Path, point: str) -> None:
    async def scenario() -> None:
        storage = FlakyStorage()
        storage.files_folder = tmp_path / "files"
        async with rdb.AsyncDatabase(lambda: file_app().runtime(storage)) as db:
            kept = await db.action(files.store, b"kept")
            if point == "append":
                storage.appends_until_failure = 0
            else:
                storage.failing_flush_count = 1
            with pytest.raises(rdb.StorageError):
                await db.action(files.store, b"lost")
            assert os.listdir(tmp_path / "files") == [kept]
            assert [row.id for row in await db.query(files.all_files)] == [kept]

    anyio.run(scenario)


def test_a_row_that_may_be_on_the_disk_keeps_its_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        storage = FlakyStorage()
        storage.files_folder = tmp_path / "files"
        db = rdb.AsyncDatabase(lambda: file_app().runtime(storage))
        await db.open()
        storage.sync_fails = True
        with pytest.raises(rdb.StorageError) as caught:
            await db.action(files.store, b"who knows")
        assert caught.value.code == "SyncFailed"
        assert len(os.listdir(tmp_path / "files")) == 1
        # The storage is closed for good, which closing the database tells once more.
        with pytest.raises(rdb.StorageError):
            await db.close()

    anyio.run(scenario)


def test_a_deletion_that_is_undone_keeps_the_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        storage = FlakyStorage()
        storage.files_folder = tmp_path / "files"
        async with rdb.AsyncDatabase(lambda: file_app().runtime(storage)) as db:
            kept = await db.action(files.store, b"kept")
            storage.failing_flush_count = 1
            with pytest.raises(rdb.StorageError):
                await db.mutation(files.remove, kept)
            assert await db.action(files.read, kept) == b"kept"
        assert os.listdir(tmp_path / "files") == [kept]

    anyio.run(scenario)


def test_an_action_that_is_cancelled_while_it_stores_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        begun = asyncio.Event()

        async def pieces() -> files.AsyncIterator[bytes]:
            yield b"x" * 1_000_000
            begun.set()
            await anyio.sleep_forever()

        async with file_app().open_async(tmp_path / "data.db") as db:
            storing = asyncio.create_task(db.runtime.files.receive(pieces(), None))
            await begun.wait()
            assert [name[-5:] for name in os.listdir(tmp_path / "data.db.files")] == [".part"]
            storing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await storing
            assert os.listdir(tmp_path / "data.db.files") == []

    anyio.run(scenario)
