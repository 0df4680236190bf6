"""Which live queries does a commit touch?

Pulls new commits from the log and looks up, for each write and each index of its table, the old and the
new key among the reads of all live queries: equality prefixes and exact keys by hash, true ranges in an
interval structure. Cost: O(matches + log n) per key, whatever the number of live queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from ..engine import CommitRecord, DocumentChange, LogReader, RangeRead, ReadSet
from .interval_map import IntervalMap

S = TypeVar("S")


class Watch(Generic[S]):
    """One read of one subscriber; it stays registered while the subscriber's next run reads the same."""

    __slots__ = ("read", "subscriber")

    def __init__(self, subscriber: S, read: RangeRead) -> None:
        self.subscriber = subscriber
        self.read = read


class Tracker(Generic[S]):
    """The reads of all subscribers, by index."""

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self._maps: dict[int, IntervalMap[Watch[S]]] = {}

    def pull(self) -> Iterator[tuple[S, DocumentChange, int]]:
        """Each subscriber that a new commit touches, with the change and the commit's timestamp.

        One subscriber may come several times.
        """
        for record in self._log.pull():
            yield from self._touched(record)

    @property
    def has_lost(self) -> bool:
        """True once after commits were undone: whatever was computed since may rest on them."""
        return self._log.take_lost()

    def _touched(self, record: CommitRecord) -> Iterator[tuple[S, DocumentChange, int]]:
        for change in record.write_set.changes:
            for index, key, _ in change.touched_keys():
                reads = self._maps.get(index.number)
                if reads is None:
                    continue
                for watch in reads.touched(key.key, key.prefixes()):
                    if watch.read.notices(index, change.old, change.new):
                        yield watch.subscriber, change, record.ts

    def watch(self, subscriber: S, read_set: ReadSet, previous: Iterable[Watch[S]]) -> list[Watch[S]]:
        """Register what a subscriber's newest run read, in place of what its run before had read."""
        # A run may read the same range twice, with other predicates: each has a watch of its own.
        kept: dict[tuple[int, bytes, bytes, bool], list[Watch[S]]] = {}
        for watch in previous:
            kept.setdefault(_place(watch.read), []).append(watch)
        watches: list[Watch[S]] = []
        for read in read_set.ranges:
            if read.low >= read.high:
                continue
            if same := kept.get(_place(read)):
                watch = same.pop()
                watch.read = read
            else:
                watch = Watch(subscriber, read)
                self._register(watch)
            watches.append(watch)
        for gone in kept.values():
            self.forget(gone)
        return watches

    def forget(self, watches: Iterable[Watch[S]]) -> None:
        for watch in watches:
            read = watch.read
            reads = self._maps[read.index_number]
            if _is_prefix(read):
                assert read.prefix is not None
                reads.remove_prefix(read.prefix, watch)
            else:
                reads.remove((read.low, read.high), watch)
            if not reads:
                del self._maps[read.index_number]

    def _register(self, watch: Watch[S]) -> None:
        read = watch.read
        reads = self._maps.get(read.index_number)
        if reads is None:
            reads = self._maps[read.index_number] = IntervalMap()
        if _is_prefix(read):
            assert read.prefix is not None
            reads.add_prefix(read.prefix, watch)
        else:
            reads.add((read.low, read.high), watch)

    def __len__(self) -> int:
        return sum(len(reads) for reads in self._maps.values())

    def check(self) -> None:
        """Assert the invariants of every map."""
        for reads in self._maps.values():
            assert reads
            reads.check()


def _is_prefix(read: RangeRead) -> bool:
    return read.exhausted and read.prefix is not None


def _place(read: RangeRead) -> tuple[int, bytes, bytes, bool]:
    return read.index_number, read.low, read.high, _is_prefix(read)
