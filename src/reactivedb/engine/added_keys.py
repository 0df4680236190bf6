"""Which keys does a transaction add to one index, and what comes next among them?

Most transactions write a few keys and never scan the index they wrote to: adding costs a dict's insertion.
The keys are put in order when somebody asks for the order first, and kept in it from then on.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort


class AddedKeys:
    """Keys with the ids of their documents. `add`: O(1), once in order O(n) moves; asking: O(log n)."""

    __slots__ = ("_ids", "_in_order")

    def __init__(self) -> None:
        self._ids: dict[bytes, str] = {}
        # None until the order was asked for; from then on exactly the sorted keys of `_ids`.
        self._in_order: list[bytes] | None = None

    def add(self, key: bytes, id: str) -> None:
        if self._in_order is not None and key not in self._ids:
            insort(self._in_order, key)
        self._ids[key] = id

    def remove(self, key: bytes) -> None:
        """Raises: KeyError."""
        del self._ids[key]
        if self._in_order is not None:
            del self._in_order[bisect_left(self._in_order, key)]

    def discard(self, key: bytes) -> None:
        """Remove a key that may not be there."""
        if key in self._ids:
            self.remove(key)

    def copy(self) -> AddedKeys:
        """The same keys, apart from now on: O(n)."""
        copied = AddedKeys()
        copied._ids = self._ids.copy()
        copied._in_order = None if self._in_order is None else self._in_order.copy()
        return copied

    def first(self, low: bytes, high: bytes, *, after: bytes | None) -> tuple[bytes, str] | None:
        """The lowest key with `low <= key < high`, above `after` if that is given."""
        keys = self._sorted()
        position = bisect_left(keys, low) if after is None else bisect_right(keys, after)
        if position == len(keys) or keys[position] >= high:
            return None
        return keys[position], self._ids[keys[position]]

    def last(self, low: bytes, high: bytes, *, before: bytes | None) -> tuple[bytes, str] | None:
        """The highest key with `low <= key < high`, below `before` if that is given."""
        keys = self._sorted()
        position = bisect_left(keys, high if before is None else before) - 1
        if position < 0 or keys[position] < low:
            return None
        return keys[position], self._ids[keys[position]]

    def count(self, low: bytes, high: bytes) -> int:
        """How many keys lie in `low <= key < high`."""
        keys = self._sorted()
        return bisect_left(keys, high) - bisect_left(keys, low)

    def _sorted(self) -> list[bytes]:
        if self._in_order is None:
            self._in_order = sorted(self._ids)
        return self._in_order

    def __len__(self) -> int:
        return len(self._ids)

    def check(self) -> None:
        """Assert the invariant: what is in order is what is there."""
        assert self._in_order is None or self._in_order == sorted(self._ids)
