"""In which order do commits happen, and when may the world know of them?

The committer gives out commit timestamps, strictly increasing and never below one that was ever durable.
A commit passes three marks: `applied_ts` (visible inside the process), `flushed_ts` (in the file, atomic
with its group) and `durable_ts` (survives a power cut). Whoever shows a result outside waits for the third.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ..errors import ConflictError, StorageError
from ..limits import MIB
from ..storage import Commit, Outcome
from .document import IndexKey
from .read_set import ReadSet
from .write_set import WriteSet

if TYPE_CHECKING:
    from ..clock import Clock
    from ..storage import Storage

# The commits kept for validating transactions that began before them; their size is bounded as well.
_HISTORY_MAX = 1024

# Groups that were undone are remembered for those who commit in one thread and ask in the next moment.
_UNDONE_MAX = 64

DurableCallback: TypeAlias = "Callable[[StorageError | None], None]"


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """One commit, as the consumers of the log see it."""

    ts: int
    write_set: WriteSet
    size_bytes: int


class LogReader:
    """One consumer's place in the log.

    Bounded, since a consumer may not come for a long time: past the bound it is told that it has lost track,
    as after commits that were undone.
    """

    def __init__(self, size_bytes_max: int) -> None:
        self._records: deque[CommitRecord] = deque()
        self._size_bytes_max = size_bytes_max
        self._size_bytes = 0
        self._lost = False

    def pull(self) -> list[CommitRecord]:
        """The commits since the last pull, in order."""
        records = list(self._records)
        self._records.clear()
        self._size_bytes = 0
        return records

    @property
    def waiting(self) -> bool:
        return bool(self._records) or self._lost

    def take_lost(self) -> bool:
        """True once if what this reader knows cannot be trusted: commits were undone, or it was too slow."""
        lost, self._lost = self._lost, False
        return lost

    def append(self, record: CommitRecord) -> None:
        self._records.append(record)
        self._size_bytes += record.size_bytes
        if self._size_bytes > self._size_bytes_max and len(self._records) > 1:
            self._records.clear()
            self._size_bytes = 0
            self._lost = True

    def forget_after(self, ts: int) -> None:
        while self._records and self._records[-1].ts > ts:
            self._size_bytes -= self._records.pop().size_bytes
        self._lost = True


class Committer:
    """The only place where a commit timestamp is assigned. The engine's lock guards it."""

    def __init__(
        self, storage: Storage, clock: Clock, *, last_ts: int, history_size_bytes_max: int = 16 * MIB
    ) -> None:
        self._storage = storage
        self._clock = clock
        self.applied_ts = last_ts
        self.flushed_ts = last_ts
        self.durable_ts = last_ts
        # In the life of this process, also those that were undone.
        self.commit_count = 0
        # Never goes back, also not over commits that were undone: a timestamp names one commit for ever.
        self._assigned_ts = last_ts
        self._history: deque[CommitRecord] = deque()
        self._history_size_bytes = 0
        self._history_size_bytes_max = history_size_bytes_max
        self._history_from_ts = last_ts
        self._readers: list[LogReader] = []
        self._waiters: deque[tuple[int, DurableCallback]] = deque()
        # Timestamps above the first and up to the second number were undone, for that reason.
        self._undone: deque[tuple[int, int, StorageError]] = deque(maxlen=_UNDONE_MAX)
        # Set once the storage is closed for good: nothing becomes durable any more, and nothing is told any
        # more, for what is in memory may not be what the file holds.
        self.abandoned: StorageError | None = None

    def reader(self) -> LogReader:
        reader = LogReader(self._history_size_bytes_max)
        self._readers.append(reader)
        return reader

    def validate(self, base_ts: int, read_set: ReadSet) -> None:
        """Refuse a transaction whose reads a later commit has changed.

        Raises:
            ConflictError: naming the table and the id that the other commit wrote.
        """
        if base_ts >= self.applied_ts:
            return
        if base_ts < self._history_from_ts:
            raise ConflictError(
                f"a transaction of timestamp {base_ts} is older than the commits kept for checking it"
                " - run it again",
                base_ts=base_ts,
            )
        for record in self._history:
            if record.ts <= base_ts:
                continue
            change = record.write_set.intersects(read_set)
            if change is not None:
                raise ConflictError(
                    f"document `{change.id}` of table `{change.table.name}` was written by another commit "
                    "after this transaction had read it - run it again",
                    table=change.table.name,
                    id=change.id,
                    ts=record.ts,
                )

    def next_ts(self) -> int:
        self._assigned_ts = max(self._clock.now_ns(), self._assigned_ts + 1)
        return self._assigned_ts

    def append(self, ts: int, write_set: WriteSet, commit: Commit) -> None:
        """Write a commit into the open group and show it to the readers.

        Raises:
            StorageError: the storage could not take it; the caller undoes the whole group.
        """
        self._storage.append(commit)
        self.applied_ts = ts
        self.commit_count += 1
        record = CommitRecord(ts, write_set, write_set.size_bytes())
        self._history.append(record)
        self._history_size_bytes += record.size_bytes
        while len(self._history) > _HISTORY_MAX or self._history_size_bytes > self._history_size_bytes_max:
            oldest = self._history.popleft()
            self._history_size_bytes -= oldest.size_bytes
            self._history_from_ts = oldest.ts
        for reader in self._readers:
            reader.append(record)

    @property
    def history(self) -> Collection[CommitRecord]:
        """The commits that are kept for validating transactions."""
        return self._history

    def forget_history(self) -> None:
        """Keep no earlier version of a document; a transaction that runs now would have to run again."""
        self._history.clear()
        self._history_size_bytes = 0
        self._history_from_ts = self.applied_ts

    def when_durable(self, ts: int, callback: DurableCallback) -> None:
        """Call back with None once `ts` is durable, or with the error that undid it. May call at once."""
        error = self.failure_of(ts)
        if error is not None or ts <= self.durable_ts:
            callback(error)
        else:
            self._waiters.append((ts, callback))

    def failure_of(self, ts: int) -> StorageError | None:
        """Why what was read or written at `ts` cannot be told; None if it is durable, or still may be."""
        if self.abandoned is not None:
            return self.abandoned
        for low, high, error in self._undone:
            if low < ts <= high:
                return error
        return None

    @property
    def is_waiting(self) -> bool:
        """Whether somebody waits for a sync, or a group is open."""
        return bool(self._waiters) or self.applied_ts > self.durable_ts

    def flush(self) -> int:
        """Make the open group atomic in the file; gives the timestamp a sync would make durable."""
        if self.applied_ts > self.flushed_ts:
            self._storage.flush()
            self.flushed_ts = self.applied_ts
        return self.flushed_ts

    def synced(self, ts: int) -> list[DurableCallback]:
        """A sync covers all up to `ts`; gives the callbacks that waited for it, to be called unlocked."""
        self.durable_ts = max(self.durable_ts, ts)
        due = [callback for waited, callback in self._waiters if waited <= self.durable_ts]
        if due:
            self._waiters = deque(pair for pair in self._waiters if pair[0] > self.durable_ts)
        return due

    def undo_open_group(self, error: StorageError) -> list[DurableCallback]:
        """Forget every commit after the last flush; gives the callbacks of those who waited for one."""
        self._storage.rollback()
        # An exception may have come between the flush and our note of it.
        self.flushed_ts = max(self.flushed_ts, self._storage.flushed_ts)
        self._undone.append((self.flushed_ts, self._assigned_ts, error))
        self.applied_ts = self.flushed_ts
        while self._history and self._history[-1].ts > self.flushed_ts:
            self._history_size_bytes -= self._history.pop().size_bytes
        for reader in self._readers:
            reader.forget_after(self.flushed_ts)
        lost = [callback for ts, callback in self._waiters if ts > self.flushed_ts]
        self._waiters = deque(pair for pair in self._waiters if pair[0] <= self.flushed_ts)
        return lost

    def abandon(self, error: StorageError) -> list[DurableCallback]:
        """The storage is closed for good: everybody who still waits is to be told.

        What they wait for may be in the file or not. The first error counts: later ones only follow from it.
        """
        self.abandoned = self.abandoned or error
        lost = [callback for _, callback in self._waiters]
        self._waiters.clear()
        return lost


def index_changes(write_set: WriteSet) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes, str]]]:
    """The index entries to remove and to add."""
    removed: list[tuple[int, bytes]] = []
    added: list[tuple[int, bytes, str]] = []
    for change in write_set.changes:
        for index in change.table.stored_indexes:
            old: IndexKey | None = change.old.key(index) if change.old is not None else None
            new: IndexKey | None = change.new.key(index) if change.new is not None else None
            if old is not None and new is not None and old.key == new.key:
                continue
            if old is not None:
                removed.append((index.number, old.key))
            if new is not None:
                added.append((index.number, new.key, change.id))
    return removed, added


__all__ = ["Commit", "CommitRecord", "Committer", "DurableCallback", "LogReader", "Outcome", "index_changes"]
