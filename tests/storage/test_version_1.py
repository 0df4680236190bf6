"""Does a file of the first format open, with all that is in it?"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path

import apsw
import pytest

from reactivedb.errors import StorageError
from reactivedb.storage import Outcome, open_sqlite
from reactivedb.storage.sqlite_schema import APPLICATION_ID, FORMAT_VERSION

from .commits import INDEX, TABLE, commit, insert, text_of, write
from .fault_vfs import FaultVFS
from .power_cut_vfs import Disk, DiskWalSync, PowerCutVFS

# What version 2 replaced, as version 1 had it.
LAYOUT_1 = """
CREATE TABLE documents_1 (
    table_number INTEGER NOT NULL, id TEXT NOT NULL, ts INTEGER NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (table_number, id)
) WITHOUT ROWID;
INSERT INTO documents_1 SELECT table_number, id, ts, value FROM documents;
CREATE TABLE index_entries_1 (
    index_number INTEGER NOT NULL, key BLOB NOT NULL, id TEXT NOT NULL, PRIMARY KEY (index_number, key)
) WITHOUT ROWID;
INSERT INTO index_entries_1 SELECT index_number, key, id FROM index_entries;
CREATE TABLE log_1 (
    ts INTEGER NOT NULL, position INTEGER NOT NULL, table_number INTEGER NOT NULL, id TEXT NOT NULL,
    prev_ts INTEGER, value TEXT, PRIMARY KEY (ts, position)
) WITHOUT ROWID;
INSERT INTO log_1 SELECT * FROM log;
PRAGMA legacy_alter_table = 1;
DROP TABLE documents; ALTER TABLE documents_1 RENAME TO documents;
DROP TABLE index_entries; ALTER TABLE index_entries_1 RENAME TO index_entries;
DROP TABLE log; ALTER TABLE log_1 RENAME TO log;
PRAGMA user_version = 1;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of version 1 with three documents, a deletion, a changed key and an outcome."""
    path = tmp_path / "data.db"
    storage = open_sqlite(path)
    storage.put_table(TABLE)
    storage.put_index(INDEX)
    storage.append(insert(1, "a", "b", "c", "d"))
    storage.append(commit(2, [write("d", prev_ts=1)], removed=[b"d"]))
    changed = write("b", text_of("b", author="bob"), prev_ts=1)
    outcome = Outcome("session", 1, 3, b"1", ("line",))
    storage.append(commit(3, [changed], removed=[b"b"], added=[(b"z", "b")], outcome=outcome))
    storage.flush()
    storage.close()
    to_version_1(path)
    return path


def to_version_1(path: Path) -> None:
    """By a dump into a new file: room for checksums cannot be taken out of one that has it."""
    old = sqlite3.connect(path, isolation_level=None)
    old.executescript(LAYOUT_1)
    path.with_name("new.db").unlink(missing_ok=True)
    new = sqlite3.connect(path.with_name("new.db"), isolation_level=None)
    new.executescript("\n".join(old.iterdump()))
    new.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; VACUUM")
    for shell in (old, new):
        shell.execute("PRAGMA journal_mode = DELETE")
        shell.close()
    path.with_name("new.db").replace(path)


def large_file(path: Path) -> None:
    """A file of version 1 with some hundred pages."""
    storage = open_sqlite(path)
    storage.put_table(TABLE)
    storage.put_index(INDEX)
    for ts in range(1, 11):
        ids = [f"{ts:02} {n:03}" for n in range(100)]
        writes = [write(id, text_of(id, body="x" * 300)) for id in ids]
        storage.append(commit(ts, writes, added=[(id.encode(), id) for id in ids]))
    storage.flush()
    storage.close()
    to_version_1(path)


def test_a_file_of_version_1_holds_the_same_in_the_present_version(path: Path) -> None:
    storage = open_sqlite(path)
    assert storage.check() == []
    rows = storage.scan_documents(INDEX.number, b"", b"\xff", TABLE.number, reverse=False, limit=9)
    assert rows == [
        (b"a", "a", 1, text_of("a", author="ada")),
        (b"c", "c", 1, text_of("c", author="ada")),
        (b"z", "b", 3, text_of("b", author="bob")),
    ]
    assert [(ts, step.id, step.value is None) for ts, step in storage.log(0, limit=9)] == [
        (1, "a", False),
        (1, "b", False),
        (1, "c", False),
        (1, "d", False),
        (2, "d", True),
        (3, "b", False),
    ]
    assert storage.outcome("session", 1) == Outcome("session", 1, 3, b"1", ("line",))
    storage.append(insert(4, "e"))
    storage.flush()
    storage.close()

    again = open_sqlite(path)
    assert again.check() == []
    assert [version.id for version in again.scan_table(TABLE.number, "", None, limit=9)] == list("abce")
    again.close()
    with sqlite3.connect(path) as shell:
        assert [id for (id,) in shell.execute(f"SELECT id FROM {TABLE.name} ORDER BY id")] == list("abce")
    shell.close()


def test_a_file_that_cannot_be_brought_up_to_date_stays_what_it_is(path: Path) -> None:
    with sqlite3.connect(path, isolation_level=None) as shell:
        shell.execute("CREATE TABLE log_of_version_1 (in_the_way)")
        with pytest.raises(StorageError):
            open_sqlite(path)
        assert shell.execute("PRAGMA user_version").fetchone() == (1,)
        assert shell.execute("SELECT count(*) FROM documents").fetchone() == (3,)
        shell.execute("DROP TABLE log_of_version_1")
    shell.close()
    storage = open_sqlite(path)
    assert storage.check() == []
    storage.close()


class SmallDiskVFS(FaultVFS):
    """So many writes to the WAL find room."""

    def __init__(self, vfs_name: str, write_count: int) -> None:
        self.write_count = write_count
        super().__init__(vfs_name)

    def operate(self, operation: str, path: str) -> None:
        if operation == "write" and path.endswith("-wal"):
            self.write_count -= 1
            if self.write_count < 0:
                raise apsw.FullError("no room")


def test_without_room_for_the_next_version_the_room_there_was_is_left(tmp_path: Path) -> None:
    large_file(path := tmp_path / "data.db")
    before = path.stat().st_size
    disk = SmallDiskVFS(f"small disk {path}", write_count=100)
    with pytest.raises(StorageError) as raised:
        open_sqlite(path, vfs=disk.vfs_name)
    assert raised.value.code == "DiskFull"
    assert disk.write_count < 0
    assert path.stat().st_size == before
    assert path.with_name("data.db-wal").stat().st_size == 0
    with sqlite3.connect(path) as shell:
        assert shell.execute("PRAGMA user_version").fetchone() == (1,)
        assert shell.execute("SELECT count(*) FROM documents").fetchone() == (1000,)
    shell.close()


def test_a_file_grows_by_half_and_its_first_commit_has_nothing_to_move(tmp_path: Path) -> None:
    large_file(path := tmp_path / "data.db")
    before = path.stat().st_size
    storage = open_sqlite(path)
    assert path.with_name("data.db-wal").stat().st_size == 0
    assert before < path.stat().st_size < 1.6 * before
    assert storage.check() == []
    storage.close()


@pytest.mark.slow
def test_a_power_cut_leaves_the_file_whole_in_one_version_or_the_other(tmp_path: Path) -> None:
    seed = int(os.environ.get("REACTIVEDB_SEED", random.SystemRandom().randrange(2**32)))
    print(f"REACTIVEDB_SEED={seed}")
    rng = random.Random(seed)
    large_file(whole := tmp_path / "whole.db")
    _, content = content_of(whole)
    left: set[int] = set()
    for number in range(30):
        path = Path(os.path.realpath(tmp_path)) / str(number) / "data.db"
        path.parent.mkdir()
        shutil.copy(whole, path)
        disk = Disk(path.parent)
        vfs = PowerCutVFS(f"power cut {path}", disk)
        disk.cut_after(rng.randint(0, 3000))
        storage = open_sqlite(path, vfs=vfs.vfs_name, open_wal=lambda wal, disk=disk: DiskWalSync(wal, disk))
        was_opened = not disk.is_off
        storage.close()
        disk.cut_and_restart(rng)
        version, found = content_of(path)
        assert found == content
        assert version == FORMAT_VERSION or not was_opened
        left.add(version)
    assert {1, FORMAT_VERSION} <= left <= {1, 2, FORMAT_VERSION}


def content_of(path: Path) -> tuple[int, list[list[tuple[object, ...]]]]:
    with sqlite3.connect(path) as shell:
        [(version,)] = shell.execute("PRAGMA user_version").fetchall()
        content = [
            shell.execute(statement).fetchall()
            for statement in (
                "PRAGMA integrity_check",
                "SELECT table_number, id, ts, value FROM documents ORDER BY table_number, id",
                "SELECT index_number, key, id FROM index_entries ORDER BY index_number, key",
                "SELECT * FROM log ORDER BY ts, position",
                "SELECT * FROM messages ORDER BY id",
            )
        ]
    shell.close()
    return version, content
