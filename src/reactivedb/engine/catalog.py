"""Which tables and indexes are there, under which numbers, and what is the key of a document in each?

Numbers are given once and never again in the life of a file: ids carry the number of their table, index
entries that of their index. A table that the program no longer declares keeps its number and documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from ..errors import SchemaError
from ..schema import IndexDefinition, TableDefinition
from ..storage import IndexRow, Storage, TableRow
from ..values import UNSET, Unset, Value, dumps, encode_key, key_parts, to_jsonable
from .document import IndexKey, StoredDocument
from .interval import EVERYTHING, Interval, just_above, prefix_interval

FIRST_USER_TABLE: Final = 10_001
ID_FIELDS: Final = ("_id",)
CREATION_FIELD: Final = "_creationTime"


@dataclass(frozen=True, slots=True)
class SystemTable:
    """A table of the product's own; its number is fixed, between 512 and 10,000."""

    number: int
    definition: TableDefinition


class IndexState:
    """One index of one table, under its number."""

    __slots__ = ("_paths", "_with_creation_time", "definition", "is_by_id", "number")

    def __init__(self, number: int, definition: IndexDefinition) -> None:
        self.number = number
        self.definition = definition
        self.is_by_id = definition.fields == ID_FIELDS
        self._paths = tuple(tuple(field.split(".")) for field in definition.fields)
        self._with_creation_time = definition.fields[-1] != CREATION_FIELD

    def key_of(self, document: StoredDocument) -> IndexKey:
        """Fields, then creation time, then id: a total and stable order."""
        tail = document.id.encode()
        if self.is_by_id:
            return IndexKey(tail, ())
        fields = document.table.definition.read_form(document.fields)
        values = [_at_path(fields, path) for path in self._paths]
        parts = key_parts(values)
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

    __slots__ = ("all_indexes", "by_creation_time", "by_id", "definition", "indexes", "number")

    def __init__(self, number: int, definition: TableDefinition, indexes: Mapping[str, IndexState]) -> None:
        self.number = number
        self.definition = definition
        self.indexes = dict(indexes)
        self.by_id = self.indexes["by_id"]
        self.by_creation_time = self.indexes["by_creation_time"]
        self.all_indexes = tuple(self.indexes.values())

    @property
    def name(self) -> str:
        return self.definition.name

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

    def __iter__(self) -> Iterator[TableState]:
        return iter(self._by_name.values())

    def table(self, name: str) -> TableState:
        """Raises: SchemaError `UnknownTable`."""
        try:
            return self._by_name[name]
        except KeyError:
            raise SchemaError(
                f"table `{name}` is not part of this application - pass the module that declares it to `App`",
                code="UnknownTable",
                table=name,
            ) from None

    def find(self, name: str) -> TableState | None:
        return self._by_name.get(name)

    def by_number(self, number: int) -> TableState | None:
        return self._by_number.get(number)


def index_definition_text(table: TableDefinition, index: IndexDefinition) -> str:
    """The text that changes exactly when the index has to be built again."""
    defaults = table.read_form({})
    heads = {field.split(".")[0] for field in index.fields}
    relevant = {name: to_jsonable(value) for name, value in sorted(defaults.items()) if name in heads}
    return dumps([list(index.fields), relevant]).decode()


def open_catalog(
    storage: Storage, tables: Iterable[TableDefinition], system: Iterable[SystemTable]
) -> tuple[Catalog, list[IndexState]]:
    """Give numbers to what is new, drop what is no longer declared; the second value is to be built.

    Writes into the storage's open group; the caller fills the indexes and flushes.
    """
    stored = storage.catalog()
    number_of = {row.name: row.number for row in stored.tables}
    rows = {(row.table_number, row.name): row for row in stored.indexes}
    next_table = max((n + 1 for n in number_of.values() if n >= FIRST_USER_TABLE), default=FIRST_USER_TABLE)
    next_index = max((row.number + 1 for row in stored.indexes), default=1)
    to_build: list[IndexState] = []
    states: list[TableState] = []
    wanted: list[tuple[int | None, TableDefinition]] = [(row.number, row.definition) for row in system]
    wanted += [(number_of.get(definition.name), definition) for definition in tables]
    for given, definition in wanted:
        number = given if given is not None else next_table
        next_table = max(next_table, number + 1)
        is_new = definition.name not in number_of
        if is_new:
            storage.put_table(TableRow(number, definition.name))
        indexes: dict[str, IndexState] = {}
        for index in definition.indexes.values():
            text = index_definition_text(definition, index)
            row = rows.pop((number, index.name), None)
            if row is None or row.definition != text:
                if row is not None:
                    storage.drop_index(row.number)
                row = IndexRow(next_index, number, index.name, index.fields, text, "building")
                next_index += 1
                storage.put_index(row)
            state = IndexState(row.number, index)
            indexes[index.name] = state
            if row.state == "building" and not state.is_by_id:
                to_build.append(state)
        states.append(TableState(number, definition, indexes))
    declared = {state.number for state in states}
    for row in rows.values():
        # A table that is not declared any more keeps its documents and the order they came in.
        if row.table_number in declared:
            storage.drop_index(row.number)
    return Catalog(states), to_build
