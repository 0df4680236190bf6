"""What becomes of the documents that refer to a deleted one?

`restrict` refuses the deletion, `cascade` deletes them too, `set_null` empties the field. The deletion and a
first batch of what follows happen in the mutation's own transaction. What is beyond a batch is carried on by
an internal job, which the same commit schedules: until it has run, children of a deleted parent are still
visible. A cascade that might meet a `restrict` is never split, since it could not be refused any more once
its beginning is committed: it fits into one transaction, or the deletion fails at the limit.

Children are dealt with deepest first, so what is left over is one path of parents and stays short. A cycle
ends by itself: a document that is gone is not found again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..engine import (
    Catalog,
    IndexScan,
    StoredDocument,
    TableState,
    Transaction,
    prefix_interval,
)
from ..errors import RequestError
from ..schema import Reference
from ..values import UNSET, Value

if TYPE_CHECKING:
    from .constraints import Constraints

# Children are looked up this many at a time.
_FETCHED_MAX = 128
# A batch leaves the mutation's own work at least this share of the limits.
_USED_MAX = 0.5


class _Parent:
    """A deleted document whose children are looked for, one referring field after the other."""

    def __init__(self, id: str, references: list[tuple[TableState, Reference]]) -> None:
        self.id = id
        self.references = references
        self.children: deque[tuple[TableState, Reference, str]] = deque()

    def next(self, transaction: Transaction) -> tuple[TableState, Reference, str] | None:
        while self.references and not self.children:
            table, reference = self.references[-1]
            found = transaction.probe(_referring(table, reference, self.id), _FETCHED_MAX)
            if len(found) < _FETCHED_MAX:
                self.references.pop()
            self.children.extend((table, reference, id) for id in found)
        return self.children.popleft() if self.children else None

    @property
    def is_done(self) -> bool:
        return not self.references and not self.children


@dataclass(frozen=True, slots=True)
class Continuation:
    """How a deletion goes on beyond one batch: `later` takes the parents that are not done.

    It may be told of a parent whose deletion is undone after all: `resume` leaves that one alone.
    """

    batch_max: int
    later: Callable[[list[str]], None]


class Cascade:
    """Deletions over one transaction; without a continuation, everything happens at once."""

    def __init__(
        self,
        transaction: Transaction,
        catalog: Catalog,
        constraints: Constraints,
        *,
        continuation: Continuation | None = None,
    ) -> None:
        self._transaction = transaction
        self._catalog = catalog
        self._constraints = constraints
        self._continuation = continuation

    def delete(self, document: StoredDocument) -> None:
        """Delete a document and see to those that refer to it. All or nothing.

        Raises:
            RequestError: `DeleteRestricted`.
        """
        if not self._catalog.references_to(document.table.name):
            self._transaction.delete(document)
            return
        mark = self._transaction.mark()
        try:
            self._transaction.delete(document)
            deleted = [document]
            batch = None if self._may_be_restricted(document.table.name) else self._continuation
            rest = self._sweep([document.id], deleted, batch=batch)
            for gone in deleted:
                self._check_restricted(gone)
            self._go_on(rest)  # The last step: what it notes is not undone here.
        except BaseException:
            self._transaction.rollback_to(mark)
            raise

    def resume(self, parents: list[str]) -> None:
        """The next batch for parents that are deleted; one that exists is left alone."""
        gone = [id for id in parents if self._transaction.get(id) is None]
        self._go_on(self._sweep(gone, [], batch=self._continuation, least=1))

    def _go_on(self, rest: list[str]) -> None:
        if rest:
            assert self._continuation is not None
            self._continuation.later(rest)

    def _sweep(
        self,
        parents: list[str],
        deleted: list[StoredDocument],
        *,
        batch: Continuation | None,
        least: int = 0,
    ) -> list[str]:
        """Deal with the children of deleted parents, a batch but at least `least` of them.

        Gives the parents that are not done yet.
        """
        path = [parent for id in parents if (parent := self._parent(id)) is not None]
        count = 0
        while path:
            parent = path[-1]
            child = parent.next(self._transaction)
            if child is None:
                path.pop()
                continue
            is_full = batch and (count >= batch.batch_max or self._transaction.usage.share() > _USED_MAX)
            if is_full and count >= least:
                return [parent.id for parent in path]
            if parent.is_done:
                path.pop()
            table, reference, id = child
            document = self._transaction.get(id)
            if document is None:
                continue  # An earlier step of this sweep has deleted it.
            count += 1
            if reference.action == "set_null":
                self._set_null(table, reference, document)
                continue
            self._transaction.delete(document)
            deleted.append(document)
            below = self._parent(id, table)
            if below is not None:
                path.append(below)
        return []

    def _parent(self, id: str, table: TableState | None = None) -> _Parent | None:
        """None if nothing can follow the deletion of that document."""
        table = table or self._catalog.table_of_id(id)
        if table is None:
            return None
        references = [
            (referring, reference)
            for referring, reference in self._catalog.references_to(table.name)
            if reference.action != "restrict"
        ]
        return _Parent(id, references) if references else None

    def _set_null(self, table: TableState, reference: Reference, document: StoredDocument) -> None:
        # The declaration says that the field may be empty, so the class's own validators are not asked:
        # in a job nobody could be told what they refuse.
        fields: dict[str, Value] = {
            name: value
            for name, value in document.fields.items()
            if name not in ("_id", "_creationTime", reference.field)
        }
        if reference.null is not UNSET:
            fields[reference.field] = None
        self._transaction.replace(document, self._constraints.checked(table, fields, document))

    def _check_restricted(self, deleted: StoredDocument) -> None:
        for table, reference in self._catalog.references_to(deleted.table.name):
            if reference.action != "restrict":
                continue
            for other in self._transaction.probe(_referring(table, reference, deleted.id), 1):
                raise RequestError(
                    f"document `{deleted.id}` of `{deleted.table.name}` cannot be deleted: document"
                    f" `{other}` of `{table.name}` refers to it in `{reference.field}` - delete that one"
                    " first, or give its field another value",
                    code="DeleteRestricted",
                    id=deleted.id,
                    table=table.name,
                    field=reference.field,
                    referring_id=other,
                )

    def _may_be_restricted(self, root: str) -> bool:
        """Can a document that goes with one of `root` be held by a `restrict`?"""
        reached: set[str] = set()
        names = [root]
        while names:
            for table, reference in self._catalog.references_to(names.pop()):
                if reference.action == "cascade" and table.name not in reached:
                    reached.add(table.name)
                    names.append(table.name)
        return any(
            reference.action == "restrict"
            for name in reached
            for _, reference in self._catalog.references_to(name)
        )


def _referring(table: TableState, reference: Reference, id: str) -> IndexScan:
    index = table.indexes[reference.index]
    prefix = index.prefix((id,))
    return IndexScan(table, index, prefix_interval(prefix), prefix)
