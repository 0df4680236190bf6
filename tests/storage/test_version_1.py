"""Does a file of the first format open, with all that is in it?"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from reactivedb.errors import StorageError
from reactivedb.storage import Outcome, open_sqlite

from .commits import INDEX, TABLE, commit, insert, text_of, write

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
    with sqlite3.connect(path, isolation_level=None) as shell:
        shell.executescript(LAYOUT_1)
    shell.close()
    return path


def test_a_file_of_version_1_holds_the_same_in_version_2(path: Path) -> None:
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
