"""What would a storage do that had no file?

The oracle of the conformance suite and the database behind `":memory:"`. All state lies in mappings and one
list; a group remembers what it overwrote, so that rolling back costs O(size of the group). Nothing survives
the process, so `sync` has nothing to do.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, takewhile
from operator import attrgetter
from typing import Any, Protocol, TypeVar, cast

from sortedcontainers import SortedDict  # pyright: ignore[reportMissingTypeStubs]  (there are none)

from reactivedb.errors import StorageError

from .agreement import Agreement
from .contract import (
    LOG_WRITE_SIZE_BYTES,
    Catalog,
    Commit,
    DocumentWrite,
    IndexRow,
    LogExtent,
    Outcome,
    StoredVersion,
    TableRow,
)
from .upkeep import Room

K = TypeVar("K")
V_co = TypeVar("V_co", covariant=True)

# Stands for "there was nothing under this key"; None can be a value.
_ABSENT: Any = object()


class _Sorted(Protocol[K, V_co]):
    """What is used of a `SortedDict`, with types."""

    def get(self, key: K) -> V_co | None: ...
    def __getitem__(self, key: K) -> V_co: ...
    def values(self) -> Iterable[V_co]: ...
    def items(self) -> Iterable[tuple[K, V_co]]: ...
    def bisect_left(self, value: K) -> int: ...
    def irange(
        self, minimum: K, maximum: K | None, inclusive: tuple[bool, bool], reverse: bool
    ) -> Iterator[K]: ...


class MemoryStorage:
    """`Storage` in plain Python structures; see `contract.Storage`."""

    sync_cost_s = 0.0
    path = None
    files_folder = None

    def __init__(self) -> None:
        self._tables: dict[int, TableRow] = {}
        self._indexes: dict[int, IndexRow] = {}
        # Both by number, then sorted: id to version, key to document id.
        self._documents: dict[int, _Sorted[str, StoredVersion]] = {}
        self._entries: dict[int, _Sorted[bytes, str]] = {}
        self._outcomes: dict[tuple[str, int], Outcome] = {}
        self._meta: dict[str, str] = {}
        # Sorted by ts, then by position in the commit, which is the order of ids. What was forgotten leaves
        # None until the next flush.
        self._log: list[tuple[int, int, str, DocumentWrite | None]] = []
        self._hole_count = 0
        # Under one key each, so that a rollback restores them like all else.
        self._extent: dict[str, LogExtent] = {"": LogExtent()}
        self._forgotten_creation_time: dict[str, float] = {"": 0.0}
        self._last_ts = 0
        # What the open group overwrote, oldest first; and where the log and time stood before it.
        self._overwritten: list[tuple[Any, Any, Any]] = []
        self._flushed_log_length = 0
        self._flushed_ts = 0
        self._closed = False

    def catalog(self) -> Catalog:
        self._check_open()
        created = [_creation_time(write) for *_, write in self._log if write is not None]
        created.append(self._forgotten_creation_time[""])
        return Catalog(
            tables=sorted(self._tables.values(), key=lambda row: row.number),
            indexes=sorted(self._indexes.values(), key=lambda row: row.number),
            last_ts=self._last_ts,
            last_creation_time=max(created),
        )

    def put_table(self, row: TableRow) -> None:
        self._check_open()
        try:
            assert row.number not in self._tables, f"table number {row.number} is taken"
            assert all(row.name != other.name for other in self._tables.values()), f"`{row.name}` is taken"
        except AssertionError:
            self.rollback()
            raise
        self._put(self._tables, row.number, row)

    def put_index(self, row: IndexRow) -> None:
        self._check_open()
        self._put(self._indexes, row.number, row)

    def drop_index(self, number: int) -> None:
        self._check_open()
        self._put(self._indexes, number, _ABSENT)
        self._put(self._entries, number, _ABSENT)

    def append(self, commit: Commit) -> None:
        self._check_open()
        try:
            self._append(commit)
        except BaseException:
            self.rollback()
            raise

    def _append(self, commit: Commit) -> None:
        assert commit.ts > self._last_ts, f"commit at {commit.ts}, but the last one was at {self._last_ts}"
        assert commit.writes or commit.outcome, f"the commit at {commit.ts} has no write and no outcome"
        self._last_ts = commit.ts
        sizes = [len(write.value or b"") + LOG_WRITE_SIZE_BYTES for write in commit.writes]
        extent = self._extent[""]
        self._put(
            self._extent,
            "",
            replace(
                extent,
                write_count=extent.write_count + len(sizes),
                size_bytes=extent.size_bytes + sum(sizes),
            ),
        )
        for position, write in enumerate(sorted(commit.writes, key=attrgetter("id"))):
            self._log.append((commit.ts, position, write.id, write))
            version = (
                _ABSENT if write.value is None else StoredVersion(write.id, commit.ts, bytes(write.value))
            )
            self._put(self._sorted(self._documents, write.table_number), write.id, version)
        for index_number, key in commit.index_removed:
            self._put(self._sorted(self._entries, index_number), key, _ABSENT)
        for index_number, key, document_id in commit.index_added:
            self._put(self._sorted(self._entries, index_number), key, document_id)
        if (outcome := commit.outcome) is not None:
            request = (outcome.session_id, outcome.request_id)
            assert request not in self._outcomes, f"the outcome of {request} is recorded already"
            self._put(self._outcomes, request, outcome)

    def add_index_entries(self, table_number: int, entries: Iterable[tuple[int, bytes, str]]) -> None:
        self._check_open()
        try:
            for index_number, key, document_id in entries:
                self._put(self._sorted(self._entries, index_number), key, document_id)
        except BaseException:
            self.rollback()
            raise

    def flush(self) -> None:
        self._check_open()
        self._overwritten.clear()
        if self._hole_count * 2 > len(self._log):
            self._log = [row for row in self._log if row[-1] is not None]
            self._hole_count = 0
        self._flushed_log_length = len(self._log)
        self._flushed_ts = self._last_ts

    def sync(self) -> None:
        self._check_open()

    def rollback(self) -> None:
        self._check_open()
        for mapping, key, value in reversed(self._overwritten):
            if value is _ABSENT:
                mapping.pop(key, None)
            else:
                mapping[key] = value
        self._overwritten.clear()
        self._hole_count = 0  # too low is harmless: it only says when to close up
        del self._log[self._flushed_log_length :]
        self._last_ts = self._flushed_ts

    @property
    def flushed_ts(self) -> int:
        return self._flushed_ts

    def get(self, table_number: int, id: str) -> StoredVersion | None:
        self._check_open()
        documents = self._documents.get(table_number)
        return None if documents is None else documents.get(id)

    def get_many(self, table_number: int, ids: Collection[str]) -> Sequence[tuple[str, int, bytes]]:
        found = (self.get(table_number, id) for id in set(ids))
        return [version for version in found if version is not None]

    def scan(
        self, index_number: int, low: bytes, high: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, str]]:
        self._check_open()
        entries = self._entries.get(index_number)
        if entries is None or low >= high:
            return []
        keys = entries.irange(low, high, (True, False), reverse)
        return [(key, entries[key]) for key in islice(keys, limit)]

    def scan_documents(
        self, index_number: int, low: bytes, high: bytes, table_number: int, *, reverse: bool, limit: int
    ) -> list[tuple[bytes, str, int, bytes]]:
        documents = self._sorted(self._documents, table_number)
        entries = self.scan(index_number, low, high, reverse=reverse, limit=limit)
        found = ((key, documents[id]) for key, id in entries)
        return [(key, version.id, version.ts, version.value) for key, version in found]

    def scan_table(
        self, table_number: int, low_id: str, high_id: str | None, *, reverse: bool = False, limit: int
    ) -> list[StoredVersion]:
        self._check_open()
        documents = self._documents.get(table_number)
        if documents is None or (high_id is not None and low_id >= high_id):
            return []
        ids = documents.irange(low_id, high_id, (True, False), reverse)
        return [documents[found] for found in islice(ids, limit)]

    def count(self, index_number: int, low: bytes, high: bytes) -> int:
        self._check_open()
        entries = self._entries.get(index_number)
        if entries is None or low >= high:
            return 0
        return entries.bisect_left(high) - entries.bisect_left(low)

    def outcome(self, session_id: str, request_id: int) -> Outcome | None:
        self._check_open()
        return self._outcomes.get((session_id, request_id))

    def requests_after(self, session_id: str, ts: int, *, newest: int) -> list[int]:
        self._check_open()
        # They were put there in the order of `ts`.
        later = takewhile(lambda outcome: outcome.ts > ts, reversed(self._outcomes.values()))
        requests = (outcome.request_id for outcome in later if outcome.session_id == session_id)
        return list(islice(requests, newest))

    def forget_outcomes(self, before_ts: int) -> int:
        self._check_open()
        old = [request for request, outcome in self._outcomes.items() if outcome.ts < before_ts]
        for request in old:
            self._put(self._outcomes, request, _ABSENT)
        return len(old)

    def log(self, after_ts: int, *, limit: int) -> list[tuple[int, DocumentWrite]]:
        self._check_open()
        found: list[tuple[int, DocumentWrite]] = []
        for ts, *_, write in islice(self._log, self._after(after_ts), None):
            if len(found) >= limit and (not found or ts != found[-1][0]):
                break
            if write is not None:
                found.append((ts, write))
        return found

    def _after(self, ts: int, position: int | None = None) -> int:
        """Where the log goes on behind a commit, or behind one write of it."""
        if position is None:
            return bisect_right(self._log, ts, key=lambda row: row[0])
        return bisect_right(self._log, (ts, position), key=lambda row: row[:2])

    def logged(self, ts: int, ids: Collection[str]) -> list[DocumentWrite]:
        self._check_open()
        places = [place for id in sorted(set(ids)) if (place := self._place(ts, id)) is not None]
        return [write for place in places if (write := self._log[place][-1]) is not None]

    def deleted_at(self, id: str) -> int | None:
        self._check_open()
        for ts, *_, write in reversed(self._log):
            if write is not None and write.id == id and write.value is None:
                return ts
        return None

    def log_extent(self) -> LogExtent:
        self._check_open()
        return self._extent[""]

    def forget_log(self, before_ts: int, *, size_bytes_max: int, limit: int) -> int:
        self._check_open()
        passed = 0
        start = self._after(self.log_extent().horizon_ts, self.log_extent().horizon_position)
        for place in range(start, len(self._log)):
            ts, position, _, write = self._log[place]
            extent = self.log_extent()
            if passed == limit or (ts > before_ts and extent.size_bytes <= size_bytes_max):
                break
            if write is None:  # erased
                continue
            passed += 1
            gone = [] if write.value is not None else [place]
            if write.prev_ts is not None and (replaced := self._place(write.prev_ts, write.id)) is not None:
                gone.append(replaced)
            gone_bytes = sum(self._forget(each) for each in gone)
            horizon = LogExtent(
                ts,
                position,
                extent.write_count - 1,
                extent.size_bytes - len(write.value or b"") - LOG_WRITE_SIZE_BYTES,
                extent.forgotten_count + len(gone),
                extent.forgotten_size_bytes + gone_bytes,
            )
            self._put(self._extent, "", horizon)
        return passed

    def _place(self, ts: int, id: str) -> int | None:
        """Where the commit at `ts` wrote the document, as far as it is kept; O(log(length of the log))."""
        place = bisect_left(self._log, (ts, id), key=lambda row: (row[0], row[2]))
        if place == len(self._log) or self._log[place][-1] is None:
            return None
        return place if (self._log[place][0], self._log[place][2]) == (ts, id) else None

    def _forget(self, place: int) -> int:
        """Make a hole in the log; gives the weight of what was there."""
        ts, position, id, write = row = self._log[place]
        assert write is not None
        created = max(self._forgotten_creation_time[""], _creation_time(write))
        self._put(self._forgotten_creation_time, "", created)
        self._overwritten.append((self._log, place, row))
        self._log[place] = (ts, position, id, None)
        self._hole_count += 1
        return len(write.value or b"") + LOG_WRITE_SIZE_BYTES

    def outcomes(self, after_ts: int, *, limit: int) -> list[Outcome]:
        self._check_open()
        later = sorted((o for o in self._outcomes.values() if o.ts > after_ts), key=attrgetter("ts"))
        return later[:limit]

    def replace_outcome(self, ts: int, result: bytes) -> None:
        self._check_open()
        for request, outcome in list(self._outcomes.items()):
            if outcome.ts == ts:
                self._put(self._outcomes, request, replace(outcome, result=result, log_lines=()))

    def erase_writes(self, id: str, timestamps: Sequence[int]) -> None:
        self._check_open()
        for place in [place for ts in timestamps if (place := self._place(ts, id)) is not None]:
            extent = self.log_extent()
            is_behind = self._log[place][:2] > (extent.horizon_ts, extent.horizon_position)
            size = self._forget(place)
            erased = replace(
                extent,
                write_count=extent.write_count - is_behind,
                size_bytes=extent.size_bytes - is_behind * size,
                forgotten_count=extent.forgotten_count + 1,
                forgotten_size_bytes=extent.forgotten_size_bytes + size,
            )
            self._put(self._extent, "", erased)

    def check_keeps_no_old_bytes(self) -> None:
        self._check_open()

    def room(self) -> Room:
        return Room()

    def release(self, page_count: int) -> int:
        self._check_open()
        return 0

    def empty_wal(self) -> bool:
        self._check_open()
        return True

    def set_meta(self, key: str, value: str) -> None:
        self._check_open()
        self._put(self._meta, key, value)

    def get_meta(self, key: str) -> str | None:
        self._check_open()
        return self._meta.get(key)

    def check(self) -> list[str]:
        self._check_open()
        agreement = Agreement()
        agreement.read_log(
            ((ts, write) for ts, *_, write in self._log if write is not None),
            horizon_ts=self.log_extent().horizon_ts,
        )
        agreement.read_documents(
            (number, version)
            for number, documents in self._documents.items()
            for version in documents.values()
        )
        agreement.read_entries(
            (
                (number, key, document_id)
                for number, entries in self._entries.items()
                for key, document_id in entries.items()
            ),
            self._indexes.values(),
        )
        return agreement.problems

    def close(self) -> None:
        self._closed = True

    def _put(self, mapping: Any, key: Any, value: Any) -> None:
        before = mapping.get(key, _ABSENT)
        self._overwritten.append((mapping, key, before))
        if value is not _ABSENT:
            mapping[key] = value
        elif before is not _ABSENT:
            del mapping[key]

    def _sorted(self, mappings: dict[int, _Sorted[K, V_co]], number: int) -> _Sorted[K, V_co]:
        found = mappings.get(number)
        if found is None:
            found = mappings[number] = cast("_Sorted[K, V_co]", SortedDict())
        return found

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(
                "the in-memory database has been closed - open a new one", code="StorageClosed"
            )


def _creation_time(write: DocumentWrite) -> float:
    """Of a document that was inserted; 0 for every other write."""
    if write.prev_ts is not None or write.value is None:
        return 0.0
    return float(json.loads(write.value).get("_creationTime", 0.0))
