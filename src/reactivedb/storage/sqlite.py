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
from contextlib import suppress
from operator import attrgetter
from typing import Any

import apsw

from reactivedb.errors import StorageError
from reactivedb.limits import MIB

from . import fork, sqlite_catalog, sqlite_outcomes, sqlite_schema
from .contract import (
    CLOSED_FOR_GOOD,
    Catalog,
    Commit,
    DocumentWrite,
    IndexRow,
    LogExtent,
    TableRow,
)
from .open_file import OpenFile
from .page_checksums import ChecksumVFS
from .sqlite_check import disagreements, structure_problems
from .sqlite_connection import SqlConnection
from .sqlite_damage import what_was_read
from .sqlite_errors import SQL_ERRORS, from_sqlite_error, storage_error
from .sqlite_log import SqliteLog, positions_of
from .sqlite_reader import LOG_COLUMNS, SqliteReader
from .sqlite_state import (
    SqliteState,
)
from .wal_damage import RELAXED
from .wal_sync import WalSync

# What `_creationTime` reached, and the `ts` up to which the log was read for it.
_CREATION_TIME = "storage.creation_time_max"
_CREATION_TIME_TS = "storage.creation_time_max_ts"

# What recorded answers may take of the page cache: some thousands of ordinary ones.
_OUTCOME_BYTES_CACHED_MAX = 4 * MIB
# Bytes are bound as they are and made text by SQLite: no copy through a Python string.
_PUT_LOG = "INSERT INTO log VALUES (?, ?, ?, ?, ?, CAST(? AS TEXT))"
_PUT_META = "REPLACE INTO meta VALUES (?, ?)"

_LOGGED = LOG_COLUMNS + "WHERE ts = ? AND position IN (SELECT value FROM json_each(?)) ORDER BY position"
_LAST_TS = "SELECT max(coalesce((SELECT max(ts) FROM log), 0), coalesce((SELECT max(ts) FROM outcomes), 0))"
_NEWEST_CREATED = (
    "SELECT value, max(json_extract(value, '$._creationTime')) FROM log "
    "WHERE ts > ? AND prev_ts IS NULL AND value IS NOT NULL"
)


class SqliteStorage(SqliteReader):
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
        # Of recorded answers, since their pages were last let go of.
        self._outcome_bytes = 0
        # How many groups were committed, and how many of them a sync has covered.
        self._group_count = self._synced_count = 0
        self._log = SqliteLog()
        self._state = SqliteState()
        self._checkpointed_pages = self._pages_written()
        # The next group may be the first of a WAL; the first page has to be in each (`page_checksums`).
        self._wal_is_moved = False
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
        if self.get_meta(RELAXED) is None:
            try:
                self.set_meta(RELAXED, "1")
                self.flush()
            except StorageError as failure:
                if failure.code != "DiskFull":
                    raise
                # Without the mark each commit has to be synced.
                return
            self.sync()
        self._relaxed = True

    def tighten(self) -> None:
        """From now on `sync` makes durable; undoes what an earlier `relax` left in the file."""
        if self.get_meta(RELAXED) is not None:
            self._run("DELETE FROM meta WHERE key = ?", (RELAXED,))
            self.flush()
            self.sync()

    def recover(self, vfs: ChecksumVFS) -> None:
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
        if sqlite_schema.renew(self._connection, self.path, vfs, sync=self._wal.sync):
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
        except SQL_ERRORS as error:
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
                self._outcome_bytes += len(commit.outcome.result)
            self._log.appended([len(row[5] or b"") for row in log])
            self._last_ts = ts
        except SQL_ERRORS as error:
            raise self._group_failed(error, "append a commit") from error
        except BaseException:
            self._abandon_group()
            raise

    def add_index_entries(self, table_number: int, entries: Iterable[tuple[int, bytes, str]]) -> None:
        try:
            self._begin()
            self._state.fill_in(self._write, table_number, entries)
        except SQL_ERRORS as error:
            raise self._group_failed(error, "fill an index") from error
        except BaseException:
            self._abandon_group()
            raise

    def flush(self) -> None:
        self._check_open()
        if not self._connection.in_transaction:
            return
        self._commit_group()
        self._flushed_ts = self._last_ts
        self._log.flushed()
        self._forget_pages_of_outcomes()
        if self._pages_written() - self._checkpointed_pages >= self._checkpoint_pages:
            try:
                self._move_wal(apsw.SQLITE_CHECKPOINT_PASSIVE)
            except StorageError as failure:
                raise self._fail(failure) from failure

    def _commit_group(self) -> None:
        """At most one group at the end of the WAL is not durable: see `wal_damage`, which relies on it."""
        if self._synced_count < self._group_count:
            self._sync_group(self._group_count)
        try:
            self._write.execute("COMMIT")
        except SQL_ERRORS as error:
            raise self._group_failed(error, "write commits") from error
        self._group_count += 1

    def _forget_pages_of_outcomes(self) -> None:
        """Hardly any recorded answer is read again, so large ones shall not stay in the page cache."""
        if self._outcome_bytes > _OUTCOME_BYTES_CACHED_MAX:
            self._outcome_bytes = 0
            self._connection.pragma("shrink_memory")

    def sync(self) -> None:
        self._sync_group(None)

    def _sync_group(self, wanted: int | None) -> None:
        """Sync what was committed so far; not if a sync that was waited for has covered what is wanted."""
        with self._sync_lock:
            self._check_open()
            if wanted is not None and (self._relaxed or self._synced_count >= wanted):
                return
            if not self._relaxed:
                covered = self._group_count
                try:
                    self._wal.sync()
                except OSError as error:
                    got = f"the system says `{error.strerror}`"
                    raise self._fail(storage_error("SyncFailed", self.path, "sync commits", got)) from error
                self._synced_count = covered
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
            if self._wal_is_moved:
                self._wal_is_moved = False
                self._write.execute(sqlite_schema.TOUCH_FIRST_PAGE)

    def _abandon_group(self) -> None:
        self._last_ts = self._flushed_ts
        self._log.rolled_back()
        # After some errors (a full disk) SQLite has rolled back by itself; `close` ends what is left.
        if self._closed_because is None and self._connection.in_transaction:
            try:
                self._write.execute("ROLLBACK")
            except SQL_ERRORS as error:
                raise self._fail(self._translated(error, "roll back")) from error

    def _group_failed(
        self, error: apsw.Error | UnicodeDecodeError, doing: str
    ) -> StorageError | AssertionError:
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
                self._commit_group()
            try:
                with self._file.checkpointing():
                    self._wal_is_moved = True
                    self._connection.wal_checkpoint(mode=mode)
            except SQL_ERRORS as error:
                raise self._group_failed(error, "move the WAL into the database file") from error
        except StorageError as failure:
            # Without room nothing is lost: the WAL keeps all, and the next try comes as many pages later.
            if failure.code not in ("DiskFull", "DatabaseBusy"):
                raise

    def _pages_written(self) -> int:
        return self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0]

    # Reading

    def forget_outcomes(self, before_ts: int) -> int:
        self._run(sqlite_outcomes.FORGET, (before_ts,))
        return self._connection.changes()

    def logged(self, ts: int, ids: Collection[str]) -> list[DocumentWrite]:
        self._check_open()
        try:
            positions = positions_of(self._read, ts, ids)
        except SQL_ERRORS as error:
            raise self._group_failed(error, "read the log") from error
        rows = self._rows(_LOGGED, (ts, json.dumps(positions)))
        return [DocumentWrite(*row[2:]) for row in rows]

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
        except SQL_ERRORS as error:
            raise self._group_failed(error, "forget a part of the log") from error
        return len(passed)

    def set_meta(self, key: str, value: str) -> None:
        self._run(_PUT_META, (key, value))

    def check(self) -> list[str]:
        self._check_open()
        try:
            return structure_problems(self._connection) or disagreements(self._connection)
        except (apsw.CorruptError, ValueError) as error:
            return [f"it cannot be read: {error}"]
        except SQL_ERRORS as error:
            raise self._group_failed(error, "check the database") from error

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
                self._file.rescue(self._empty_wal_of_moved)
                self._file.unguard()
                # What finds no room in the database file stays in the WAL, which is durable.
                with suppress(apsw.Error):
                    self._connection.close(True)
                self._wal.close()
            self._file.release()

    def _empty_wal_of_moved(self) -> None:
        # A failure in the middle of a group leaves it open.
        if self._connection.in_transaction:
            self._write.execute("ROLLBACK")
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    # Errors

    def _rows(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        if self._closed_because is not None:
            self._check_open()
        try:
            return self._read.execute(sql, bindings).fetchall()
        except SQL_ERRORS as error:
            raise self._group_failed(error, what_was_read(self._connection, sql, bindings)) from error

    def _run(self, sql: str, bindings: tuple[Any, ...] = ()) -> None:
        try:
            self._begin()
            self._write.execute(sql, bindings)
        except SQL_ERRORS as error:
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

    def _translated(
        self, error: apsw.Error | UnicodeDecodeError, doing: str
    ) -> StorageError | AssertionError:
        return from_sqlite_error(error, self.path, doing, system_errno=self._connection.system_errno)

    def _fail(self, failure: StorageError | AssertionError) -> StorageError:
        """What is on the disk is not known any more: all but `close` is refused from now on."""
        self._closed_because = f"an earlier step failed: {failure}"
        text = str(failure)
        if isinstance(failure, StorageError) and failure.code in CLOSED_FOR_GOOD:
            self._failed_code = failure.code
        else:
            text = f"{text}; open the database again: what was not acknowledged may be there then"
        return StorageError(text, code=self._failed_code, path=str(self.path))
