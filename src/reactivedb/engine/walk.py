"""What does a loop over a query meet of what is written while it goes on?

A loop may change what it goes over. Each document is met at most once, wherever a write moves it, and one
that is inserted meanwhile not at all: so a loop ends, whatever its body does. A document that is deleted or
leaves the range before it is reached is not met; one that moves within what lies ahead is met where it went.

A walk costs an entry per document that it has met. From the first write to an index on, it has its own copy
of the keys that the transaction adds there: O(k) once, for k keys.
"""

from __future__ import annotations

from .added_keys import AddedKeys


class Walk:
    """One pass over documents, by one scan or several."""

    __slots__ = ("_met_moved", "_own", "met")

    def __init__(self) -> None:
        # Ids of what was given out, and of what was inserted since the walk began.
        self.met: set[str] = set()
        # Those of them that were met where the transaction had put them, and not where the state has them.
        self._met_moved: set[str] = set()
        # By index, where something was written since it began: the transaction's keys that may yet be met.
        self._own: dict[int, AddedKeys] = {}

    def meets(self, id: str, *, is_moved: bool) -> bool:
        """Is a document that the transaction wrote to be given out where a scan finds it?

        Not where the state has it, if it came back there after the walk had met it elsewhere.
        """
        if is_moved:
            self._met_moved.add(id)
        return is_moved or id not in self._met_moved

    def own_keys(self, index: int, added: AddedKeys | None) -> AddedKeys | None:
        """The transaction's keys in an index, of which it has added all these."""
        return self._own.get(index, added)

    def add(self, index: int, key: bytes, id: str, before: AddedKeys) -> None:
        """A write adds a key to an index, where these were before."""
        own = self._copy(index, before)
        if id not in self.met:
            own.add(key, id)

    def remove(self, index: int, key: bytes, before: AddedKeys) -> None:
        """A write takes back a key that the transaction had added."""
        self._copy(index, before).discard(key)

    def _copy(self, index: int, before: AddedKeys) -> AddedKeys:
        own = self._own.get(index)
        if own is None:
            own = self._own[index] = before.copy()
        return own
