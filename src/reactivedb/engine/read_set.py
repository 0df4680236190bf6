"""What did a run read?

One `RangeRead` per scan, holding the interval that was really consumed: it grows as documents are taken,
so `take(50)` has read up to the fiftieth key and no further, and an empty range is read too (phantoms).
`ReadSet.record` is the only place where a read dependency comes into being.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..user_code import contained
from .interval import EVERYTHING, Interval, just_above

if TYPE_CHECKING:
    from .catalog import IndexState
    from .document import StoredDocument

# What a read takes as long as somebody watches it, beside its keys: itself, its place in an interval map and
# in the lists around it. Measured with tracemalloc (`tests/subscriptions/test_result_sizes.py`).
_READ_SIZE_BYTES = 700
# Low, high and prefix of a range, once as it was opened and once as it was consumed.
_COPIES_OF_KEYS = 2


class RangeRead:
    """The part of one index range that a run consumed.

    `prefix` is set when the range is all keys beginning with those bytes; once such a range is exhausted,
    a hash finds it. `predicates` are the filters behind it: a document that none of them keeps, neither
    before nor after a write, was not seen and does not count. `counted` is set when only the number of
    documents was asked for: one that stays in the range was not seen either, whatever becomes of it.
    """

    __slots__ = (
        "_high",
        "_low",
        "counted",
        "exhausted",
        "high",
        "index_number",
        "low",
        "predicates",
        "prefix",
        "reverse",
    )

    def __init__(
        self, index_number: int, interval: Interval, *, prefix: bytes | None = None, reverse: bool = False
    ) -> None:
        self.index_number = index_number
        self._low, self._high = interval
        self.prefix = prefix
        self.reverse = reverse
        self.exhausted = False
        self.counted = False
        self.predicates: tuple[Callable[[Any], bool], ...] | None = ()
        # Nothing is consumed yet: an empty interval at the end where the scan begins.
        self.low, self.high = (self._high, self._high) if reverse else (self._low, self._low)

    def consumed(self, key: bytes) -> None:
        """The scan has looked at `key` and at all before it."""
        if self.reverse:
            self.low = key
        else:
            self.high = just_above(key)

    def consumed_all(self) -> None:
        self.exhausted = True
        self.low, self.high = self._low, self._high

    def trim(self, boundary: bytes) -> None:
        """What was looked at beyond `boundary` had no part in the run's result, so it does not count."""
        if self.reverse:
            self.low, self.exhausted = max(self.low, boundary), self.exhausted and boundary <= self.low
        else:
            self.high, self.exhausted = min(self.high, boundary), self.exhausted and boundary >= self.high

    def contains(self, key: bytes) -> bool:
        return self.low <= key < self.high

    def notices(self, index: IndexState, old: StoredDocument | None, new: StoredDocument | None) -> bool:
        """Would the run have seen the difference? One of the two lies in the interval."""
        if self.counted:
            return self._holds(index, old) != self._holds(index, new)
        return self._keeps(old) or self._keeps(new)

    def _holds(self, index: IndexState, document: StoredDocument | None) -> bool:
        return document is not None and self.contains(document.key(index).key)

    def _keeps(self, document: StoredDocument | None) -> bool:
        """Would the run have seen this document? In doubt (a predicate that raises or reads), yes."""
        if document is None:
            return False
        if not self.predicates:
            return True
        try:
            value = document.object()
            return all(predicate(value) for predicate in self.predicates)
        except BaseException as error:  # a predicate that cannot answer any more must not hide a write
            contained(error)
            return True

    def unfilter(self) -> None:
        """Count every document of the interval: the predicates cannot be asked outside of the run."""
        self.predicates = None


class ReadSet:
    """All reads of one run, in the order they were made."""

    __slots__ = ("_exact", "ranges")

    def __init__(self) -> None:
        self.ranges: list[RangeRead] = []
        self._exact: set[tuple[int, bytes]] = set()

    def record(self, read: RangeRead) -> RangeRead:
        """Add a read that may still grow; give it back."""
        self.ranges.append(read)
        return read

    def record_exact(self, index_number: int, key: bytes) -> None:
        """Add one key, which is wholly read whether or not a document stands there."""
        if (index_number, key) in self._exact:
            return
        self._exact.add((index_number, key))
        read = RangeRead(index_number, (key, just_above(key)), prefix=key)
        read.consumed_all()
        self.ranges.append(read)

    def touching(self, index_number: int, key: bytes) -> Iterator[RangeRead]:
        """The reads of an index that cover a key. Cost: linear; for conflicts, not for fan-out."""
        for read in self.ranges:
            if read.index_number == index_number and read.contains(key):
                yield read

    @property
    def size_bytes(self) -> int:
        """About what all reads take as long as they are watched. O(reads)."""
        keys_bytes = sum(len(read.low) + len(read.high) for read in self.ranges)
        return _READ_SIZE_BYTES * len(self.ranges) + _COPIES_OF_KEYS * keys_bytes

    @property
    def has_predicates(self) -> bool:
        return any(read.predicates for read in self.ranges)

    def whole_indexes(self) -> ReadSet:
        """One read of everything for each index that was read: it takes little, and touches more."""
        whole = ReadSet()
        for number in sorted({read.index_number for read in self.ranges}):
            whole.record(RangeRead(number, EVERYTHING)).consumed_all()
        return whole

    def __len__(self) -> int:
        return len(self.ranges)
