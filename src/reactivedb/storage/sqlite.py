"""How does a database live in one SQLite file?

One connection reads and writes. The open group is an SQL transaction, begun by the first write and ended by
`flush`; reads on the same connection see it. COMMIT does not wait for the disk (`synchronous=NORMAL`): `sync`
syncs the WAL file, and only then is a commit durable. This connection alone moves the WAL into the database
file, after a COMMIT that let the WAL grow past `checkpoint_pages`; SQLite then syncs the WAL first and the
database file before the WAL is written from its start again, so a checkpoint can lose nothing.

Opening is `sqlite_open`, the layout `sqlite_schema` (and `docs/storage_format.md`), errors `sqlite_errors`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterable
from operator import attrgetter
from typing import Any

import apsw

from reactivedb.errors import StorageError

from . import fork, sqlite_catalog, sqlite_outcomes, sqlite_schema
from .agreement import Agreement
from .contract import (
    CLOSED_FOR_GOOD,
    Catalog,
    Commit,
    DocumentWrite,
    IndexRow,
    LogExtent,
    Outcome,
    StoredVersion,
    TableRow,
)
from .open_file import OpenFile
from .sqlite_connection import SqlConnection
from .sqlite_errors import from_sqlite_error, storage_error
from .sqlite_log import SqliteLog, positions_of
from .sqlite_state import (
    COUNT,
    COUNT_ALL,
    GET,
    GET_MANY,
    GET_SOME,
    SCAN,
    SCAN_DOCUMENTS,
    SCAN_TABLE,
    SqliteState,
    entries_astray,
    reversed_order,
)
from .wal_sync import WalSync

# What `_creationTime` reached, and the `ts` up to which the log was read for it.
_CREATION_TIME = "storage.creation_time_max"
_CREATION_TIME_TS = "storage.creation_time_max_ts"

# Bytes are bound as they are and made text by SQLite: no copy through a Python string.
_PUT_LOG = "INSERT INTO log VALUES (?, ?, ?, ?, ?, CAST(? AS TEXT))"
_PUT_META = "REPLACE INTO meta VALUES (?, ?)"

_SCAN_REVERSE = reversed_order(SCAN)
_SCAN_DOCUMENTS_REVERSE = reversed_order(SCAN_DOCUMENTS)
_SCAN_TABLE_REVERSE = reversed_order(SCAN_TABLE)
_LOG_COLUMNS = "SELECT ts, position, table_number, id, prev_ts, CAST(value AS BLOB) FROM log "
_LOG = _LOG_COLUMNS + "WHERE ts > ? ORDER BY ts, position LIMIT ?"
_LOG_REST = _LOG_COLUMNS + "WHERE ts = ? AND position > ? ORDER BY position"
_LOGGED = _LOG_COLUMNS + "WHERE ts = ? AND position IN (SELECT value FROM json_each(?)) ORDER BY position"
_DELETED_AT = "SELECT max(ts) FROM log WHERE id = ? AND value IS NULL"
_LAST_TS = "SELECT max(coalesce((SELECT max(ts) FROM log), 0), coalesce((SELECT max(ts) FROM outcomes), 0))"
_NEWEST_CREATED = (
    "SELECT value, max(json_extract(value, '$._creationTime')) FROM log "
    "WHERE ts > ? AND prev_ts IS NULL AND value IS NOT NULL"
)

# Greater than every text in SQLite's order: the upper bound of a scan without one.
_ABOVE_ALL_TEXT = b""
_ABOVE_ALL_KEYS = b"\xff"


class SqliteStorage:
    """`Storage` over one SQLite file; see `contract.Storage`. Made by `sqlite_open.open_sqlite`."""

    def __init__(
        self,
        connection: SqlConnection,
        *,
        file: OpenFile,
        wal: WalSync,
        checkpoint_pages: int,
    ) -> None:
        self.path = path = file.path
        self.files_folder = path.with_name(path.name + ".files")
        self.sync_cost_s = 0.0
        self._connection = connection
        self._file = file
        self._wal = wal
        self._checkpoint_pages = checkpoint_pages
        self._relaxed = False
        # Kept cursors: every result is fetched whole before the next statement.
        self._read = connection.cursor()
        self._write = connection.cursor()
        # Why nothing works any more; set once, also by a thread that syncs.
        self._closed_because: str | None = None
        self._failed_code = "SyncFailed"
        self._released = False
        # Keeps `close` from taking the WAL's descriptor away under a sync.
        self._sync_lock = threading.Lock()
        self._last_ts = self._flushed_ts = 0
        self._log = SqliteLog()
        self._state = SqliteState()
        self._checkpointed_pages = self._pages_written()
        fork.keep_away(self)

    def leave_to_parent(self) -> None:
        """Called in a process that was forked while the file was open: nothing here touches the file again.

        Closing SQLite's connection could remove the WAL under the parent, so it is never closed.
        """
        self._closed_because = "the process was forked and the file is the parent's"
        self._released = True
        fork.never_finalize(self._connection)
        self._file.leave_to_parent()

    def relax(self) -> None:
        """From now on `sync` does nothing: a power cut may take the last commits, a crash does not."""
        self._relaxed = True

    def recover(self) -> None:
        """The second half of opening; raises StorageError, and OSError as it comes.

        Moves a WAL that was left behind into the database file. If a sync of it had failed, the disk may
        have gaps where we read bytes: a cut half-way through would then leave neither file whole, and commits
        written behind a gap would go with it. So the WAL is written once more first.
        """
        self._last_ts = self._flushed_ts = self.catalog().last_ts
        self._log.load(self._read)
        self._wal.renew()
        # With a full disk, or a reader (the `sqlite3` shell) in the way, the WAL stays: it is durable now.
        self._move_wal(apsw.SQLITE_CHECKPOINT_TRUNCATE)
        if sqlite_schema.renew(self._connection):
            # All of it is in the WAL; the first commit should not have to wait for that.
            self._move_wal(apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self._state.load(self._read)
        # What was recovered may be shown to others from now on.
        self._wal.sync()
        self._file.guard()

    # Catalog

    def catalog(self) -> Catalog:
        last_ts, last_creation_time = self._newest()
        return Catalog(
            tables=sqlite_catalog.tables_of(self._rows(sqlite_catalog.TABLES)),
            indexes=sqlite_catalog.indexes_of(self._rows(sqlite_catalog.INDEXES)),
            last_ts=last_ts,
            last_creation_time=last_creation_time,
        )

    def _newest(self) -> tuple[int, float]:
        """The last ts and the largest creation time; reads the log since they were last recorded."""
        recorded = dict(self._rows("SELECT key, value FROM meta WHERE key LIKE 'storage.%'"))
        recorded_ts = int(recorded.get(_CREATION_TIME_TS, 0))
        creation_time = float(recorded.get(_CREATION_TIME, 0.0))
        [(newest, _)] = self._rows(_NEWEST_CREATED, (recorded_ts,))
        if newest is not None:
            # SQLite's own number might differ in its last bit; Python's reading of the text does not.
            creation_time = max(creation_time, float(json.loads(newest).get("_creationTime", 0.0)))
        [(last_ts,)] = self._rows(_LAST_TS)
        return max(last_ts, recorded_ts), creation_time

    def _record_newest(self) -> bool:
        """Spare the next opening from reading the log up to here; False if that is done already."""
        last_ts, creation_time = self._newest()
        if last_ts == self._log.recorded_ts(self._read):
            return False
        self.set_meta(_CREATION_TIME, repr(creation_time))
        self.set_meta(_CREATION_TIME_TS, str(last_ts))
        self._log.record(self._write, last_ts)
        return True

    def put_table(self, row: TableRow) -> None:
        self._run(sqlite_catalog.PUT_TABLE, (row.number, row.name))
        try:
            sqlite_schema.create_view(self._connection, row)
        except apsw.Error as error:
            raise self._group_failed(error, "create a table's view") from error

    def put_index(self, row: IndexRow) -> None:
        self._run(sqlite_catalog.PUT_INDEX, sqlite_catalog.to_row(row))

    def drop_index(self, number: int) -> None:
        self._run("DELETE FROM indexes WHERE number = ?", (number,))
        self._run("DELETE FROM index_entries WHERE index_number = ?", (number,))

    # The open group

    def append(self, commit: Commit) -> None:
        ts = commit.ts
        log = [
            (ts, position, write.table_number, write.id, write.prev_ts, write.value)
            for position, write in enumerate(sorted(commit.writes, key=attrgetter("id")))
        ]
        try:
            self._begin()
            assert ts > self._last_ts, f"commit at {ts}, but the last one was at {self._last_ts}"
            assert log or commit.outcome, f"the commit at {ts} has no write and no outcome"
            if log:
                self._write.executemany(_PUT_LOG, log)
            self._state.apply(self._write, commit)
            if commit.outcome is not None:
                self._write.execute(sqlite_outcomes.PUT, sqlite_outcomes.to_row(commit.outcome))
            self._log.appended([len(row[5] or b"") for row in log])
            self._last_ts = ts
        except apsw.Error as error:
            raise self._group_failed(error, "append a commit") from error
        except BaseException:
            self._abandon_group()
            raise

    def add_index_entries(self, table_number: int, entries: Iterable[tuple[int, bytes, str]]) -> None:
        try:
            self._begin()
            self._state.fill_in(self._write, table_number, entries)
        except apsw.Error as error:
            raise self._group_failed(error, "fill an index") from error
        except BaseException:
            self._abandon_group()
            raise

    def flush(self) -> None:
        self._check_open()
        if not self._connection.in_transaction:
            return
        try:
            self._write.execute("COMMIT")
        except apsw.Error as error:
            raise self._group_failed(error, "write commits") from error
        self._flushed_ts = self._last_ts
        self._log.flushed()
        if self._pages_written() - self._checkpointed_pages >= self._checkpoint_pages:
            try:
                self._move_wal(apsw.SQLITE_CHECKPOINT_PASSIVE)
            except StorageError as failure:
                raise self._fail(failure) from failure

    def sync(self) -> None:
        with self._sync_lock:
            self._check_open()
            if not self._relaxed:
                try:
                    self._wal.sync()
                except OSError as error:
                    got = f"the system says `{error.strerror}`"
                    raise self._fail(storage_error("SyncFailed", self.path, "sync commits", got)) from error
            self._check_files(self._file.check)

    def _check_files(self, check: Callable[[], None]) -> None:
        try:
            check()
        except StorageError as failure:
            raise self._fail(failure) from failure

    def rollback(self) -> None:
        self._check_open()
        self._abandon_group()
        try:
            [(last_ts,)] = self._read.execute(_LAST_TS).fetchall()
        except apsw.Error:
            return  # what cannot be read will say so to whoever needs it
        if last_ts > self._flushed_ts:
            # An exception came between the COMMIT and our note of it.
            self._last_ts = self._flushed_ts = last_ts
            self._log.load(self._read)

    @property
    def flushed_ts(self) -> int:
        return self._flushed_ts

    def _begin(self) -> None:
        if self._closed_because is not None:
            self._check_open()
        if not self._connection.in_transaction:
            self._check_files(self._file.check_wal)
            self._write.execute("BEGIN IMMEDIATE")

    def _abandon_group(self) -> None:
        self._last_ts = self._flushed_ts
        self._log.rolled_back()
        # After some errors (a full disk) SQLite has rolled back by itself; `close` ends what is left.
        if self._closed_because is None and self._connection.in_transaction:
            try:
                self._write.execute("ROLLBACK")
            except apsw.Error as error:
                raise self._fail(self._translated(error, "roll back")) from error

    def _group_failed(self, error: apsw.Error, doing: str) -> StorageError | AssertionError:
        failure = self._translated(error, doing)
        self._abandon_group()
        if isinstance(failure, StorageError) and failure.code == "SyncFailed":
            return self._fail(failure)
        return failure

    def _move_wal(self, mode: int) -> None:
        """Move the WAL into the database file; what is in it was flushed, whatever happens here."""
        self._checkpointed_pages = self._pages_written()
        try:
            if self._record_newest():
                self._run("COMMIT")
            try:
                with self._file.checkpointing():
                    self._connection.wal_checkpoint(mode=mode)
            except apsw.Error as error:
                raise self._group_failed(error, "move the WAL into the database file") from error
        except StorageError as failure:
            # Without room nothing is lost: the WAL keeps all, and the next try comes as many pages later.
            if failure.code not in ("DiskFull", "DatabaseBusy"):
                raise

    def _pages_written(self) -> int:
        return self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0]

    # Reading

    def get(self, table_number: int, id: str) -> StoredVersion | None:
        rows = self._rows(GET, (table_number, id))
        return StoredVersion(id, *rows[0]) if rows else None

    def get_many(self, table_number: int, ids: Collection[str]) -> list[tuple[str, int, bytes]]:
        if 0 < len(ids) <= len(GET_SOME):
            return self._rows(GET_SOME[len(ids) - 1], (table_number, *ids))
        return self._rows(GET_MANY, (table_number, json.dumps(list(ids))))

    def scan(
        self, index_number: int, low: bytes, high: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, str]]:
        return self._rows(_SCAN_REVERSE if reverse else SCAN, (index_number, low, high, limit))

    def scan_documents(
        self, index_number: int, low: bytes, high: bytes, table_number: int, *, reverse: bool, limit: int
    ) -> list[tuple[bytes, str, int, bytes]]:
        statement = _SCAN_DOCUMENTS_REVERSE if reverse else SCAN_DOCUMENTS
        return self._rows(statement, (index_number, low, high, limit))

    def scan_table(
        self, table_number: int, low_id: str, high_id: str | None, *, reverse: bool = False, limit: int
    ) -> list[StoredVersion]:
        high = _ABOVE_ALL_TEXT if high_id is None else high_id
        rows = self._rows(_SCAN_TABLE_REVERSE if reverse else SCAN_TABLE, (table_number, low_id, high, limit))
        return [StoredVersion._make(row) for row in rows]

    def count(self, index_number: int, low: bytes, high: bytes) -> int:
        if not low and high >= _ABOVE_ALL_KEYS:
            return self._rows(COUNT_ALL, (index_number,))[0][0]
        return self._rows(COUNT, (index_number, low, high))[0][0]

    def outcome(self, session_id: str, request_id: int) -> Outcome | None:
        rows = self._rows(sqlite_outcomes.GET, (session_id, request_id))
        return sqlite_outcomes.from_row(session_id, request_id, rows[0]) if rows else None

    def requests_after(self, session_id: str, ts: int, *, newest: int) -> list[int]:
        return [row[0] for row in self._rows(sqlite_outcomes.AFTER, (session_id, ts, newest))]

    def forget_outcomes(self, before_ts: int) -> int:
        self._run(sqlite_outcomes.FORGET, (before_ts,))
        return self._connection.changes()

    def log(self, after_ts: int, *, limit: int) -> list[tuple[int, DocumentWrite]]:
        rows = self._rows(_LOG, (after_ts, limit))
        if rows and len(rows) == limit:
            rows += self._rows(_LOG_REST, rows[-1][:2])
        return [(row[0], DocumentWrite(*row[2:])) for row in rows]

    def logged(self, ts: int, ids: Collection[str]) -> list[DocumentWrite]:
        self._check_open()
        try:
            positions = positions_of(self._read, ts, ids)
        except apsw.Error as error:
            raise self._group_failed(error, "read the log") from error
        rows = self._rows(_LOGGED, (ts, json.dumps(positions)))
        return [DocumentWrite(*row[2:]) for row in rows]

    def deleted_at(self, id: str) -> int | None:
        return self._rows(_DELETED_AT, (id,))[0][0]

    def log_extent(self) -> LogExtent:
        self._check_open()
        return self._log.extent

    def forget_log(self, before_ts: int, *, size_bytes_max: int, limit: int) -> int:
        try:
            self._begin()
            passed = self._log.due(self._write, before_ts, size_bytes_max=size_bytes_max, limit=limit)
            if passed:
                # Insertions may go, and what they say of the newest creation time must not go with them.
                if passed[-1].ts > self._log.recorded_ts(self._write):
                    self._record_newest()
                self._log.forget(self._write, passed)
        except apsw.Error as error:
            raise self._group_failed(error, "forget a part of the log") from error
        return len(passed)

    def set_meta(self, key: str, value: str) -> None:
        self._run(_PUT_META, (key, value))

    def get_meta(self, key: str) -> str | None:
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    def check(self) -> list[str]:
        self._check_open()
        try:
            return self._damage() or self._disagreement()
        except apsw.CorruptError as error:
            return [f"SQLite says `{error}`"]
        except apsw.Error as error:
            raise self._group_failed(error, "check the database") from error

    def _damage(self) -> list[str]:
        return [text for (text,) in self._connection.execute("PRAGMA integrity_check") if text != "ok"]

    def _disagreement(self) -> list[str]:
        execute = self._connection.execute
        agreement = Agreement()
        agreement.read_log(
            ((row[0], DocumentWrite(*row[2:])) for row in execute(_LOG_COLUMNS + "ORDER BY ts, position")),
            horizon_ts=self._log.extent.horizon_ts,
        )
        agreement.read_documents(
            (row[0], StoredVersion(*row[1:]))
            for row in execute("SELECT table_number, id, ts, CAST(value AS BLOB) FROM documents")
        )
        agreement.read_entries(
            execute("SELECT index_number, key, id FROM index_entries"), self.catalog().indexes
        )
        return agreement.problems + entries_astray(self._read)

    def close(self) -> None:
        if self._released:
            return
        self._released = True
        fork.let_go(self)
        try:
            if self._closed_because is None:
                self._abandon_group()
                self.sync()
                # Closing then moves the WAL into the database file and removes it.
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        finally:
            with self._sync_lock:
                self._closed_because = self._closed_because or "`close` was called"
                self._file.rescue(
                    lambda: self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                )
                self._file.unguard()
                self._connection.close(True)
                self._wal.close()
            self._file.release()

    # Errors

    def _rows(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        if self._closed_because is not None:
            self._check_open()
        try:
            return self._read.execute(sql, bindings).fetchall()
        except apsw.Error as error:
            raise self._group_failed(error, "read the database") from error

    def _run(self, sql: str, bindings: tuple[Any, ...] = ()) -> None:
        try:
            self._begin()
            self._write.execute(sql, bindings)
        except apsw.Error as error:
            raise self._group_failed(error, "write to the database") from error
        except BaseException:
            self._abandon_group()
            raise

    def _check_open(self) -> None:
        if self._closed_because is not None:
            raise StorageError(
                f"`{self.path}` is closed, since {self._closed_because} - open the database again",
                code="StorageClosed",
                path=str(self.path),
            )

    def _translated(self, error: apsw.Error, doing: str) -> StorageError | AssertionError:
        return from_sqlite_error(error, self.path, doing, system_errno=self._connection.system_errno)

    def _fail(self, failure: StorageError | AssertionError) -> StorageError:
        """What is on the disk is not known any more: all but `close` is refused from now on."""
        self._closed_because = f"an earlier step failed: {failure}"
        if isinstance(failure, StorageError) and failure.code in CLOSED_FOR_GOOD:
            self._failed_code = failure.code
        return StorageError(str(failure), code=self._failed_code, path=str(self.path))
