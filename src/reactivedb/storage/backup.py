"""How is a database backed up while it serves, and only what has changed since the last time?

Over a connection of its own, in one read transaction of the database: so all of it is true at one timestamp,
and the writer is not disturbed (the WAL is not emptied meanwhile). The first backup copies all; a later one
takes from the log which documents have changed, and copies those. If the log has forgotten changes since the
last backup, all is copied again. Before the backup counts it is compared with the database, document by
document and entry by entry, and with its own log; that reads both whole, and writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import StorageError
from . import sqlite_schema
from .backup_folder import (
    BACKUP_APPLICATION_ID,
    FILES_TABLE_NUMBER,
    TS_KEY,
    BackupFolder,
    connected,
    copy_files,
    copy_private,
    disagreements,
    file_rows,
    horizon_of,
    lay_out,
    meta,
    number,
    structure_problems,
    told,
)
from .contract import TableRow
from .lock import FileLock
from .private_file import create_private
from .sqlite_connection import SqlConnection
from .sqlite_errors import storage_error
from .wal_sync import sync_folder

_SECRET_KEY = "engine.cursor_secret"
# Files may be deleted while they are copied; then the next moment is tried.
_TRIES = 5

_SOURCE_TS = (
    "SELECT max(coalesce((SELECT max(ts) FROM source.log), 0), "
    "coalesce((SELECT max(ts) FROM source.outcomes), 0), "
    "coalesce((SELECT CAST(value AS INTEGER) FROM source.meta "
    "WHERE key = 'storage.creation_time_max_ts'), 0))"
)
_NEWEST = "SELECT ts, position, id FROM main.log ORDER BY ts DESC, position DESC LIMIT 1"
# The commit is there; or the document was erased since.
_KNOWN = (
    "SELECT count(*) FROM source.log WHERE (ts = ?1 AND position = ?2 AND id = ?3) "
    "OR (ts > ?1 AND id = ?3 AND value IS NULL AND prev_ts IS NULL)"
)
_CHANGED = """
CREATE TEMP TABLE changed AS SELECT DISTINCT table_number, id FROM source.log WHERE ts > {since};
CREATE TEMP TABLE erased AS
    SELECT id, table_number, max(ts) AS ts FROM source.log
    WHERE ts > {since} AND value IS NULL AND prev_ts IS NULL GROUP BY id;
CREATE TEMP TABLE renumbered AS
    SELECT number FROM main.documents JOIN changed USING (table_number, id)
    UNION SELECT number FROM source.documents JOIN changed USING (table_number, id);
CREATE TEMP TABLE other_indexes AS
    SELECT number FROM (SELECT * FROM source.indexes EXCEPT SELECT * FROM main.indexes)
    UNION SELECT number FROM (SELECT * FROM main.indexes EXCEPT SELECT * FROM source.indexes)
    UNION SELECT number FROM source.indexes WHERE state = 'building';
"""
_COPY = """
DELETE FROM main.log WHERE id IN (SELECT id FROM erased);
INSERT INTO main.log SELECT * FROM source.log WHERE ts > {since} ORDER BY ts, position;

DELETE FROM main.index_entries
    WHERE document_number IN (SELECT number FROM renumbered)
    OR index_number IN (SELECT number FROM other_indexes);
DELETE FROM main.documents WHERE number IN (SELECT number FROM renumbered);
INSERT INTO main.documents SELECT * FROM source.documents
    WHERE number IN (SELECT number FROM renumbered) ORDER BY number;
INSERT INTO main.index_entries SELECT * FROM source.index_entries
    WHERE document_number IN (SELECT number FROM renumbered)
    OR index_number IN (SELECT number FROM other_indexes)
    ORDER BY index_number, key;
DELETE FROM main.indexes WHERE number IN (SELECT number FROM other_indexes);
INSERT INTO main.indexes SELECT * FROM source.indexes WHERE number IN (SELECT number FROM other_indexes);

DELETE FROM main.outcomes WHERE ts NOT IN (SELECT ts FROM source.outcomes);
UPDATE main.outcomes AS own SET result = new.result, log_lines = new.log_lines FROM source.outcomes AS new
    WHERE new.ts = own.ts AND (new.result, new.log_lines) != (own.result, own.log_lines);
INSERT INTO main.outcomes SELECT * FROM source.outcomes WHERE ts > {since} ORDER BY ts;

DELETE FROM main.meta WHERE key NOT LIKE 'backup.%' AND key NOT IN (SELECT key FROM source.meta)
    AND key NOT LIKE 'storage.log_%';
REPLACE INTO main.meta SELECT new.key, new.value FROM source.meta AS new
    LEFT JOIN main.meta AS own ON own.key = new.key
    WHERE own.value IS NOT new.value AND new.key != 'storage.log_size'
    AND (new.key != 'storage.log_horizon' OR {is_whole});
"""
_COMPARED = (
    (
        "documents",
        "SELECT count(*) FROM source.documents AS new LEFT JOIN main.documents AS own USING (number) "
        "WHERE (own.table_number, own.id, own.ts, own.value) IS NOT "
        "(new.table_number, new.id, new.ts, new.value)",
    ),
    (
        "index entries",
        "SELECT count(*) FROM source.index_entries AS new "
        "LEFT JOIN main.index_entries AS own USING (index_number, key) "
        "WHERE (own.id, own.document_number) IS NOT (new.id, new.document_number)",
    ),
)
_FILES_EVER = (
    f"SELECT DISTINCT id FROM main.log WHERE table_number = {FILES_TABLE_NUMBER} AND value IS NOT NULL"
)
# Indexes may be built anew without a trace in the log.
_OTHER_ENTRIES = """
SELECT DISTINCT index_number FROM source.index_entries AS new
    LEFT JOIN main.index_entries AS own USING (index_number, key)
    WHERE (own.id, own.document_number) IS NOT (new.id, new.document_number)
UNION SELECT index_number FROM (
    SELECT index_number, count(*) FROM main.index_entries GROUP BY index_number
    EXCEPT SELECT index_number, count(*) FROM source.index_entries GROUP BY index_number)
"""
_COUNTED = ("documents", "index_entries", "outcomes", "tables", "indexes")


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup holds: the state at `ts`, and of each timestamp from `oldest_ts` on.

    `write_count` writes of the log and `file_count` files were copied now. `is_whole`: all was copied, since
    there was no backup, or the log had forgotten what changed since the last one.
    """

    folder: Path
    ts: int
    oldest_ts: int
    is_whole: bool
    write_count: int
    document_count: int
    file_count: int


class _FileGoneError(Exception):
    """A file was deleted between the moment of the state and its copying."""


def back_up(
    database: Path, folder: Path, *, on_step: Callable[[str], None] = lambda step: None
) -> BackupReport:
    """Bring the backup in `folder` up to date with a database, which may be open in any process.

    `on_step` is told the name of each step before it begins.

    Raises: StorageError `BackupDamaged`, `OtherBackup`, `DatabaseInUse` (another backup into the folder goes
    on),
        `DiskFull`, and what reading the database raises. The backup that there was is as it was then.
    """
    database = Path(os.path.realpath(database))
    target = BackupFolder(Path(os.path.abspath(folder)))
    _check_source(database)
    with told(target.path, "make the folder of the backup"):
        target.path.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(target.database)
    try:
        with told(target.database, "back the database up"):
            for _ in range(_TRIES):
                try:
                    return _Backup(database, target, on_step).run()
                except _FileGoneError:
                    continue
    finally:
        lock.release()
    raise StorageError(
        f"files of `{database}` were deleted while they were copied, {_TRIES} times - back up again when "
        "fewer are deleted, or look whether files are missing in its folder",
        code="FileMissing",
        path=str(database),
    )


class _Backup:
    def __init__(self, database: Path, target: BackupFolder, on_step: Callable[[str], None]) -> None:
        self._database = database
        self._target = target
        self._on_step = on_step
        self._source_files = database.with_name(f"{database.name}.files")
        self._file_count = 0

    def run(self) -> BackupReport:
        target = self._target
        target.unfinished.unlink(missing_ok=True)
        if target.database.exists():
            with connected(target.database, source=self._database) as connection:
                if self._can_follow(connection):
                    report = self._write(connection, is_whole=False)
                    self._check_written(target.database)
                    return report
        create_private(target.unfinished)
        try:
            with connected(target.unfinished, source=self._database) as connection:
                lay_out(connection)
                report = self._write(connection, is_whole=True)
            self._check_written(target.unfinished)
        except BaseException:
            target.unfinished.unlink(missing_ok=True)
            raise
        self._on_step("rename")
        target.unfinished.rename(target.database)
        sync_folder(target.path)
        return report

    def _can_follow(self, connection: SqlConnection) -> bool:
        """Does the log tell what has changed since that backup?

        Raises: StorageError `OtherBackup`, `BackupDamaged`.
        """
        if connection.pragma("application_id") != BACKUP_APPLICATION_ID:
            raise self._other("is no backup")
        if meta(connection, TS_KEY) is None:
            return False
        connection.execute("BEGIN")
        try:
            since = int(meta(connection, TS_KEY) or 0)
            if meta(connection, _SECRET_KEY) != meta(connection, _SECRET_KEY, schema="source"):
                raise self._other("is that of another database")
            horizon = horizon_of(connection, schema="source")
            for ts, position, id in connection.execute(_NEWEST).fetchall():
                if ts > horizon and not number(connection, _KNOWN, ts, position, id):
                    raise self._other("has commits that the database has not, which was restored since")
            is_same_version = connection.pragma("user_version") == sqlite_schema.FORMAT_VERSION
            return is_same_version and horizon <= since <= number(connection, _SOURCE_TS)
        finally:
            connection.execute("ROLLBACK")

    def _other(self, what: str) -> StorageError:
        return StorageError(
            f"`{self._target.database}` {what} (`{self._database}`) - back up into another folder",
            code="OtherBackup",
            path=str(self._target.database),
        )

    def _write(self, connection: SqlConnection, *, is_whole: bool) -> BackupReport:
        self._on_step("files")
        # Most of them before the moment of the state, so that the WAL is not kept for their sake.
        self._copy_files(connection)
        connection.execute("BEGIN IMMEDIATE")
        ts = number(connection, _SOURCE_TS)
        since = -1 if is_whole else int(meta(connection, TS_KEY) or 0)
        if self._copy_files(connection):
            raise _FileGoneError
        self._on_step("copy")
        values = {"since": since, "is_whole": int(is_whole)}
        connection.execute(_CHANGED.format(**values))
        connection.execute(_COPY.format(**values))
        self._copy_tables(connection)
        self._copy_other_entries(connection)
        connection.execute("REPLACE INTO main.meta VALUES (?, ?)", (TS_KEY, str(ts)))
        copy_private(
            self._database.with_name(f"{self._database.name}.sign_in_keys"), self._target.sign_in_keys
        )
        self._on_step("check")
        self._check(connection, since)
        report = BackupReport(
            folder=self._target.path,
            ts=ts,
            oldest_ts=horizon_of(connection),
            is_whole=is_whole,
            write_count=number(connection, "SELECT count(*) FROM main.log WHERE ts > ?", since),
            document_count=number(connection, "SELECT count(*) FROM main.documents"),
            file_count=self._file_count,
        )
        self._on_step("commit")
        connection.execute("COMMIT")
        self._sweep_files(connection)
        return report

    def _sweep_files(self, connection: SqlConnection) -> None:
        """Remove what no row ever told of, as far as the backup knows: erased files, and parts."""
        if self._target.files.is_dir():
            known = {id for (id,) in connection.execute(_FILES_EVER).fetchall()}
            for name in os.listdir(self._target.files):
                if name not in known:
                    (self._target.files / name).unlink()

    def _copy_files(self, connection: SqlConnection) -> bool:
        """True if a file is missing."""
        rows = file_rows(connection, schema="source")
        if not rows:
            return False
        copied, missing = copy_files(rows, self._source_files, self._target.files)
        self._file_count += copied
        return bool(missing)

    def _copy_other_entries(self, connection: SqlConnection) -> None:
        for index in connection.execute(_OTHER_ENTRIES).fetchall():
            connection.execute("DELETE FROM main.index_entries WHERE index_number = ?", index)
            connection.execute(
                "INSERT INTO main.index_entries SELECT * FROM source.index_entries WHERE index_number = ?",
                index,
            )

    def _copy_tables(self, connection: SqlConnection) -> None:
        new = connection.execute("SELECT * FROM source.tables EXCEPT SELECT * FROM main.tables").fetchall()
        for row in new:
            connection.execute("INSERT INTO main.tables VALUES (?, ?)", row)
            sqlite_schema.create_view(connection, TableRow(*row))

    def _check(self, connection: SqlConnection, since: int) -> None:
        """Raises: StorageError `BackupDamaged`, before the backup is committed."""
        problems = [
            f"{found} {what} differ from the database's"
            for what, sql in _COMPARED
            if (found := number(connection, sql))
        ]
        tables = [(f"{table}", "") for table in _COUNTED] + [("log", f"WHERE ts > {since}")]
        for table, where in tables:
            there = number(connection, f"SELECT count(*) FROM source.{table} {where}")
            here = number(connection, f"SELECT count(*) FROM main.{table} {where}")
            if here != there:
                problems.append(f"{here} rows are in `{table}`, the database has {there}")
        self._raise_if_any(problems or disagreements(connection))

    def _check_written(self, path: Path) -> None:
        """What came to the disk, over a connection that has nothing in memory."""
        with connected(path) as connection:
            self._raise_if_any(structure_problems(connection))

    def _raise_if_any(self, problems: list[str]) -> None:
        if problems:
            raise StorageError(
                f"the backup `{self._target.database}` is not what it should be: {problems[0]} - move the "
                "folder away and back up anew",
                code="BackupDamaged",
                path=str(self._target.database),
                problems=problems,
            )


def _check_source(database: Path) -> None:
    """Raises: StorageError `FileMissing`, `ForeignDatabase`, `OlderFormat`."""
    if not database.is_file():
        raise StorageError(
            f"there is no database `{database}` - name the file, such as `.reactivedb/data.db`",
            code="FileMissing",
            path=str(database),
        )
    with told(database, "read the database"), connected(database, writes=False) as connection:
        if not sqlite_schema.recognise(connection, database):
            raise storage_error("ForeignDatabase", database, "back it up", "it is empty")
        version = connection.pragma("user_version")
        if version != sqlite_schema.FORMAT_VERSION:
            raise StorageError(
                f"`{database}` has format {version}, and formats from {sqlite_schema.FORMAT_VERSION} on can "
                "be backed up - open it once with this version, which brings it into the present format",
                code="OlderFormat",
                path=str(database),
            )
