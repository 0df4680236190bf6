"""Which tables and indexes are there, under which numbers, and what is the key of a document in each?

Numbers are given once and never again in the life of a file: ids carry the number of their table, index
entries that of their index. A table that the program no longer declares keeps its number and documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final, cast

from ..errors import SchemaError, ValidationError
from ..schema import IndexDefinition, Reference, TableDefinition
from ..storage import IndexRow, Storage, TableRow
from ..values import UNSET, Unset, Value, decode_id, dumps, encode_key, key_parts, to_jsonable
from .backfill import BUILDING, READY, STAGED
from .document import IndexKey, StoredDocument
from .interval import EVERYTHING, Interval, just_above, prefix_interval
from .mismatches import SchemaChange

if TYPE_CHECKING:
    from .migrations import Upgrade

FIRST_USER_TABLE: Final = 10_001
ID_FIELDS: Final = ("_id",)
IMPLICIT_INDEX_NAMES: Final = ("by_id", "by_creation_time")
CREATION_FIELD: Final = "_creationTime"
_CREATED_SIZE: Final = len(encode_key((0.0,)))


@dataclass(frozen=True, slots=True)
class SystemTable:
    """A table of the product's own; its number is fixed, between 512 and 10,000."""

    number: int
    definition: TableDefinition


class IndexState:
    """One index of one table, under its number."""

    __slots__ = ("_heads", "_paths", "_with_creation_time", "definition", "is_by_id", "number", "state")

    def __init__(self, number: int, definition: IndexDefinition, *, state: str = READY) -> None:
        self.number = number
        self.definition = definition
        self.state = state
        self.is_by_id = definition.fields == ID_FIELDS
        self._paths = tuple(tuple(field.split(".")) for field in definition.fields)
        # The fields of a document in which the index looks, but for those that no version changes.
        self._heads = tuple(path[0] for path in self._paths if path[0] not in ("_id", CREATION_FIELD))
        self._with_creation_time = definition.fields[-1] != CREATION_FIELD

    def key_of(self, document: StoredDocument) -> IndexKey:
        """Fields, then creation time, then id: a total and stable order."""
        tail = document.id.encode()
        if self.is_by_id:
            return IndexKey(tail, ())
        fields = document.table.definition.read_form(document.fields)
        parts = key_parts(self.values_in(fields))
        ends: list[int] = []
        end = 0
        for part in parts:
            end += len(part)
            ends.append(end)
        if self._with_creation_time:
            # A range may name the creation time as its last equal value, so that ends a prefix too.
            created = encode_key((document.creation_time,))
            ends.append(end + len(created))
            return IndexKey(b"".join((*parts, created, tail)), tuple(ends))
        return IndexKey(b"".join((*parts, tail)), tuple(ends))

    def values_in(self, fields: Mapping[str, Value]) -> list[Value | Unset]:
        """The values of the index's fields in a document in read form."""
        return [
            fields.get(path[0], UNSET) if len(path) == 1 else _at_path(fields, path) for path in self._paths
        ]

    def looks_alike(self, one: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
        """Are the fields of two versions the very same objects, as far as the index looks at them?

        The quick answer for a patch of other fields. A list or dict may have been changed in place.
        """
        for head in self._heads:
            value = one.get(head, UNSET)
            if value is not other.get(head, UNSET) or isinstance(value, (list, dict)):
                return False
        return True

    @property
    def complete_state(self) -> str:
        """What the index is once all its entries are there."""
        return STAGED if self.definition.staged else READY

    @property
    def enforces_unique(self) -> bool:
        """Whether two documents with the same values in its fields are refused."""
        return self.definition.unique and not self.definition.staged

    def fields_of_key(self, key: bytes, id: str) -> bytes:
        """The part of a key that the declared fields make: without creation time and id."""
        end = len(key) - len(id)
        return key[: end - _CREATED_SIZE] if self._with_creation_time else key[:end]

    def prefix(self, equal: tuple[Value | Unset, ...]) -> bytes:
        if self.is_by_id:
            return str(equal[0]).encode() if equal else b""
        return encode_key(equal)

    def interval(
        self,
        equal: tuple[Value | Unset, ...],
        lower: tuple[Value | Unset, bool] | None,
        upper: tuple[Value | Unset, bool] | None,
    ) -> Interval:
        """The keys with that equality prefix whose next field lies within the bounds."""
        prefix = self.prefix(equal)
        if self.is_by_id and equal:
            return prefix, just_above(prefix)
        low, high = prefix_interval(prefix) if prefix else EVERYTHING
        # Ids are plain bytes, not encoded values: the next id after one is one byte longer.
        after = b"\x00" if self.is_by_id else b"\xff"
        if lower is not None:
            value, inclusive = lower
            low = prefix + self.prefix((value,)) + (b"" if inclusive else after)
        if upper is not None:
            value, inclusive = upper
            high = prefix + self.prefix((value,)) + (after if inclusive else b"")
        return low, max(low, high)

    def __repr__(self) -> str:
        return f"IndexState({self.definition.table}.{self.definition.name}, number={self.number})"


def _at_path(fields: Mapping[str, Value], path: tuple[str, ...]) -> Value | Unset:
    value: Value | Unset = cast("dict[str, Value]", fields)
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return UNSET
        value = value[name]
    return value


class TableState:
    """One table under its number, with its indexes."""

    __slots__ = ("all_indexes", "by_creation_time", "by_id", "definition", "indexes", "number", "upgrade")

    def __init__(self, number: int, definition: TableDefinition, indexes: Mapping[str, IndexState]) -> None:
        self.number = number
        self.definition = definition
        self.indexes = dict(indexes)
        self.by_id = self.indexes["by_id"]
        self.by_creation_time = self.indexes["by_creation_time"]
        self.all_indexes = tuple(self.indexes.values())
        # What versions go through that migrations have not rewritten yet; None: there are none.
        self.upgrade: Upgrade | None = None

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def is_system(self) -> bool:
        return self.definition.name.startswith("_")

    @property
    def stored_indexes(self) -> tuple[IndexState, ...]:
        """All but `by_id`, which the documents themselves are."""
        return tuple(index for index in self.all_indexes if not index.is_by_id)

    def __repr__(self) -> str:
        return f"TableState({self.name}, number={self.number})"


class Catalog:
    """The declared tables over what the file holds."""

    def __init__(self, tables: Iterable[TableState]) -> None:
        self._by_name = {table.name: table for table in tables}
        self._by_number = {table.number: table for table in self._by_name.values()}
        self._references: dict[str, list[tuple[TableState, Reference]]] = {}
        for table in self._by_name.values():
            for reference in table.definition.rules.references:
                self._references.setdefault(reference.target, []).append((table, reference))

    def add(self, table: TableState) -> None:
        """Take in one that was made; it refers to no other."""
        for catalog in (self, self.user_tables):
            catalog._by_name[table.name] = table
            catalog._by_number[table.number] = table

    def __iter__(self) -> Iterator[TableState]:
        return iter(self._by_name.values())

    def table(self, name: str) -> TableState:
        """Raises: SchemaError `UnknownTable`, `SystemTable`."""
        try:
            return self._by_name[name]
        except KeyError:
            if name.startswith("_"):
                raise SchemaError(
                    f"`{name}` is a system table, which functions only read - use `ctx.db.system`",
                    code="SystemTable",
                    table=name,
                ) from None
            raise SchemaError(
                f"table `{name}` is not part of this application - pass the module that declares it to `App`",
                code="UnknownTable",
                table=name,
            ) from None

    @cached_property
    def user_tables(self) -> Catalog:
        """The same without system tables: what `ctx.db` knows of."""
        return Catalog(table for table in self if not table.is_system)

    def find(self, name: str) -> TableState | None:
        return self._by_name.get(name)

    def references_to(self, name: str) -> Sequence[tuple[TableState, Reference]]:
        """The fields that have a rule for the deletion of that table's documents."""
        return self._references.get(name, ())

    def table_of_id(self, id: str) -> TableState | None:
        """Raises: ValidationError `InvalidId`."""
        return self.by_number(decode_id(id)[0])

    def by_number(self, number: int) -> TableState | None:
        return self._by_number.get(number)

    def check_id(self, id: str, table_name: str, path: str) -> None:
        """Refuse an id of another table.

        Raises:
            ValidationError: with the path of the id.
        """
        table = self.by_number(decode_id(id)[0])
        if table is None or table.name != table_name:
            owner = f"table `{table.name}`" if table is not None else "no table of this application"
            raise ValidationError(
                f"expected an id of table `{table_name}`, got `{id}` of {owner} at `{path}`",
                path=path,
                expected=table_name,
                got=id,
            )


def index_definition_text(table: TableDefinition, index: IndexDefinition) -> str:
    """The text that changes exactly when the index has to be built again."""
    defaults = table.read_form({})
    heads = {field.split(".")[0] for field in index.fields}
    relevant = {name: to_jsonable(value) for name, value in sorted(defaults.items()) if name in heads}
    return dumps([list(index.fields), relevant]).decode()


@dataclass(frozen=True, slots=True)
class OpenedCatalog:
    """The catalog, with what a declaration changes in the file."""

    catalog: Catalog
    changes: list[SchemaChange]
    dropped_index_numbers: list[int]


def open_catalog(
    storage: Storage,
    tables: Iterable[TableDefinition],
    system: Iterable[SystemTable],
    *,
    reindexed: frozenset[str] = frozenset(),
) -> OpenedCatalog:
    """Give numbers to what is new, drop what is no longer declared; new indexes are in state `building`.

    All indexes of the tables in `reindexed` are made new. Writes into the storage's open group; the caller
    fills the indexes and flushes.
    """
    opening = _Opening(storage)
    number_of = {row.name: row.number for row in storage.catalog().tables}
    next_table = max((n + 1 for n in number_of.values() if n >= FIRST_USER_TABLE), default=FIRST_USER_TABLE)
    states: list[TableState] = []
    wanted: list[tuple[int | None, TableDefinition]] = [(row.number, row.definition) for row in system]
    wanted += [(number_of.get(definition.name), definition) for definition in tables]
    for given, definition in wanted:
        number = given if given is not None else next_table
        next_table = max(next_table, number + 1)
        is_new = definition.name not in number_of
        if is_new:
            storage.put_table(TableRow(number, definition.name))
            opening.changes.append(SchemaChange("added", definition.name))
        indexes = {
            index.name: opening.index(number, definition, index, anew=definition.name in reindexed)
            for index in definition.indexes.values()
        }
        states.append(TableState(number, definition, indexes))
    names = {state.name for state in states}
    opening.changes += [SchemaChange("declared no more", name) for name in number_of if name not in names]
    opening.drop_rest({state.number: state.name for state in states})
    return OpenedCatalog(Catalog(states), opening.changes, opening.dropped)


class _Opening:
    """The rows of indexes while they are compared with the declared ones."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        rows = storage.catalog().indexes
        self._rows = {(row.table_number, row.name): row for row in rows}
        self._next = max((row.number + 1 for row in rows), default=1)
        self.changes: list[SchemaChange] = []
        self.dropped: list[int] = []

    def index(
        self, table_number: int, table: TableDefinition, index: IndexDefinition, *, anew: bool
    ) -> IndexState:
        text = index_definition_text(table, index)
        row = self._rows.pop((table_number, index.name), None)
        is_by_id = index.fields == ID_FIELDS
        if row is None or row.definition != text or (anew and not is_by_id):
            if row is not None:
                self._drop(row.number)
            if index.name not in IMPLICIT_INDEX_NAMES:
                kind = "added" if row is None else "built again"
                self.changes.append(SchemaChange(kind, table.name, index.name))
            state = READY if is_by_id else BUILDING
            row = IndexRow(self._next, table_number, index.name, index.fields, text, state)
            self._next += 1
            self._storage.put_index(row)
        found = IndexState(row.number, index, state=row.state)
        if found.state not in (BUILDING, found.complete_state):
            # Its entries are all there, so a staged index opens, or closes, at once.
            self._storage.put_index(replace(row, state=found.complete_state))
            found.state = found.complete_state
        return found

    def _drop(self, number: int) -> None:
        self._storage.drop_index(number)
        self.dropped.append(number)

    def drop_rest(self, declared: Mapping[int, str]) -> None:
        for row in self._rows.values():
            # A table that is not declared any more keeps its documents and the order they came in.
            if row.table_number in declared:
                self._drop(row.number)
                self.changes.append(SchemaChange("dropped", declared[row.table_number], row.name))
