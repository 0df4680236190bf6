"""How many entries lie in a range of an index that is counted again and again?

SQLite counts by looking at every entry: 75 ms for a million of them, which a live count of a large table
would cost at every insertion. So the counts of large ranges are remembered, and follow the commits: each adds
to them what it adds to the index. Cost: O(remembered ranges of an index) for each of its keys that a commit
changes.

Invariant: what is remembered is true of the state, the open group included (`check`). Whoever writes entries
in another way than by a commit, or undoes commits, has all of it forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .interval import Interval

if TYPE_CHECKING:
    from ..storage import Commit, Storage

# What is counted in less than a tenth of a millisecond need not be remembered.
LARGE_COUNT_MIN = 1_000
_RANGES_PER_INDEX_MAX = 16
# A commit that changes more keys takes so long that counting again is little beside it.
_CHANGES_MAX = 1_000


class Counts:
    """Counts of a storage. Called under the engine's lock."""

    def __init__(self, storage: Storage, *, large_count_min: int = LARGE_COUNT_MIN) -> None:
        self._storage = storage
        self._large_count_min = large_count_min
        # By index, the least recently asked first.
        self._remembered: dict[int, dict[Interval, int]] = {}

    def count(self, index_number: int, interval: Interval) -> int:
        """The number of entries in the interval. Raises StorageError as the storage has it."""
        ranges = self._remembered.get(index_number)
        known = ranges.pop(interval, None) if ranges is not None else None
        if known is None:
            known = self._storage.count(index_number, *interval)
            if known < self._large_count_min:
                return known
            ranges = self._remembered.setdefault(index_number, {})
            if len(ranges) == _RANGES_PER_INDEX_MAX:
                del ranges[next(iter(ranges))]
        assert ranges is not None
        ranges[interval] = known
        return known

    def follow(self, commit: Commit) -> None:
        """A commit was appended."""
        if not self._remembered:
            return
        if len(commit.index_removed) + len(commit.index_added) > _CHANGES_MAX:
            self.forget()
            return
        for index_number, key in commit.index_removed:
            self._change(index_number, key, -1)
        for index_number, key, _ in commit.index_added:
            self._change(index_number, key, 1)

    def _change(self, index_number: int, key: bytes, by: int) -> None:
        ranges = self._remembered.get(index_number)
        if ranges is not None:
            for interval in ranges:
                if interval[0] <= key < interval[1]:
                    ranges[interval] += by

    def forget(self) -> None:
        self._remembered.clear()

    def check(self) -> None:
        """Assert the invariant."""
        for index_number, ranges in self._remembered.items():
            assert len(ranges) <= _RANGES_PER_INDEX_MAX
            for interval, known in ranges.items():
                assert known == self._storage.count(index_number, *interval), (index_number, interval)
