"""What lies in the SQLite file?

The tables, the marks by which the file is recognised, and the views that show user tables to people.
Described byte for byte in `docs/storage_format.md`; whoever changes one changes the other and
`FORMAT_VERSION`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import apsw

from .contract import TableRow
from .sqlite_connection import SqlConnection
from .sqlite_errors import storage_error

# `RDB1`, in the header field that SQLite keeps for the application.
APPLICATION_ID = 0x52444231
FORMAT_VERSION = 2

_DOCUMENTS = """\
CREATE TABLE documents (
    number       INTEGER NOT NULL PRIMARY KEY,
    table_number INTEGER NOT NULL,
    id           TEXT NOT NULL,
    ts           INTEGER NOT NULL,
    value        TEXT NOT NULL,
    UNIQUE (table_number, id)
);
"""
_INDEX_ENTRIES = """\
CREATE TABLE index_entries (
    index_number    INTEGER NOT NULL,
    key             BLOB NOT NULL,
    id              TEXT NOT NULL,
    document_number INTEGER,
    PRIMARY KEY (index_number, key)
) WITHOUT ROWID;
"""
_LOG = """\
CREATE TABLE log (
    ts           INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    table_number INTEGER NOT NULL,
    id           TEXT NOT NULL,
    prev_ts      INTEGER,
    value        TEXT,
    PRIMARY KEY (ts, position)
);
"""
_CREATE = f"""
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE tables (
    number INTEGER NOT NULL PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE
);
CREATE TABLE indexes (
    number       INTEGER NOT NULL PRIMARY KEY,
    table_number INTEGER NOT NULL,
    name         TEXT NOT NULL,
    fields       TEXT NOT NULL,
    definition   TEXT NOT NULL,
    state        TEXT NOT NULL
);
{_DOCUMENTS}{_INDEX_ENTRIES}{_LOG}CREATE TABLE outcomes (
    ts         INTEGER NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL,
    request_id INTEGER NOT NULL,
    result     TEXT NOT NULL,
    log_lines  TEXT NOT NULL,
    UNIQUE (session_id, request_id)
);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
"""

# One table after the other, so that each lies where the one before it was, and the file grows by less.
_FROM_VERSION_1 = f"""
ALTER TABLE documents RENAME TO documents_of_version_1;
{_DOCUMENTS}
INSERT INTO documents (table_number, id, ts, value)
    SELECT table_number, id, ts, value FROM documents_of_version_1 ORDER BY table_number, id;
DROP TABLE documents_of_version_1;

ALTER TABLE index_entries RENAME TO index_entries_of_version_1;
{_INDEX_ENTRIES}
INSERT INTO index_entries
    SELECT index_number, key, entry.id, document.number FROM index_entries_of_version_1 AS entry
    LEFT JOIN indexes ON indexes.number = index_number
    LEFT JOIN documents AS document
        ON document.table_number = indexes.table_number AND document.id = entry.id
    ORDER BY index_number, key;
DROP TABLE index_entries_of_version_1;

ALTER TABLE log RENAME TO log_of_version_1;
{_LOG}
INSERT INTO log SELECT * FROM log_of_version_1 ORDER BY ts, position;
DROP TABLE log_of_version_1;
PRAGMA user_version = {FORMAT_VERSION};
"""


def recognise(connection: SqlConnection, path: Path) -> bool:
    """Is this a reactivedb file (True) or an empty one (False)? Reads only.

    Raises: StorageError `ForeignDatabase`, `NewerFormat`; apsw.Error if it is no SQLite file.
    """
    application_id: object = connection.pragma("application_id")
    version: object = connection.pragma("user_version")
    (table_count,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0]
    if application_id == 0 and version == 0 and table_count == 0:
        return False
    if application_id != APPLICATION_ID:
        raise storage_error(
            "ForeignDatabase",
            path,
            "open it as a reactivedb file",
            "another program's SQLite tables are in it",
        )
    assert isinstance(version, int)
    if version > FORMAT_VERSION:
        raise storage_error(
            "NewerFormat",
            path,
            "open it",
            f"this reactivedb reads formats up to {FORMAT_VERSION}, the file has {version}",
        )
    return True


def create(connection: SqlConnection) -> None:
    """Lay out an empty file; all or nothing."""
    connection.execute(f"BEGIN IMMEDIATE; {_CREATE} COMMIT")


def renew(connection: SqlConnection) -> bool:
    """Bring a file of an earlier version into this one, all or nothing; False if it is in it already.

    The new tables lie in the WAL then. Version 1 kept documents and log in tables without numbers
    (`WITHOUT ROWID`).
    """
    if connection.pragma("user_version") == FORMAT_VERSION:
        return False
    # Else the views, which name the tables, would follow the old ones to their new names.
    connection.pragma("legacy_alter_table", 1)
    try:
        connection.execute(f"BEGIN IMMEDIATE; {_FROM_VERSION_1} COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        # What was written is void, but the WAL has its size: on a full disk nobody could open the file.
        with suppress(apsw.Error):
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        raise
    finally:
        connection.pragma("legacy_alter_table", 0)
    return True


def create_view(connection: SqlConnection, row: TableRow) -> None:
    """A view named like the table shows its documents to people; part of the open group.

    A name that SQLite will not take (its own, one of ours, or equal to another but for case) gets the
    table's number behind it.
    """
    name = next(name for name in _view_names(row) if _is_free(connection, name))
    connection.execute(
        f"CREATE VIEW {_quoted(name)} AS SELECT id, json_extract(value, '$._creationTime') AS creation_time, "
        f"ts, value FROM documents WHERE table_number = {row.number}"
    )


def _view_names(row: TableRow) -> Iterator[str]:
    if not row.name.lower().startswith("sqlite_"):
        yield row.name
        yield f"{row.name}_{row.number}"
    for attempt in itertools.count(1):
        yield f"table_{row.number}_{attempt}"


def _is_free(connection: SqlConnection, name: str) -> bool:
    taken = "SELECT 1 FROM sqlite_schema WHERE name = ? COLLATE NOCASE"
    return not connection.execute(taken, (name,)).fetchall()


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
