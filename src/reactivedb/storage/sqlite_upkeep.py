"""How is something erased from an SQLite file, and how does the file become smaller?

Every connection that writes overwrites what it deletes with zeros (`secure_delete`), and a file is laid out
so that free pages can be taken out (`auto_vacuum` = INCREMENTAL). A file of an earlier program has neither:
deleted text may lie in its pages. `compact_file` writes every page anew, and the `auto_vacuum` in the header
says that this was done. Cost, measured: no more time for a commit, and 4 % more pages in the WAL.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import apsw

from ..errors import StorageError
from . import sqlite_outcomes, sqlite_schema
from .contract import LOG_WRITE_SIZE_BYTES, Outcome
from .lock import FileLock
from .private_file import copy_mode, create_private
from .sqlite import SqliteStorage
from .sqlite_connection import SqlConnection
from .sqlite_errors import from_os_error, from_sqlite_error, storage_error
from .sqlite_log import positions_of
from .upkeep import Room
from .wal_sync import sync_data, sync_folder

# Nobody else should write to the file; a checkpoint of the `sqlite3` shell is over in this time.
BUSY_TIMEOUT_MS = 1000
_INCREMENTAL = 2
_NEW_SUFFIX = ".rewriting"

_OUTCOMES = (
    "SELECT ts, session_id, request_id, CAST(result AS BLOB), log_lines FROM outcomes "
    "WHERE ts > ? ORDER BY ts LIMIT ?"
)
_REPLACE_OUTCOME = "UPDATE outcomes SET result = CAST(? AS TEXT), log_lines = '[]' WHERE ts = ?"
_ERASE = (
    "DELETE FROM log WHERE ts = ? AND position = ? RETURNING ts, position, coalesce(octet_length(value), 0)"
)


def prepare_upkeep(connection: SqlConnection, *, is_new: bool) -> None:
    """Before anything is written through a connection; of a new file, before its first page."""
    connection.pragma("secure_delete", 1)
    if is_new:
        connection.pragma("auto_vacuum", _INCREMENTAL)


class UpkeptSqliteStorage(SqliteStorage):
    """`SqliteStorage` with what `upkeep.Upkeep` asks for."""

    def outcomes(self, after_ts: int, *, limit: int) -> list[Outcome]:
        rows = self._rows(_OUTCOMES, (after_ts, limit))
        return [
            sqlite_outcomes.from_row(session_id, request_id, (ts, result, lines))
            for ts, session_id, request_id, result, lines in rows
        ]

    def replace_outcome(self, ts: int, result: bytes) -> None:
        self._run(_REPLACE_OUTCOME, (result, ts))

    def erase_writes(self, id: str, timestamps: Sequence[int]) -> None:
        try:
            self._begin()
            # An insertion may go, and what it says of the newest creation time must not go with it.
            self._record_newest()
            last_ts, _ = self._newest()
            erased: list[tuple[int, int, int]] = []
            for ts in timestamps:
                for position in positions_of(self._write, ts, [id]):
                    erased += self._write.execute(_ERASE, (ts, position)).fetchall()
            sizes = [(ts, position, size + LOG_WRITE_SIZE_BYTES) for ts, position, size in erased]
            self._log.erased(self._write, sizes, last_ts)
        except apsw.Error as error:
            raise self._group_failed(error, "erase a document from the log") from error

    def check_keeps_no_old_bytes(self) -> None:
        if self._rows("PRAGMA auto_vacuum")[0][0] != _INCREMENTAL:
            raise StorageError(
                f"`{self.path}` was laid out by an earlier version: deleted bytes stay in it and it cannot "
                f"shrink - close it and run `reactivedb compact '{self.path}'` once, which needs "
                f"{self.room().size_bytes} bytes of free disk",
                code="RewriteNeeded",
                path=str(self.path),
            )

    def room(self) -> Room:
        size_bytes = sum(_size(Path(f"{self.path}{suffix}")) for suffix in ("", "-wal"))
        return Room(
            size_bytes, self._rows("PRAGMA page_count")[0][0], self._rows("PRAGMA freelist_count")[0][0]
        )

    def release(self, page_count: int) -> int:
        self.check_keeps_no_old_bytes()
        free = min(self.room().free_pages, page_count)
        if free:
            try:
                self._begin()
                # One row for each page that goes.
                self._write.execute(f"PRAGMA incremental_vacuum({page_count})").fetchall()
            except apsw.Error as error:
                raise self._group_failed(error, "give room back") from error
            except BaseException:
                self._abandon_group()
                raise
            self.flush()
        return free

    def empty_wal(self) -> bool:
        self._check_open()
        # Nobody is waited for here: the caller holds the engine's lock.
        self._connection.set_busy_timeout(0)
        try:
            self._move_wal(apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except StorageError as failure:
            raise self._fail(failure) from failure
        finally:
            self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        return _size(Path(f"{self.path}-wal")) == 0


def compact_file(path: Path) -> tuple[int, int]:
    """Write a database file that nobody has open anew, without what was deleted and as small as can be.

    All or nothing: the new file takes the old one's name when it is complete and durable. A kill leaves a
    file that the next call replaces.

    Gives its size in bytes before and after, with the WAL. It needs free disk for the new file.

    Raises: StorageError `FileMissing`, `DatabaseInUse`, `DiskFull` and others, with the old file as it was.
    """
    path = Path(os.path.realpath(path))
    new = path.with_name(path.name + _NEW_SUFFIX)
    if not path.is_file():
        raise StorageError(
            f"there is no database `{path}` - name another file", code="FileMissing", path=str(path)
        )
    size_bytes = _size(path)
    if (free_bytes := shutil.disk_usage(path.parent).free) < size_bytes:
        got = f"it needs up to {size_bytes} bytes of free disk, there are {free_bytes}"
        raise storage_error("DiskFull", path, "write the file anew", got)
    before = size_bytes + _size(Path(f"{path}-wal"))
    lock = FileLock(path)
    connection: SqlConnection | None = None
    try:
        create_private(new)
        connection = cast(SqlConnection, apsw.Connection(str(path)))
        try:
            # Else closing would move a WAL into a file that may not be ours.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            sqlite_schema.recognise(connection, path)
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            connection.pragma("auto_vacuum", _INCREMENTAL)
            connection.execute("VACUUM INTO ?", (str(new),))
            copy_mode(path, new)
            # The new file has all that the WAL has, which must not stay beside it.
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close(True)
        if Path(f"{path}-wal").exists():
            raise storage_error("DatabaseBusy", path, "write the file anew", "another program reads it")
        with new.open("rb") as file:
            sync_data(file.fileno())
        os.rename(new, path)
        sync_folder(path.parent)
        return before, _size(path)
    except apsw.Error as error:
        system_errno = connection.system_errno if connection else 0
        raise from_sqlite_error(error, path, "write the file anew", system_errno=system_errno) from error
    except OSError as error:
        raise from_os_error(error, path, "write the file anew") from error
    finally:
        new.unlink(missing_ok=True)
        lock.release()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
