"""How is something erased from an SQLite file, and how does the file become smaller?

Every connection that writes overwrites what it deletes with zeros (`secure_delete`), and a file is laid out
so that free pages can be taken out (`auto_vacuum` = INCREMENTAL). A file of an earlier program has neither:
deleted text may lie in its pages. `compact_file` writes every page anew, and the `auto_vacuum` in the header
says that this was done. Cost, measured: no more time for a commit, and 4 % more pages in the WAL.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import apsw

from ..errors import StorageError
from . import sqlite_outcomes
from .contract import LOG_WRITE_SIZE_BYTES, Outcome
from .sqlite import SqliteStorage
from .sqlite_connection import SqlConnection
from .sqlite_errors import SQL_ERRORS
from .sqlite_log import positions_of
from .upkeep import Room

# Nobody else should write to the file; a checkpoint of the `sqlite3` shell is over in this time.
BUSY_TIMEOUT_MS = 1000
INCREMENTAL = 2

_OUTCOMES = (
    "SELECT ts, session_id, request_id, CAST(result AS BLOB), log_lines FROM outcomes "
    "WHERE ts > ? ORDER BY ts LIMIT ?"
)
_REPLACE_OUTCOME = "UPDATE outcomes SET result = CAST(? AS TEXT), log_lines = '[]' WHERE ts = ?"
_ERASE = (
    "DELETE FROM log WHERE ts = ? AND position = ? RETURNING ts, position, coalesce(octet_length(value), 0)"
)


def prepare_upkeep(connection: SqlConnection, *, is_new: bool) -> None:
    """Before anything is written through a connection; of a new file, before its first page.

    After `reserve_bytes`, if that is called: what comes first settles the size of a page's content.
    """
    connection.pragma("secure_delete", 1)
    if is_new:
        connection.pragma("auto_vacuum", INCREMENTAL)


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
        except SQL_ERRORS as error:
            raise self._group_failed(error, "erase a document from the log") from error

    def check_keeps_no_old_bytes(self) -> None:
        if self._rows("PRAGMA auto_vacuum")[0][0] != INCREMENTAL:
            raise StorageError(
                f"`{self.path}` was laid out by an earlier version: deleted bytes stay in it and it cannot "
                f"shrink - close it and run `reactivedb compact '{self.path}'` once, which needs "
                f"{self.room().size_bytes} bytes of free disk",
                code="RewriteNeeded",
                path=str(self.path),
            )

    def room(self) -> Room:
        size_bytes = sum(size_of(Path(f"{self.path}{suffix}")) for suffix in ("", "-wal"))
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
            except SQL_ERRORS as error:
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
        return size_of(Path(f"{self.path}-wal")) == 0


def size_of(file: Path) -> int:
    """In bytes; 0 if there is none."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
