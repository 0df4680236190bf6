"""How does a function read and write documents?

A thin, typed face over the engine's transaction: it knows user code's objects (documents, tables, ids) and
hands the engine checked fields. Nothing here touches storage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Literal, TypeVar, cast, overload

from ..engine import Catalog, IndexScan, RangeRead, StoredDocument, Transaction, scan_of
from ..errors import SchemaError, ValidationError
from ..schema import Document, Id, IndexRange, Table, source_bounds
from ..values import Value, decode_id
from .predicate import repeatable, still_as

D = TypeVar("D", bound=Document)
T = TypeVar("T")


class OrderedQuery(Generic[T]):
    """A range of an index in one direction. Consumed once, by iterating or by one of the methods below."""

    def __init__(
        self, transaction: Transaction, scan: IndexScan, predicates: tuple[Callable[[Any], bool], ...] = ()
    ) -> None:
        self._transaction = transaction
        self._scan = scan
        self._predicates = predicates
        self._consumed = False

    def filter(self, keep: Callable[[T], bool], /) -> OrderedQuery[T]:
        """Only the documents for which `keep` holds. Every document of the range is still read."""
        self._once()
        return OrderedQuery(self._transaction, self._scan, (*self._predicates, keep))

    def __iter__(self) -> Iterator[T]:
        self._once()
        read = self._transaction.begin_scan(self._scan)
        read.predicates = repeatable(self._predicates)
        for document in self._transaction.documents(self._scan, read):
            value: T = document.object()
            if not self._predicates:
                yield value
            elif self._keep(read, value):
                yield value
                # The body of a loop over the query may give a captured variable another value.
                if read.predicates and not still_as(self._predicates, read.predicates):
                    read.unfilter()

    def _keep(self, read: RangeRead, value: T) -> bool:
        # A predicate that reads the database or draws a number cannot be asked outside of this run.
        outer, self._transaction.filtering = self._transaction.filtering, read
        try:
            return all(keep(value) for keep in self._predicates)
        finally:
            self._transaction.filtering = outer

    def collect(self) -> list[T]:
        """All documents of the range."""
        return list(self)

    def take(self, count: int, /) -> list[T]:
        """The first `count` documents; what lies behind them is not read."""
        if type(count) is not int or count < 0:
            raise ValidationError(
                f"`take` expects a number of documents from 0 on, got `{count!r}`", code="InvalidTake"
            )
        taken: list[T] = []
        if count == 0:
            self._once()
            return taken
        for document in self:
            taken.append(document)
            if len(taken) == count:
                break
        return taken

    def first(self) -> T | None:
        """The first document, or None."""
        return next(iter(self.take(1)), None)

    def unique(self) -> T | None:
        """The only document, or None.

        Raises:
            ValidationError: `NotUnique`, if there are two.
        """
        found = self.take(2)
        if len(found) == 2:
            raise ValidationError(
                f"the query of `{self._scan.table.name}` expected at most one document, but the result "
                "is not unique - use `first()`, or narrow the range",
                code="NotUnique",
                table=self._scan.table.name,
            )
        return found[0] if found else None

    def count(self) -> int:
        """How many documents there are; without a filter, from the index alone."""
        if self._predicates:
            return sum(1 for _ in self)
        self._once()
        return self._transaction.count(self._scan)

    def _once(self) -> None:
        if self._consumed:
            raise ValidationError(
                "a query is consumed once, this one was already - call `ctx.db.query` again",
                code="QueryConsumed",
            )
        self._consumed = True


class Query(OrderedQuery[T]):
    """A range of an index, in ascending order unless `order` says otherwise."""

    def order(self, direction: Literal["asc", "desc"], /) -> OrderedQuery[T]:
        """Set the direction; `desc` reverses everything, ties included."""
        if direction not in ("asc", "desc"):
            raise ValidationError(
                f'`order` expects "asc" or "desc", got `{direction!r}`', code="InvalidOrder"
            )
        self._once()
        scan = self._scan
        reverse = direction == "desc"
        return OrderedQuery(
            self._transaction, IndexScan(scan.table, scan.index, scan.interval, scan.prefix, reverse)
        )


class DatabaseReader:
    """`ctx.db` of a query."""

    def __init__(self, transaction: Transaction, catalog: Catalog) -> None:
        self._transaction = transaction
        self._catalog = catalog

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
    def query(self, source: type[D] | IndexRange[D], /) -> Query[D]: ...
    @overload
    def query(self, source: Table | IndexRange[dict[str, Any]], /) -> Query[dict[str, Any]]: ...
    def query(self, source: Any, /) -> Query[Any]:
        """The documents of a table in the order of creation, or a range of one of its indexes."""
        return Query(self._transaction, scan_of(self._catalog, source_bounds(source)))

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
