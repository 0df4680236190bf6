"""What lies in the folder of a backup, and how is it read and checked?

`backup.db` is an SQLite file with the tables of a database, all true at one timestamp, and a log that is
never forgotten; another mark than a database's keeps it from being opened as one. `files/` has the files that
rows of `_storage` told of at some backup, each under its id, `sign_in_keys` what signs the tokens of the
database's users. The file is changed in one SQL transaction with a rollback journal, so what a kill leaves is
the backup before it, and a file without a `backup.ts` is no backup yet.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import quote

import apsw

from ..errors import StorageError
from . import sqlite_schema
from .files import PART_SUFFIX
from .page_checksums import RESERVED_BYTES, ChecksumVFS
from .private_file import create_private
from .sqlite_connection import SqlConnection
from .sqlite_errors import from_os_error, from_sqlite_error
from .sqlite_upkeep import BUSY_TIMEOUT_MS, prepare_upkeep
from .wal_sync import sync_data, sync_folder

# `RDBB`, where a database has `RDB1`.
BACKUP_APPLICATION_ID = 0x52444242
TS_KEY = "backup.ts"
# The table whose documents tell of files.
FILES_TABLE_NUMBER = 513

_PIECE_SIZE_BYTES = 1024 * 1024
_FILES = (
    "SELECT id, json_extract(value, '$.sha256'), json_extract(value, '$.size') FROM {schema}.documents "
    f"WHERE table_number = {FILES_TABLE_NUMBER} ORDER BY id"
)
_MATCHING = (
    "SELECT count(*) FROM main.log AS log JOIN main.documents AS document "
    "ON document.table_number = log.table_number AND document.id = log.id AND document.ts = log.ts "
    "WHERE document.value = log.value"
)
_NEWEST_IN_LOG = (
    "SELECT count(*) FROM (SELECT value IS NULL AS gone, max(ts) FROM main.log GROUP BY table_number, id) "
    "WHERE NOT gone"
)
_ASTRAY = (
    "SELECT count(*) FROM main.index_entries AS entry LEFT JOIN main.documents ON number = document_number "
    "WHERE documents.id IS NOT entry.id"
)


@dataclass(frozen=True, slots=True)
class BackupFolder:
    path: Path

    @property
    def database(self) -> Path:
        return self.path / "backup.db"

    @property
    def unfinished(self) -> Path:
        """A whole backup on its way to become `database`."""
        return self.path / "backup.db.new"

    @property
    def files(self) -> Path:
        return self.path / "files"

    @property
    def sign_in_keys(self) -> Path:
        return self.path / "sign_in_keys"


@dataclass(frozen=True, slots=True)
class FileRow:
    """What a row of `_storage` says of the bytes."""

    id: str
    sha256: str
    size_bytes: int


@contextmanager
def told(path: Path, doing: str) -> Generator[None]:
    """Errors of SQLite and of the system become StorageError."""
    try:
        yield
    except apsw.Error as error:
        raise from_sqlite_error(error, path, doing) from error
    except OSError as error:
        raise from_os_error(error, path, doing) from error


@contextmanager
def connected(path: Path, *, source: Path | None = None, writes: bool = True) -> Generator[SqlConnection]:
    """A connection that writes to `path` with a rollback journal; `source` is attached, to be read only.

    Raises apsw.Error, OSError.
    """
    access = apsw.SQLITE_OPEN_READWRITE if writes else apsw.SQLITE_OPEN_READONLY
    flags = access | apsw.SQLITE_OPEN_URI
    checked = ChecksumVFS(path)
    connection = cast(SqlConnection, apsw.Connection(str(path), flags=flags, vfs=checked.vfs_name))
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        if writes:
            is_new = path.stat().st_size == 0
            if is_new:
                connection.reserve_bytes("main", RESERVED_BYTES)
            prepare_upkeep(connection, is_new=is_new)
            # Else SQLite would wait for no sync of the folder when it removes the journal.
            connection.pragma("synchronous", "EXTRA")
        if source is not None:
            connection.execute("ATTACH ? AS source", (f"file:{quote(str(source))}?mode=ro",))
        yield connection
    except apsw.IOError as error:
        if not connection.system_errno:
            raise
        # SQLite itself knows only one kind of full disk.
        raise OSError(connection.system_errno, os.strerror(connection.system_errno)) from error
    finally:
        connection.close(True)


def lay_out(connection: SqlConnection) -> None:
    """Make an empty file a backup of nothing."""
    sqlite_schema.create(connection)
    connection.pragma("application_id", BACKUP_APPLICATION_ID)


def meta(connection: SqlConnection, key: str, *, schema: str = "main") -> str | None:
    rows = connection.execute(f"SELECT value FROM {schema}.meta WHERE key = ?", (key,)).fetchall()
    return rows[0][0] if rows else None


def horizon_of(connection: SqlConnection, *, schema: str = "main") -> int:
    """From which timestamp on the log tells the state."""
    return int((meta(connection, "storage.log_horizon", schema=schema) or "0").split()[0])


def number(connection: SqlConnection, sql: str, *bindings: object) -> int:
    """The one number that a statement gives; 0 for NULL."""
    return connection.execute(sql, bindings).fetchall()[0][0] or 0


def disagreements(connection: SqlConnection) -> list[str]:
    """What does not fit together in the tables, a sentence each; reads all of them, in SQLite alone."""
    documents = number(connection, "SELECT count(*) FROM main.documents")
    problems: list[str] = []
    if (matching := number(connection, _MATCHING)) != documents:
        problems.append(f"of {documents} documents {matching} are as the log has them")
    if (newest := number(connection, _NEWEST_IN_LOG)) != documents:
        problems.append(f"{documents} documents are stored, the log has {newest}")
    if astray := number(connection, _ASTRAY):
        problems.append(f"{astray} index entries lead to no document, or to another one")
    return problems


def structure_problems(connection: SqlConnection) -> list[str]:
    """What SQLite finds wrong with the pages of the file."""
    rows = connection.execute("PRAGMA main.integrity_check").fetchall()
    return [text for (text,) in rows if text != "ok"]


def file_rows(connection: SqlConnection, *, schema: str = "main") -> list[FileRow]:
    rows = connection.execute(_FILES.format(schema=schema)).fetchall()
    return [FileRow(id, sha256, int(size)) for id, sha256, size in rows]


def copy_files(rows: Iterable[FileRow], source: Path, target: Path) -> tuple[int, list[FileRow]]:
    """Copy those that `target` lacks, durably; how many, and which of them `source` has not.

    Raises: OSError; StorageError `FileDamaged`, for bytes that are not what the row says.
    """
    target.mkdir(mode=0o700, exist_ok=True)
    copied = 0
    missing: list[FileRow] = []
    for row in rows:
        there = target / row.id
        if there.exists() and there.stat().st_size == row.size_bytes:
            continue
        try:
            _copy_file(row, source / row.id, there)
        except FileNotFoundError:
            missing.append(row)
        else:
            copied += 1
    if copied:
        sync_folder(target)
        sync_folder(target.parent)
    return copied, missing


def _copy_file(row: FileRow, source: Path, target: Path) -> None:
    part = target.with_name(target.name + PART_SUFFIX)
    digest = hashlib.sha256()
    with source.open("rb") as reading:
        create_private(part)
        with part.open("wb") as writing:
            while piece := reading.read(_PIECE_SIZE_BYTES):
                digest.update(piece)
                writing.write(piece)
            writing.flush()
            sync_data(writing.fileno())
    found = base64.b64encode(digest.digest()).decode()
    if found != row.sha256:
        part.unlink()
        raise StorageError(
            f"the file `{source}` should have the SHA-256 `{row.sha256}`, but has `{found}` - put it back "
            "from another copy, or delete it through the database",
            code="FileDamaged",
            path=str(source),
            id=row.id,
        )
    part.rename(target)


def copy_private(source: Path, target: Path) -> None:
    """Replace a small secret file, durably; none in `source` leaves `target` as it is."""
    if not source.exists():
        return
    part = target.with_name(target.name + PART_SUFFIX)
    create_private(part)
    with part.open("wb") as writing:
        writing.write(source.read_bytes())
        writing.flush()
        sync_data(writing.fileno())
    part.rename(target)
    sync_folder(target.parent)
