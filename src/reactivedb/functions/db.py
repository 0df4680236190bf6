"""How does a function read and write documents?

A thin, typed face over the engine's transaction: it knows user code's objects (documents, tables, ids) and
hands the engine checked fields. Nothing here touches storage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast, overload

from ..engine import Catalog, StoredDocument, Transaction
from ..errors import SchemaError, ValidationError
from ..schema import Document, Id, IndexRange, Table
from ..values import Value, decode_id
from .pagination import Journal
from .query import Query, merge_source, scan_source

D = TypeVar("D", bound=Document)
T = TypeVar("T")


class DatabaseReader:
    """`ctx.db` of a query."""

    def __init__(self, transaction: Transaction, catalog: Catalog, *, journal: Journal | None = None) -> None:
        self._transaction = transaction
        self._catalog = catalog
        self._journal = journal or Journal()

    @overload
    def get(self, id: Id[D], /) -> D | None: ...
    @overload
    def get(self, id: str, /) -> Any: ...
    def get(self, id: str, /) -> Any:
        """The document with that id, or None.

        Raises:
            ValidationError: `InvalidId`.
        """
        document = self._transaction.get(id)
        return None if document is None else document.object()

    @overload
    def get_many(self, ids: Iterable[Id[D]], /) -> list[D | None]: ...
    @overload
    def get_many(self, ids: Iterable[str], /) -> list[Any]: ...
    def get_many(self, ids: Iterable[str], /) -> list[Any]:
        """The documents with those ids in their order, None for each that there is not.

        Raises:
            ValidationError: `InvalidId`.
        """
        return [self.get(id) for id in ids]

    @overload
    def query(self, source: type[D] | IndexRange[D], /) -> Query[D]: ...
    @overload
    def query(self, source: Table | IndexRange[dict[str, Any]], /) -> Query[dict[str, Any]]: ...
    def query(self, source: Any, /) -> Query[Any]:
        """The documents of a table in the order of creation, or a range of one of its indexes."""
        return Query(scan_source(self._transaction, self._catalog, source), self._journal)

    def merge(self, *ranges: IndexRange[T]) -> Query[T]:
        """Several ranges of one table as one, each document once, in the order they have in common.

        That is the order of what follows their equal values: `merge(*(Message.by_channel.eq(c) for c in
        mine)).order("desc")` gives the messages of all channels, newest first, and reads of each channel
        no more than it shows.

        Raises:
            ValidationError: `MergeOrderMismatch`.
        """
        return Query(merge_source(self._transaction, self._catalog, ranges), self._journal)

    def normalize_id(self, table: type[D] | Table, text: str, /) -> Id[D] | None:
        """`text` as an id of that table, or None if it is not one. Says nothing about existence."""
        state = self._catalog.table(_table_name(table))
        try:
            number, _ = decode_id(text)
        except ValidationError:
            return None
        return cast("Id[D]", Id(text)) if number == state.number else None


class DatabaseWriter(DatabaseReader):
    """`ctx.db` of a mutation."""

    @overload
    def insert(self, document: D, /) -> Id[D]: ...
    @overload
    def insert(self, table: Table, fields: Mapping[str, Any], /) -> Id[Any]: ...
    def insert(self, document: Any, fields: Mapping[str, Any] | None = None, /) -> Id[Any]:
        """Store a new document and give its id."""
        state = self._catalog.table(_table_name(document if fields is not None else type(document)))
        values = state.definition.dump(document if fields is None else fields)
        self._transaction.check_ids(state, values)
        return Id(self._transaction.insert(state, values))

    @overload
    def patch(self, id: Id[Any], /, **fields: Any) -> None: ...
    @overload
    def patch(self, id: Id[Any], changes: Mapping[str, Any], /) -> None: ...
    def patch(self, id: str, changes: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """Set some fields; `UNSET` removes one. Nested objects are replaced whole.

        Raises:
            ValidationError: `DocumentNotFound`, or the result does not fit the table's validator.
        """
        document = self._existing(id)
        definition = document.table.definition
        merged = definition.dump_patch(_user_fields(document), {**(changes or {}), **fields})
        self._transaction.check_ids(document.table, merged)
        self._transaction.replace(document, merged)

    @overload
    def replace(self, id: Id[D], document: D, /) -> None: ...
    @overload
    def replace(self, id: Id[Any], document: Mapping[str, Any], /) -> None: ...
    def replace(self, id: str, document: Any, /) -> None:
        """Put a document in the place of another; id and creation time stay.

        Raises:
            ValidationError: `DocumentNotFound`, or another table's document.
        """
        existing = self._existing(id)
        values = existing.table.definition.dump(document)
        self._transaction.check_ids(existing.table, values)
        self._transaction.replace(existing, values)

    def delete(self, id: Id[Any], /) -> None:
        """Remove a document.

        Raises:
            ValidationError: `DocumentNotFound`.
        """
        self._transaction.delete(self._existing(id))

    def _existing(self, id: str) -> StoredDocument:
        document = self._transaction.existing(id)
        if document.table.name.startswith("_"):
            raise ValidationError(
                f"`{id}` is of the system table `{document.table.name}`, which functions cannot write",
                code="SystemTable",
            )
        return document


def _user_fields(document: StoredDocument) -> dict[str, Value]:
    return {name: value for name, value in document.fields.items() if name not in ("_id", "_creationTime")}


def _table_name(table: Any) -> str:
    name = table.name if isinstance(table, Table) else getattr(table, "__table__", None)
    if not isinstance(name, str):
        raise SchemaError(
            f"expected a `Document` class of a table or a `Table`, got `{table!r}`", code="NotATable"
        )
    return name
