"""How does a function read and write documents?

A thin, typed face over the engine's transaction: it knows user code's objects (documents, tables, ids) and
hands the engine checked fields. Nothing here touches storage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, cast, overload

from ..engine import Catalog, StoredDocument, TableState, Transaction
from ..errors import SchemaError, ValidationError
from ..schema import SYSTEM_FIELDS, Document, Id, IndexRange, Table, shown
from ..values import Value, decode_id
from .cascade import Cascade, Continuation
from .constraints import Constraints
from .pagination import Journal
from .query import Query, merge_source, scan_source
from .system_db import SystemReader
from .upsert import Upserted, given_fields, upsert_key

D = TypeVar("D", bound=Document)
T = TypeVar("T")

_WRITES: Final = {"insert", "patch", "replace", "upsert", "delete"}


class DatabaseReader:
    """`ctx.db` of a query."""

    def __init__(self, transaction: Transaction, catalog: Catalog, *, journal: Journal | None = None) -> None:
        self._transaction = transaction
        self._all_tables = catalog
        # Reads and writes of system tables end here: they are not in it.
        self._catalog = catalog.user_tables
        self._journal = journal or Journal()

    @property
    def system(self) -> SystemReader:
        """The product's own tables: jobs and files."""
        return SystemReader(self._transaction, self._all_tables, self._journal)

    @overload
    def get(self, id: Id[D], /) -> D | None: ...
    @overload
    def get(self, id: str, /) -> Any: ...
    def get(self, id: str, /) -> Any:
        """The document with that id, or None.

        Raises:
            ValidationError: `InvalidId`; `SystemTable`, for the id of a job or a file.
        """
        document = self._transaction.get(id)
        table = self._all_tables.by_number(decode_id(id)[0]) if document is None else document.table
        if table is not None and table.is_system:
            raise ValidationError(
                f"`ctx.db.get` reads your own tables, got `{id}` of the system table `{table.name}` - "
                "use `ctx.db.system.get`",
                code="SystemTable",
                id=id,
            )
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

    @overload
    def normalize_id(self, table: type[D], text: str, /) -> Id[D] | None: ...
    @overload
    def normalize_id(self, table: Table | str, text: str, /) -> Id[Any] | None: ...
    def normalize_id(self, table: type[Document] | Table | str, text: str, /) -> Id[Any] | None:
        """`text` as an id of that table, or None if it is not one. Says nothing about existence.

        Raises:
            SchemaError: `UnknownTable`.
        """
        state = self._all_tables.table(table if isinstance(table, str) else _table_name(table))
        try:
            number, _ = decode_id(text)
        except ValidationError:
            return None
        return Id(text) if number == state.number else None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            text = f"`ctx.db` has no `{name}`"
            if name in _WRITES:
                text = f"`ctx.db.{name}` writes, and a query only reads - make the function a mutation"
            raise AttributeError(text, name=name, obj=self)


class DatabaseWriter(DatabaseReader):
    """`ctx.db` of a mutation."""

    def __init__(
        self,
        transaction: Transaction,
        catalog: Catalog,
        *,
        journal: Journal | None = None,
        continuation: Continuation | None = None,
    ) -> None:
        super().__init__(transaction, catalog, journal=journal)
        self._constraints = Constraints(transaction)
        self._cascade = Cascade(transaction, catalog, self._constraints, continuation=continuation)

    @overload
    def insert(self, document: D, /) -> Id[D]: ...
    @overload
    def insert(self, table: Table, fields: Mapping[str, Any], /) -> Id[Any]: ...
    def insert(self, document: Any, fields: Mapping[str, Any] | None = None, /) -> Id[Any]:
        """Store a new document and give its id.

        Raises:
            RequestError: `UniqueViolation`.
            SchemaError: `NotATable`.
        """
        if fields is None and not isinstance(document, Document):
            raise SchemaError(
                f"expected a document or a table with its fields, got `{document!r}` alone"
                " - write `insert(Message(...))`, or `insert(table, {...})`",
                code="NotATable",
            )
        state = self._catalog.table(_table_name(document if fields is not None else type(document)))
        return self._insert(state, state.definition.dump(document if fields is None else fields))

    def _insert(self, state: TableState, values: dict[str, Value]) -> Id[Any]:
        self._transaction.check_ids(state, values)
        return Id(self._transaction.insert(state, self._constraints.checked(state, values)))

    @overload
    def patch(self, id: Id[Any], /, **fields: Any) -> None: ...
    @overload
    def patch(self, id: Id[Any], changes: Mapping[str, Any], /) -> None: ...
    def patch(self, id: str, changes: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """Set some fields; `UNSET` removes one. Nested objects are replaced whole.

        Raises:
            ValidationError: `DocumentNotFound`, or the result does not fit the table's validator.
            RequestError: `UniqueViolation`, `TransitionNotAllowed`.
        """
        document = self._existing(id)
        definition = document.table.definition
        changed = _without_own_system_fields(document, {**_changes(changes), **fields})
        self._replace(document, definition.dump_patch(_user_fields(document), changed))

    @overload
    def replace(self, id: Id[D], document: D, /) -> None: ...
    @overload
    def replace(self, id: Id[Any], document: Mapping[str, Any], /) -> None: ...
    def replace(self, id: str, document: Any, /) -> None:
        """Put a document in the place of another; id and creation time stay, and may be given as they are.

        Raises:
            ValidationError: `DocumentNotFound`, or another table's document.
            RequestError: `UniqueViolation`, `TransitionNotAllowed`.
        """
        existing = self._existing(id)
        if isinstance(document, Mapping):
            document = _without_own_system_fields(existing, cast("Mapping[str, Any]", document))
        self._replace(existing, existing.table.definition.dump(document))

    def _replace(self, existing: StoredDocument, values: dict[str, Value]) -> None:
        self._transaction.check_ids(existing.table, values)
        checked = self._constraints.checked(existing.table, values, existing)
        self._transaction.replace(existing, checked)

    @overload
    def upsert(self, key: IndexRange[D], document: D, /) -> Upserted[D]: ...
    @overload
    def upsert(self, key: IndexRange[D], /, **fields: Any) -> Upserted[D]: ...
    @overload
    def upsert(self, key: IndexRange[Any], fields: Mapping[str, Any], /) -> Upserted[Any]: ...
    def upsert(self, key: IndexRange[Any], document: Any = None, /, **fields: Any) -> Upserted[Any]:
        """Insert a document, or patch the one that a unique index has at `key`.

        `upsert(User.by_email.eq(email), name=name)`: the fields of the key need not be given again. What was
        given explicitly is changed; all else of a document that is there stays.

        Raises:
            ValidationError: `UpsertNeedsUnique`, `UpsertKeyMismatch`, `InvalidUpsert`, or what does not fit.
            RequestError: `UniqueViolation` of another index, `TransitionNotAllowed`.
        """
        place = upsert_key(self._catalog, key)
        given = given_fields(document, fields)
        found = next((document for document, _ in self._transaction.scan(place.scan)), None)
        if found is None:
            return Upserted(self._insert(place.table, place.new_fields(given)), created=True)
        if isinstance(given, Mapping):
            given = _without_own_system_fields(found, given)
        self._replace(found, place.changed_fields(found, given))
        return Upserted(Id(found.id), created=False)

    def delete(self, id: Id[Any], /) -> None:
        """Remove a document, and do what `rdb.OnDelete` says to those that refer to it.

        Raises:
            ValidationError: `DocumentNotFound`.
            RequestError: `DeleteRestricted`.
        """
        self._cascade.delete(self._existing(id))

    def _existing(self, id: str) -> StoredDocument:
        document = self._transaction.existing(id)
        if document.table.name.startswith("_"):
            raise ValidationError(
                f"`{id}` is of the system table `{document.table.name}`, which functions cannot write",
                code="SystemTable",
            )
        return document


def cascade_of(db: DatabaseWriter) -> Cascade:
    """For the job that carries a deletion on; user code has `db.delete`."""
    # Not an attribute that user code sees.
    return db._cascade  # pyright: ignore[reportPrivateUsage]


def _user_fields(document: StoredDocument) -> dict[str, Value]:
    return {name: value for name, value in document.fields.items() if name not in ("_id", "_creationTime")}


def _without_own_system_fields(document: StoredDocument, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What was read may be written back.

    Raises:
        ValidationError: `InvalidFieldName`, for an id or a creation time that is not the document's own.
    """
    for name in SYSTEM_FIELDS & fields.keys():
        if fields[name] != (own := document.fields[name]):
            raise ValidationError(
                f"`{name}` of a document stays as it is, expected {shown(own)}, got {shown(fields[name])}"
                " - leave it out",
                code="InvalidFieldName",
                path=f".{name}",
            )
    return {name: value for name, value in fields.items() if name not in SYSTEM_FIELDS}


def _changes(given: object) -> Mapping[str, Any]:
    if given is None or isinstance(given, Mapping):
        return cast("Mapping[str, Any]", given or {})
    raise ValidationError(
        "`patch` expects the fields to change, as arguments or as one dict, got an object of type"
        f" `{type(given).__name__}` - use `replace` for a whole document",
        code="InvalidPatch",
    )


def _table_name(table: Any) -> str:
    name = table.name if isinstance(table, Table) else getattr(table, "__table__", None)
    if not isinstance(name, str):
        raise SchemaError(
            f"expected a `Document` class of a table or a `Table`, got `{table!r}`", code="NotATable"
        )
    return name
