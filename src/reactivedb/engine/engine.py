"""How do transactions become commits, and commits the state that the next transaction reads?

One engine per open database. Its lock is held while a transaction runs and commits, so runs never
interleave; waiting for the disk happens outside of it. It knows no subscriber, no function and no socket:
consumers of the log pull from a `LogReader`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from ..clock import Clock, SystemClock, steady
from ..errors import StorageError
from ..limits import DEFAULT_LIMITS, Limits
from ..log import Log
from ..storage import CLOSED_FOR_GOOD, Commit, DocumentWrite, Outcome, Storage, StoredVersion
from ..user_code import contained, is_of, text_of
from .catalog import Catalog, SystemTable, TableState
from .committer import Committer, DurableCallback, LogReader, index_changes
from .counts import Counts
from .document import DocumentCache, StoredDocument
from .made_tables import made_tables
from .retention import Retention
from .schema_change import Declaration, SchemaReport, change_schema
from .timeline import Timeline
from .transaction import Transaction, next_creation_time

if TYPE_CHECKING:
    from ..schema import Migration, TableDefinition
    from .query import IndexScan

_logger = Log("reactivedb")
_CURSOR_SECRET: Final = "engine.cursor_secret"


class Running(NamedTuple):
    """A function that runs in a transaction."""

    thread_id: int
    path: str


class Engine:
    """The log and the state over one storage."""

    def __init__(
        self,
        storage: Storage,
        *,
        clock: Clock | None = None,
        limits: Limits = DEFAULT_LIMITS,
        entropy: Callable[[], bytes] | None = None,
    ) -> None:
        self.storage = storage
        self.clock = steady(clock or SystemClock())
        self.limits = limits
        # Guards everything below, and the storage. Reentrant: a nested call of the same thread is one run.
        self.lock = threading.RLock()
        # Under which cursors are sealed: they hold index keys, which a client need not have been shown.
        self.cursor_secret = b""
        # Called under the lock.
        self.entropy = entropy or _Entropy()
        stored = storage.catalog()
        self.committer = Committer(
            storage,
            self.clock,
            last_ts=stored.last_ts,
            history_size_bytes_max=limits.commit_history_size_bytes_max,
        )
        self.timeline = Timeline(storage, self.clock, last_ts=stored.last_ts)
        self.retention = Retention(storage, self.timeline, limits)
        self.cache = DocumentCache(limits.document_cache_size_bytes_max)
        self.counts = Counts(storage)
        # Tables of which a range read lately found most documents missing in the cache.
        self._uncached_tables: set[int] = set()
        self.catalog = Catalog(())
        # Tables that an administrator has made and the program does not declare.
        self.made_names: frozenset[str] = frozenset()
        self._last_creation_time = stored.last_creation_time
        # The function whose transaction runs now, for those who wait for the lock.
        self.running: Running | None = None

    def declare(
        self,
        tables: Iterable[TableDefinition],
        system: Iterable[SystemTable],
        migrations: Iterable[Migration] = (),
    ) -> SchemaReport:
        """Make these the tables: check what is stored against them, then build new indexes.

        All or nothing: when it raises, file and catalog are as before. What takes longer (the indexes of
        large tables, migrations) is left to `schema_work`.

        Raises:
            SchemaError: `SchemaMismatch`, listing the first documents that do not fit.
            StorageError: as the storage has it.
        """
        with self.lock:
            self.flush()
            self.counts.forget()
            previous = self.catalog
            try:
                declared = tuple(tables)
                made = made_tables(self.storage, {definition.name for definition in declared})
                declaration = Declaration((*declared, *made), tuple(system), tuple(migrations))
                catalog, report = change_schema(
                    self.storage, declaration, applied_ts=self.committer.applied_ts, limits=self.limits
                )
                self.cursor_secret = self._kept_secret()
                if self.timeline.is_new:
                    self.timeline.record(self.timeline.steady_ns)
                self.storage.flush()
                self.storage.sync()
            except BaseException:
                self.storage.rollback()
                self.catalog = previous
                raise
            self.catalog = catalog
            self.made_names = frozenset(definition.name for definition in made)
            # Documents point at their table's old definition.
            self.cache.clear()
            return report

    def _kept_secret(self) -> bytes:
        """The file's own secret, made when it is first opened, so that cursors outlive a restart."""
        text = self.storage.get_meta(_CURSOR_SECRET)
        if text is None:
            text = self.entropy().hex()
            self.storage.set_meta(_CURSOR_SECRET, text)
        return bytes.fromhex(text)

    # Reading the state

    def load(self, table: TableState, id: str) -> StoredDocument | None:
        """The newest version of a document, from the cache or the storage."""
        document = self.cache.get(id)
        if document is None:
            version = self.storage.get(table.number, id)
            if version is None:
                return None
            document = StoredDocument.found(table, id, version.ts, version.value)
            if document.gone:
                return None
            self.cache.put(document)
        return document

    def fetch(self, table: TableState, ids: Iterable[str]) -> dict[str, StoredDocument]:
        """Those of the documents of a scan that are not in the cache, by one statement."""
        cached = self.cache.ids
        missing = [id for id in ids if id not in cached]
        if not missing:
            return {}
        return self._offered(table, self.storage.get_many(table.number, missing), {missing[0], missing[-1]})

    def _offered(
        self, table: TableState, versions: Iterable[tuple[str, int, bytes]], ends: set[str]
    ) -> dict[str, StoredDocument]:
        """What is not in the cache, as documents that are offered to it."""
        if table.upgrade is None:
            # As `found` does, without twenty calls for a range of twenty.
            fetched = {id: StoredDocument(table, id, ts, value) for id, ts, value in versions}
        else:
            found = (StoredDocument.found(table, *version) for version in versions)
            fetched = {document.id: document for document in found if not document.gone}
        self.cache.offer(fetched, ends)
        return fetched

    def check_id(self, id: str, table_name: str, path: str) -> None:
        """Refuse an id of another table.

        Raises:
            ValidationError: with the path of the id.
        """
        with self.lock:
            known = self.cache.get(id)
        if known is None or known.table.name != table_name:
            self.catalog.check_id(id, table_name, path)

    def scan_keys(self, scan: IndexScan, low: bytes, high: bytes, limit: int) -> Sequence[tuple[bytes, str]]:
        """Up to `limit` keys of the state within an interval, from the end where the scan begins."""
        if not scan.index.is_by_id:
            return self.storage.scan(scan.index.number, low, high, reverse=scan.reverse, limit=limit)
        low_id, high_id = low.decode(), None if high >= b"\x80" else high.decode()
        found: list[tuple[bytes, str]] = []
        while True:
            wanted = limit - len(found)
            versions = self.storage.scan_table(
                scan.table.number, low_id, high_id, reverse=scan.reverse, limit=wanted
            )
            found += [
                (version.id.encode(), version.id)
                for version in versions
                if self._is_there(scan.table, version)
            ]
            # A migration may have deleted some, in which case there is more to look for.
            if len(versions) < wanted or len(found) == limit:
                return found
            last = versions[-1].id
            low_id, high_id = (low_id, last) if scan.reverse else (f"{last}\x00", high_id)

    def scan_ahead(
        self, scan: IndexScan, low: bytes, high: bytes, *, limit: int, wanted: int
    ) -> tuple[Sequence[tuple[bytes, str]], dict[str, StoredDocument]]:
        """What `scan_keys` gives, and those of the first `wanted` documents that are not in the cache.

        Where most of a table's documents are in the cache, its keys are asked for first and then what is
        missing; where most are not, one statement gives both, in four fifths of the time.
        """
        table = scan.table
        if table.number not in self._uncached_tables:
            keys = self.scan_keys(scan, low, high, limit)
            fetched = self.fetch(table, (id for _, id in keys[:wanted]))
            if 2 * len(fetched) > min(wanted, len(keys)):
                self._uncached_tables.add(table.number)
            return keys, fetched
        rows = self.storage.scan_documents(
            scan.index.number, low, high, table.number, reverse=scan.reverse, limit=limit
        )
        cached = self.cache.ids
        missing = [row[1:] for row in rows[:wanted] if row[1] not in cached]
        if 2 * len(missing) < min(wanted, len(rows)):
            self._uncached_tables.discard(table.number)
        fetched = self._offered(table, missing, {missing[0][0], missing[-1][0]}) if missing else {}
        return [row[:2] for row in rows], fetched

    def _is_there(self, table: TableState, version: StoredVersion) -> bool:
        if self.cache.get(version.id) is not None:
            return True
        document = StoredDocument.found(table, version.id, version.ts, version.value)
        if not document.gone:
            self.cache.put(document)
        return not document.gone

    def next_creation_time(self, now_ms: float) -> float:
        self._last_creation_time = next_creation_time(now_ms, self._last_creation_time)
        return self._last_creation_time

    # Transactions

    def begin(self) -> Transaction:
        """Start a run. The caller holds the lock until it has committed or dropped it."""
        now_ns = self.clock.now_ns()
        self.timeline.observe(now_ns)
        return Transaction(self, seed=self.entropy(), now_ns=now_ns, base_ts=self.committer.applied_ts)

    def commit(self, transaction: Transaction, *, outcome: Callable[[int], Outcome] | None = None) -> int:
        """Append the transaction to the open group; gives its timestamp.

        A transaction that changed nothing and records no outcome takes no timestamp of its own: the
        answer is the timestamp it read at. Visible to the next transaction at once, durable later.

        Raises:
            ConflictError: a commit after its `base_ts` touched what it read.
            StorageError: the storage refused, and every commit of the open group is undone.
        """
        transaction.finished = True
        self.committer.validate(transaction.base_ts, transaction.read_set)
        write_set = transaction.write_set()
        if not write_set.changes and outcome is None:
            return self.committer.applied_ts
        ts = self.committer.next_ts()
        writes: list[DocumentWrite] = []
        for change in write_set.changes:
            old, new = change.old, change.new
            if new is not None:
                new.ts = ts
            writes.append(
                DocumentWrite(
                    change.table.number,
                    change.id,
                    old.ts if old is not None else None,
                    new.json if new is not None else None,
                )
            )
        removed, added = index_changes(write_set)
        commit = Commit(ts, writes, removed, added, outcome(ts) if outcome is not None else None)
        with self._whole():
            self.committer.append(ts, write_set, commit)
            self.timeline.committed(ts)
            self.counts.follow(commit)
            for change in write_set.changes:
                if change.new is not None:
                    self.cache.put(change.new)
                else:
                    self.cache.discard(change.id)
        return ts

    @contextmanager
    def _whole(self) -> Generator[None]:
        """Change memory and open group together: if an exception cuts that short, both return to the file."""
        try:
            yield
        except StorageError as error:
            if error.code in CLOSED_FOR_GOOD:
                self.abandon(error)
            else:
                self.undo_open_group(error)
            raise
        except BaseException as error:
            cut_short = f"undone, since `{type(error).__name__}` cut a commit short - send it again"
            self.undo_open_group(StorageError(cut_short))
            raise

    def undo_open_group(self, error: StorageError) -> None:
        """State and caches return to what is in the file; everybody who waited for more is told."""
        if error.code in CLOSED_FOR_GOOD:
            # Nothing can be rolled back or read any more, and what was flushed may be in the file.
            self.abandon(error)
            return
        with self.lock:
            lost = self.committer.undo_open_group(error)
            self.timeline.undone()
            self.cache.clear()
            self.counts.forget()
        _call(lost, error)

    def forget_outcomes(self) -> None:
        """Drop the recorded answers to clients' mutations that are older than they are kept."""
        with self.lock:
            horizon_ns = self.timeline.horizon_ns(self.limits.outcome_retention_s)
            self.storage.forget_outcomes(min(horizon_ns, self.committer.applied_ts))

    # Durability

    def flush(self) -> int:
        """Commit the open group into the file. Raises StorageError after undoing it."""
        with self.lock, self._whole():
            if self.committer.abandoned is not None:
                raise self.committer.abandoned
            if self.committer.applied_ts > self.committer.flushed_ts:
                self.retention.step()
            return self.committer.flush()

    @contextmanager
    def own_group(self) -> Generator[None]:
        """Write into a group that holds nothing else: it is in the file, or undone, when this ends.

        Raises:
            StorageError: as the storage has it, after undoing the group.
        """
        with self.lock:
            self.flush()
            self.counts.forget()
            try:
                yield
                self.storage.flush()
                self.committer.flush()
            except BaseException as error:
                failure = error if is_of(error, StorageError) else StorageError(f"undone: {text_of(error)}")
                self.undo_open_group(failure)
                raise

    def sync(self, flushed_ts: int) -> None:
        """Wait for the disk, without the lock, then tell those who waited.

        Raises:
            StorageError: the storage is closed for good; the sync is never tried again.
        """
        try:
            self.storage.sync()
        except StorageError as error:
            self.abandon(error)
            raise
        self.synced(flushed_ts)

    def synced(self, flushed_ts: int) -> None:
        """A sync has covered all up to `flushed_ts`: tell those who waited."""
        with self.lock:
            due = self.committer.synced(flushed_ts)
        _call(due, None)

    def abandon(self, error: StorageError) -> None:
        """The storage is closed for good: tell everybody who still waits."""
        with self.lock:
            lost = self.committer.abandon(error)
            failure = self.committer.abandoned
        _call(lost, failure)

    def make_durable(self, ts: int = 0) -> None:
        """Flush and sync in this thread, unless all is durable already.

        Raises:
            StorageError: it failed; or what was read or written at `ts` was undone with its group, perhaps
                by another thread that came first.
        """
        if self.committer.applied_ts > self.committer.durable_ts:
            self.sync(self.flush())
        error = self.committer.failure_of(ts)
        if error is not None:
            raise error

    def reader(self) -> LogReader:
        with self.lock:
            return self.committer.reader()

    def close(self) -> None:
        """Make durable what can be, then release the file. Closing twice is harmless."""
        with self.lock:
            try:
                self.make_durable()
            finally:
                self.storage.close()


class _Entropy:
    """16 random bytes at each call, which the system is asked for many at a time: that takes it 5 µs."""

    def __init__(self) -> None:
        self._left: list[bytes] = []

    def __call__(self) -> bytes:
        if not self._left:
            data = os.urandom(4096)
            self._left = [data[start : start + 16] for start in range(0, len(data), 16)]
        return self._left.pop()


def _call(callbacks: Iterable[DurableCallback], error: StorageError | None) -> None:
    for callback in callbacks:
        try:
            callback(error)
        except BaseException as broken:  # our own mistake, which must not keep the others waiting for ever
            contained(broken)
            _logger.exception("one who waited for a commit could not be told of it")
