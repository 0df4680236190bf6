"""What did a commit change, and which reads does that touch?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .document import IndexKey, StoredDocument

if TYPE_CHECKING:
    from .catalog import IndexState, TableState
    from .read_set import ReadSet


@dataclass(frozen=True, slots=True)
class DocumentChange:
    """One document before and after a commit; `None` where it did not exist."""

    table: TableState
    id: str
    old: StoredDocument | None
    new: StoredDocument | None

    def touched_keys(self) -> Iterator[tuple[IndexState, IndexKey, bool]]:
        """Every index key the change touches: (index, key, whether old and new share it)."""
        for index in self.table.all_indexes:
            old = self.old.key(index) if self.old is not None else None
            new = self.new.key(index) if self.new is not None else None
            if old is not None and new is not None and old.key == new.key:
                yield index, old, True
                continue
            if old is not None:
                yield index, old, False
            if new is not None:
                yield index, new, False


@dataclass(frozen=True, slots=True)
class WriteSet:
    changes: tuple[DocumentChange, ...]

    def size_bytes(self) -> int:
        """About what the change keeps in memory: both texts of each document, decoded and not."""
        return sum(
            (0 if change.old is None else change.old.weight_bytes)
            + (0 if change.new is None else change.new.weight_bytes)
            for change in self.changes
        )

    def intersects(self, read_set: ReadSet) -> DocumentChange | None:
        """The first change that the reader would have seen, or None."""
        for change in self.changes:
            for index, key, _ in change.touched_keys():
                for read in read_set.touching(index.number, key.key):
                    if read.notices(index, change.old, change.new):
                        return change
        return None
