"""What does the engine ask of a storage?

A storage keeps the commit log and the state it adds up to: the newest version of each document, the index
entries that point to it, the outcomes of clients' mutations, the catalog, and a few named texts (`meta`).
Keys and values are opaque bytes here; only byte order and equality count. No key begins with 0xFF.

Writes go into the *open group*. `append` and the other writing methods open it, reads see it at once,
`flush` ends it, `rollback` forgets it. What was flushed survives a crash of the process; what was flushed
before a `sync` that returned survives a power cut as well. All methods are called under the engine's lock
(from any thread), except `sync`, which may run beside them.

Two implementations: `MemoryStorage` (the oracle) and `SqliteStorage`; one suite runs over both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from .upkeep import Upkeep


@dataclass(frozen=True, slots=True)
class DocumentWrite:
    """One document's step in the log.

    `prev_ts` is the `ts` of the version it replaces, None where there was none (or it had been deleted).
    `value` is the canonical JSON text, `_id` and `_creationTime` included; None is a tombstone.
    """

    table_number: int
    id: str
    prev_ts: int | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The recorded answer to a client's mutation; `ts` is that of the commit which carries it."""

    session_id: str
    request_id: int
    ts: int
    result: bytes
    log_lines: tuple[str, ...]


@dataclass(slots=True)
class Commit:
    """One transaction: at most one write per document; `ts` lies above every earlier one.

    It has a write or an outcome: nothing else would keep its `ts`.
    Entries are removed before others are added, so that a key may be in both lists. An entry is added by a
    commit that writes its document, and removed at the latest by the one that deletes it.
    """

    ts: int
    writes: list[DocumentWrite]
    index_removed: list[tuple[int, bytes]]
    index_added: list[tuple[int, bytes, str]]
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class TableRow:
    number: int
    name: str


@dataclass(frozen=True, slots=True)
class IndexRow:
    """`definition` is opaque and changes when the index must be rebuilt.

    `state` is `building`, `ready` or `staged`.
    """

    number: int
    table_number: int
    name: str
    fields: tuple[str, ...]
    definition: str
    state: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """What the engine needs to start: `last_ts` and `last_creation_time` are 0 in a new database."""

    tables: list[TableRow]
    indexes: list[IndexRow]
    last_ts: int
    last_creation_time: float


class StoredVersion(NamedTuple):
    """A tuple, because a range read makes one for each document."""

    id: str
    ts: int
    value: bytes


# What a write in the log weighs beside its text: its id, its numbers and its place in a page.
LOG_WRITE_SIZE_BYTES: Final = 100


@dataclass(frozen=True, slots=True)
class LogExtent:
    """How far back the log reaches: the state as of any `ts` from `horizon_ts` on can be told from it.

    `write_count` and `size_bytes` (text, and `LOG_WRITE_SIZE_BYTES` for each) are of the writes behind the
    horizon, `forgotten_count` and `forgotten_size_bytes` of what was ever deleted. `horizon_position` is the
    last write of the commit at the horizon that has been dealt with.
    """

    horizon_ts: int = 0
    horizon_position: int = 0
    write_count: int = 0
    size_bytes: int = 0
    forgotten_count: int = 0
    forgotten_size_bytes: int = 0


# After these the storage is closed for good: what was not durable by then may be in the file.
CLOSED_FOR_GOOD: Final = frozenset({"SyncFailed", "FileMoved", "FileChanged", "StorageClosed"})


class Storage(Upkeep, Protocol):
    """The seam between the engine and what keeps its data.

    Every failure is a `StorageError`; its `code` is one of

    - `DiskFull`         a write found no room. The open group is rolled back; the storage stays usable.
    - `DatabaseBusy`     another program holds the file's write lock. As `DiskFull`.
    - `ReadOnly`         the file or its folder cannot be written. As `DiskFull`.
    - `DatabaseCorrupt`  a page or a row cannot be read. As `DiskFull`, but expect it again.
    - `StorageFailed`    any other error of the operating system. As `DiskFull`.
    - `SyncFailed`       a sync failed (or a checkpoint, or rolling back), so what is on the disk is not
                         known. The storage is closed for good: call `close`, then open again, which recovers.
    - `FileMoved`        the name of the database or its WAL is not that of the open file any more. As
                         `SyncFailed`.
    - `FileChanged`      another program has written to the file. As `SyncFailed`.
    - `StorageClosed`    any call but `close` after `close` or after one of these three.

    and when opening also `DatabaseInUse`, `ForeignDatabase`, `NewerFormat`, `FolderMissing`. A method that
    raises, whatever the exception, leaves the storage as it was at the last `flush`. Breaking a rule of
    this contract (a `ts` that does not rise, an outcome or a table number twice) is an `AssertionError`.
    """

    @property
    def sync_cost_s(self) -> float:
        """What one small sync took when the storage was opened; 0 where `sync` does nothing."""
        ...

    @property
    def path(self) -> Path | None:
        """The database's file; None: it is in memory."""
        ...

    @property
    def files_folder(self) -> Path | None:
        """Where the files lie that rows of it tell of (`FileStore`); None: they end with it."""
        ...

    def catalog(self) -> Catalog:
        """`last_creation_time` is the largest `_creationTime` ever stored; costs the log's newest part."""
        ...

    def put_table(self, row: TableRow) -> None:
        """Add a table; its number and its name are new."""
        ...

    def put_index(self, row: IndexRow) -> None:
        """Add an index, or replace the row of the same number; its entries stay."""
        ...

    def drop_index(self, number: int) -> None:
        """Remove an index and all its entries; one that is not there is fine."""
        ...

    def append(self, commit: Commit) -> None:
        """Add a commit to the log and to the state, all or nothing."""
        ...

    def add_index_entries(self, table_number: int, entries: Iterable[tuple[int, bytes, str]]) -> None:
        """Back-fill `(index number, key, document id)`; a key that is there already is replaced.

        The documents are stored, all in this table.
        """
        ...

    def flush(self) -> None:
        """End the open group: it survives a crash of this process. Without one, nothing happens."""
        ...

    def sync(self) -> None:
        """Make all that was flushed survive a power cut. Thread-safe; never retried after a failure."""
        ...

    def rollback(self) -> None:
        """Forget the open group, also where an exception has cut another method short.

        Without an open group, nothing happens.
        """
        ...

    @property
    def flushed_ts(self) -> int:
        """The last `ts` that was flushed."""
        ...

    def get(self, table_number: int, id: str) -> StoredVersion | None: ...

    def get_many(self, table_number: int, ids: Collection[str]) -> Sequence[tuple[str, int, bytes]]:
        """Id, timestamp and text of those of the documents that there are, each once, in any order."""
        ...

    def scan(
        self, index_number: int, low: bytes, high: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, str]]:
        """The first (or, in reverse, last) `limit` entries with `low <= key < high`, in scan order."""
        ...

    def scan_documents(
        self, index_number: int, low: bytes, high: bytes, table_number: int, *, reverse: bool, limit: int
    ) -> list[tuple[bytes, str, int, bytes]]:
        """What `scan` gives, and with each entry the timestamp and the text of its document."""
        ...

    def scan_table(
        self, table_number: int, low_id: str, high_id: str | None, *, reverse: bool = False, limit: int
    ) -> list[StoredVersion]:
        """Documents with `low_id <= id < high_id`; None is no upper bound."""
        ...

    def count(self, index_number: int, low: bytes, high: bytes) -> int:
        """The number of entries with `low <= key < high`; O(that number)."""
        ...

    def outcome(self, session_id: str, request_id: int) -> Outcome | None: ...

    def requests_after(self, session_id: str, ts: int, *, newest: int) -> list[int]:
        """Of that many newest requests of a session those with an outcome above `ts`, in no order."""
        ...

    def forget_outcomes(self, before_ts: int) -> int:
        """Delete the outcomes with `ts < before_ts`, in the open group; how many they were.

        `before_ts` is not above the last `ts`: the newest commit stays known.
        """
        ...

    def log(self, after_ts: int, *, limit: int) -> list[tuple[int, DocumentWrite]]:
        """Writes with `ts > after_ts`, commit by commit, those of one commit in the order of their ids.

        A commit is never split, so the last one may carry the result over `limit`; go on from its `ts`.
        Complete from the horizon on; of what lies before it, only what was not forgotten.
        """
        ...

    def logged(self, ts: int, ids: Collection[str]) -> list[DocumentWrite]:
        """What the commit at `ts` did to those documents, as far as it is kept."""
        ...

    def deleted_at(self, id: str) -> int | None:
        """The `ts` of a document's newest tombstone in the log; O(length of the log)."""
        ...

    def log_extent(self) -> LogExtent:
        """Where the horizon is and what lies behind it; O(1)."""
        ...

    def forget_log(self, before_ts: int, *, size_bytes_max: int, limit: int) -> int:
        """Move the horizon on in the open group; how many writes it passed (below `limit`: all is done).

        It passes at most `limit` writes, in order: those with `ts <= before_ts`, and more for as long as
        what lies behind it weighs more than `size_bytes_max`. Versions that a passed write replaced, and
        passed tombstones, are deleted, so that the log keeps for each document the version at the horizon
        and all later ones. `before_ts` is not above the last `ts`.
        """
        ...

    def set_meta(self, key: str, value: str) -> None:
        """Keep a text under a name, in the open group. Names beginning `storage.` belong to the storage."""
        ...

    def get_meta(self, key: str) -> str | None: ...

    def check(self) -> list[str]:
        """Read everything and say what does not fit together: one sentence each, [] if all is sound."""
        ...

    def close(self) -> None:
        """Forget the open group, sync what was flushed, give up the file. A second call does nothing."""
        ...
