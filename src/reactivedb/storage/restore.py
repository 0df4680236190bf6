"""How does a backup become a database again, as of any timestamp that it holds?

The database is made beside its place, checked, and renamed into it when it is complete and durable; its files
come first. For an earlier timestamp what the log has since is undone: documents take the version of then, and
the indexes of their tables are left out, for the next opening to build. A kill leaves the place as it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import apsw

from ..errors import StorageError, ValidationError
from . import sqlite_schema
from .backup_folder import (
    BACKUP_APPLICATION_ID,
    TS_KEY,
    BackupFolder,
    connected,
    copy_files,
    copy_private,
    disagreements,
    file_rows,
    horizon_of,
    meta,
    number,
    structure_problems,
    told,
)
from .lock import FileLock
from .open_file import OpenFile
from .private_file import create_private
from .sqlite_connection import SqlConnection
from .sqlite_open import open_sqlite
from .wal_sync import sync_data, sync_folder

_NEW_SUFFIX = ".restoring"
_ASIDE_SUFFIX = ".before_restore"

_UNDO = """
CREATE TEMP TABLE touched AS SELECT DISTINCT table_number, id FROM log WHERE ts > {at};
CREATE TEMP TABLE open_indexes AS
    SELECT number FROM indexes WHERE table_number IN (SELECT table_number FROM touched);
DELETE FROM index_entries WHERE index_number IN (SELECT number FROM open_indexes);
DELETE FROM meta WHERE key IN (
    SELECT 'index_build:' || number FROM open_indexes UNION SELECT 'index_unique:' || number FROM open_indexes
    UNION SELECT 'validator:' || table_number FROM touched);
DELETE FROM indexes WHERE number IN (SELECT number FROM open_indexes);
DELETE FROM documents WHERE number IN (SELECT number FROM documents JOIN touched USING (table_number, id));
DELETE FROM log WHERE ts > {at};
DELETE FROM outcomes WHERE ts > {at};
INSERT INTO documents SELECT NULL, table_number, id, ts, value FROM (
    SELECT table_number, id, max(ts) AS ts, value FROM log JOIN touched USING (table_number, id)
    GROUP BY table_number, id) WHERE value IS NOT NULL ORDER BY ts, id;
"""
_TABLES_TOUCHED = "SELECT name FROM tables WHERE number IN (SELECT table_number FROM touched)"
_MIGRATIONS_KEY = "migrations"


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """A database that was restored: the state at `ts`.

    `missing_file_ids` are files of then whose bytes no backup has: they were deleted before one was made.
    """

    path: Path
    ts: int
    document_count: int
    file_count: int
    missing_file_ids: tuple[str, ...]


def restore(
    folder: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    at: int | None = None,
    overwrite: bool = False,
    allow_missing_files: bool = False,
    on_step: Callable[[str], None] = lambda step: None,
) -> RestoreReport:
    """Make the file `target` the database of a backup, as of the timestamp `at` (None: the newest).

    With `overwrite` a database that is there is replaced; one that is open is not. `on_step` is told the name
    of each step before it begins.

    Raises:
        ValidationError: `TimestampOutOfRange`, `InvalidTimestamp`.
        StorageError: `BackupMissing`, `BackupUnfinished`, `BackupDamaged`, `TargetExists`, `FileMissing`,
            `DatabaseInUse`, `DiskFull` and others. The place is as it was then.
    """
    backup = BackupFolder(Path(os.path.abspath(folder)))
    place = Path(os.path.realpath(target))
    if not backup.database.exists():
        raise _missing(backup)
    if place.exists() and not overwrite:
        raise StorageError(
            f"there is a database `{place}` already - restore to another path, or say that it is to be "
            "replaced (`overwrite=True`, `--overwrite`)",
            code="TargetExists",
            path=str(place),
        )
    with told(place, "restore the database"):
        return _Restoring(backup, place, at, allow_missing_files, on_step).run()


class _Restoring:
    def __init__(
        self,
        backup: BackupFolder,
        place: Path,
        at: int | None,
        allow_missing_files: bool,
        on_step: Callable[[str], None],
    ) -> None:
        self._backup = backup
        self._place = place
        self._at = at
        self._allow_missing_files = allow_missing_files
        self._on_step = on_step
        self._new = place.with_name(place.name + _NEW_SUFFIX)

    def run(self) -> RestoreReport:
        self._settle_old()
        # What is not there has no other name by which it could be open.
        held = OpenFile(self._place) if self._place.exists() else FileLock(self._place)
        try:
            report = self._build()
            self._on_step("replace")
            self._put_old_aside()
            os.rename(self._new, self._place)
            sync_folder(self._place.parent)
            return report
        except BaseException:
            self._new.unlink(missing_ok=True)
            raise
        finally:
            held.release()

    def _settle_old(self) -> None:
        """Have the WAL of the old database moved into it, if it can be opened at all.

        Raises: StorageError `DatabaseInUse`.
        """
        if self._place.exists():
            try:
                open_sqlite(self._place).close()
            except StorageError as error:
                # What is damaged is replaced all the same.
                if error.code == "DatabaseInUse":
                    raise

    def _put_old_aside(self) -> None:
        """A WAL that is still there belongs to the old file, and must not stand beside the new one."""
        wal = Path(f"{self._place}-wal")
        if wal.exists() and wal.stat().st_size:
            aside = self._place.with_name(self._place.name + _ASIDE_SUFFIX)
            os.rename(wal, f"{aside}-wal")
            if self._place.exists():
                os.rename(self._place, aside)
        for suffix in ("-wal", "-shm"):
            Path(f"{self._place}{suffix}").unlink(missing_ok=True)

    def _build(self) -> RestoreReport:
        """Make the new database beside its place, durable and checked."""
        create_private(self._new)
        self._on_step("copy")
        with connected(self._new) as new:
            with connected(self._backup.database) as saved:
                newest = self._check_backup(saved)
                _copy_pages(saved, new)
            ts = self._checked_ts(new, newest)
            self._on_step("undo")
            new.execute("BEGIN IMMEDIATE")
            if ts < newest:
                new.execute(_UNDO.format(at=ts))
                _restart_migrations(new, ts)
            new.execute("DELETE FROM meta WHERE key LIKE 'backup.%' OR key = 'storage.log_size'")
            self._on_step("check")
            self._raise_if_any(disagreements(new))
            new.execute("COMMIT")
            new.pragma("application_id", sqlite_schema.APPLICATION_ID)
            rows = file_rows(new)
            count = number(new, "SELECT count(*) FROM documents")
        with connected(self._new) as new:
            self._raise_if_any(structure_problems(new))
        with self._new.open("rb") as file:
            sync_data(file.fileno())
        self._on_step("files")
        copied, missing = 0, []
        if rows:
            files = self._place.with_name(f"{self._place.name}.files")
            copied, missing = copy_files(rows, self._backup.files, files)
        if missing and not self._allow_missing_files:
            raise StorageError(
                f"of {len(rows)} files at {ts} the backup has not {len(missing)}, of which `{missing[0].id}` "
                "is the first: they were deleted before a backup was made - restore another timestamp, or do "
                "without them (`allow_missing_files=True`, `--without-missing-files`)",
                code="FileMissing",
                ids=[row.id for row in missing],
            )
        copy_private(self._backup.sign_in_keys, self._place.with_name(f"{self._place.name}.sign_in_keys"))
        return RestoreReport(self._place, ts, count, copied, tuple(row.id for row in missing))

    def _check_backup(self, saved: SqlConnection) -> int:
        """The newest timestamp. Raises: StorageError `BackupMissing`, `BackupUnfinished`, `NewerFormat`."""
        if saved.pragma("application_id") != BACKUP_APPLICATION_ID:
            raise _missing(self._backup)
        ts = meta(saved, TS_KEY)
        if ts is None:
            raise StorageError(
                f"the backup in `{self._backup.path}` was not finished - back up into it again",
                code="BackupUnfinished",
                path=str(self._backup.path),
            )
        return int(ts)

    def _checked_ts(self, new: SqlConnection, newest: int) -> int:
        at = newest if self._at is None else self._at
        if type(at) is not int:
            raise ValidationError(
                f"a timestamp is an integer of nanoseconds since the epoch, got `{at!r}`",
                code="InvalidTimestamp",
            )
        oldest = horizon_of(new)
        if not oldest <= at <= newest:
            raise ValidationError(
                f"the backup in `{self._backup.path}` can be restored as of {oldest} to {newest}, got {at}",
                code="TimestampOutOfRange",
            )
        return at

    def _raise_if_any(self, problems: list[str]) -> None:
        if problems:
            raise StorageError(
                f"what was restored from `{self._backup.database}` does not fit together: {problems[0]} - "
                "restore another backup",
                code="BackupDamaged",
                path=str(self._backup.database),
                problems=problems,
            )


def _copy_pages(source: SqlConnection, target: SqlConnection) -> None:
    with cast(apsw.Connection, target).backup("main", cast(apsw.Connection, source), "main") as backup:
        backup.step(-1)


def _restart_migrations(new: SqlConnection, ts: int) -> None:
    """What a migration has rewritten since is old again; one that began later has not begun."""
    text = meta(new, _MIGRATIONS_KEY)
    if text is None:
        return
    touched = {name for (name,) in new.execute(_TABLES_TOUCHED).fetchall()}
    kept: list[dict[str, Any]] = []
    for record in json.loads(text):
        if record["table"] not in touched:
            kept.append(record)
        elif record["watermark_ts"] <= ts:
            kept.append({**record, "done": 0, "cursor": "", "finished": False})
    new.execute("REPLACE INTO meta VALUES (?, ?)", (_MIGRATIONS_KEY, json.dumps(kept)))


def _missing(backup: BackupFolder) -> StorageError:
    return StorageError(
        f"there is no backup in `{backup.path}` - name the folder that `reactivedb backup` was given",
        code="BackupMissing",
        path=str(backup.path),
    )
