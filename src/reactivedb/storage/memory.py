"""What would a storage do that had no file?

The oracle of the conformance suite and the database behind `":memory:"`. All state lies in mappings and one
list; a group remembers what it overwrote, so that rolling back costs O(size of the group). Nothing survives
the process, so `sync` has nothing to do.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Protocol, TypeVar, cast

from sortedcontainers import SortedDict  # pyright: ignore[reportMissingTypeStubs]  (there are none)

from reactivedb.errors import StorageError

from .agreement import Agreement
from .contract import Catalog, Commit, DocumentWrite, IndexRow, Outcome, StoredVersion, TableRow

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

    def __init__(self) -> None:
        self._tables: dict[int, TableRow] = {}
        self._indexes: dict[int, IndexRow] = {}
        # Both by number, then sorted: id to version, key to document id.
        self._documents: dict[int, _Sorted[str, StoredVersion]] = {}
        self._entries: dict[int, _Sorted[bytes, str]] = {}
        self._outcomes: dict[tuple[str, int], Outcome] = {}
        self._meta: dict[str, str] = {}
        # Sorted by ts, then by position in the commit.
        self._log: list[tuple[int, DocumentWrite]] = []
        self._last_ts = 0
        # What the open group overwrote, oldest first; and where the log and time stood before it.
        self._overwritten: list[tuple[Any, Any, Any]] = []
        self._flushed_log_length = 0
        self._flushed_ts = 0
        self._closed = False

    def catalog(self) -> Catalog:
        self._check_open()
        created = (
            json.loads(write.value).get("_creationTime", 0.0)
            for _, write in self._log
            if write.prev_ts is None and write.value is not None
        )
        return Catalog(
            tables=sorted(self._tables.values(), key=lambda row: row.number),
            indexes=sorted(self._indexes.values(), key=lambda row: row.number),
            last_ts=self._last_ts,
            last_creation_time=float(max(created, default=0.0)),
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
        for write in commit.writes:
            self._log.append((commit.ts, write))
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

    def add_index_entries(self, entries: Iterable[tuple[int, bytes, str]]) -> None:
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
        del self._log[self._flushed_log_length :]
        self._last_ts = self._flushed_ts

    def get(self, table_number: int, id: str) -> StoredVersion | None:
        self._check_open()
        documents = self._documents.get(table_number)
        return None if documents is None else documents.get(id)

    def scan(
        self, index_number: int, low: bytes, high: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, str]]:
        self._check_open()
        entries = self._entries.get(index_number)
        if entries is None or low >= high:
            return []
        keys = entries.irange(low, high, (True, False), reverse)
        return [(key, entries[key]) for key in islice(keys, limit)]

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

    def forget_outcomes(self, before_ts: int) -> int:
        self._check_open()
        old = [request for request, outcome in self._outcomes.items() if outcome.ts < before_ts]
        for request in old:
            self._put(self._outcomes, request, _ABSENT)
        return len(old)

    def log(self, after_ts: int, *, limit: int) -> list[tuple[int, DocumentWrite]]:
        self._check_open()
        start = bisect_right(self._log, after_ts, key=lambda row: row[0])
        end = min(start + limit, len(self._log))
        while start < end < len(self._log) and self._log[end][0] == self._log[end - 1][0]:
            end += 1
        return self._log[start:end]

    def set_meta(self, key: str, value: str) -> None:
        self._check_open()
        self._put(self._meta, key, value)

    def get_meta(self, key: str) -> str | None:
        self._check_open()
        return self._meta.get(key)

    def check(self) -> list[str]:
        self._check_open()
        agreement = Agreement()
        agreement.read_log(self._log)
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
