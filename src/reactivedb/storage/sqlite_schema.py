"""What lies in the SQLite file?

The tables, the marks by which the file is recognised, and the views that show user tables to people.
Described byte for byte in `docs/storage_format.md`; whoever changes one changes the other and
`FORMAT_VERSION`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import cast

import apsw

from reactivedb.errors import StorageError

from .contract import TableRow
from .entry_check import entries_that_differ
from .page_checksums import RESERVED_BYTES, ChecksumVFS
from .sqlite_check import disagreements, structure_problems
from .sqlite_connection import SqlConnection
from .sqlite_errors import storage_error

# `RDB1`, in the header field that SQLite keeps for the application.
APPLICATION_ID = 0x52444231
FORMAT_VERSION = 3
# SQLite writes the page also if nothing on it changes.
TOUCH_FIRST_PAGE = f"PRAGMA user_version = {FORMAT_VERSION}"

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
PRAGMA user_version = 2;
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
        raise _newer_format(path, version)
    return True


def refuse_newer(path: Path) -> None:
    """Raises StorageError `NewerFormat` before SQLite sees the file, whose pages may be of another kind."""
    try:
        with path.open("rb") as file:
            header = file.read(72)
    except OSError:
        # What cannot be read is told when it is opened.
        return
    version, application_id = int.from_bytes(header[60:64], "big"), int.from_bytes(header[68:72], "big")
    if application_id == APPLICATION_ID and version > FORMAT_VERSION:
        raise _newer_format(path, version)


def _newer_format(path: Path, version: int) -> StorageError:
    got = f"this reactivedb reads formats up to {FORMAT_VERSION}, the file has {version}"
    return storage_error("NewerFormat", path, "open it", got)


def create(connection: SqlConnection) -> None:
    """Lay out an empty file, which has room for checksums; all or nothing."""
    connection.execute(f"BEGIN IMMEDIATE; {_CREATE} COMMIT")


def renew(connection: SqlConnection, path: Path, vfs: ChecksumVFS, *, sync: Callable[[], None]) -> bool:
    """Bring a file of an earlier version into this one, and one that another program wrote; False: neither.

    Each step is all or nothing, and durable before the next begins. What was written lies in the WAL then.
    Version 1 kept documents and log in tables without numbers (`WITHOUT ROWID`), version 2 had no checksums.

    Raises: StorageError `DatabaseCorrupt`, apsw.Error; and what `sync` raises.
    """
    version = cast(int, connection.pragma("user_version"))
    had_checksums = connection.reserve_bytes("main", -1) == RESERVED_BYTES
    if version == FORMAT_VERSION and had_checksums and vfs.is_whole:
        return False
    # Damage must not get checksums, which would say that it is sound.
    _refuse(path, structure_problems(connection) or disagreements(connection, has_numbers=version >= 2))
    sync()
    try:
        if version < 2:
            _from_version_1(connection)
            sync()
        _refuse(path, islice(entries_that_differ(connection), 1))
        if not (had_checksums and vfs.is_whole):
            _add_checksums(connection)
            sync()
            vfs.is_whole = True
        connection.pragma("user_version", FORMAT_VERSION)
        sync()
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        # What was written is void, but the WAL has its size: on a full disk nobody could open the file.
        with suppress(apsw.Error):
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        if isinstance(error, apsw.FullError) and version == FORMAT_VERSION and had_checksums:
            # It can be read as it is; the next opening tries again.
            return False
        raise
    return True


def _refuse(path: Path, problems: Iterable[str]) -> None:
    for problem in problems:
        got = f"not all in it is sound: {problem}"
        raise storage_error("DatabaseCorrupt", path, "bring all of it into the present format", got)


def _from_version_1(connection: SqlConnection) -> None:
    # Else the views, which name the tables, would follow the old ones to their new names.
    connection.pragma("legacy_alter_table", 1)
    try:
        connection.execute(f"BEGIN IMMEDIATE; {_FROM_VERSION_1} COMMIT")
    finally:
        connection.pragma("legacy_alter_table", 0)


def _add_checksums(connection: SqlConnection) -> None:
    """Write every page anew, with room for its checksum."""
    connection.reserve_bytes("main", RESERVED_BYTES)
    connection.pragma("auto_vacuum", "INCREMENTAL")
    # The copy that SQLite makes on the way is as large as the file: too large for the memory.
    connection.pragma("temp_store", "FILE")
    try:
        connection.execute("VACUUM")
    finally:
        connection.pragma("temp_store", "MEMORY")


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
