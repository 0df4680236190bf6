"""Which part of which index does a source of `db.query` name, in stored values?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from reactivedb.errors import SchemaError, ValidationError
from reactivedb.schema.document import Document
from reactivedb.schema.index import Bound, IndexDefinition, IndexRange, source_name
from reactivedb.schema.index_path import IndexField
from reactivedb.schema.table import Table, TableDefinition, table_definition
from reactivedb.values import UNSET, Unset, Value

Source: TypeAlias = "type[Document] | Table | IndexRange[Any]"
# The value, and whether it belongs to the range.
StoredBound: TypeAlias = "tuple[Value | Unset, bool]"


@dataclass(frozen=True, slots=True)
class IndexBounds:
    """Equality on the first fields of the index, then at most one bounded field."""

    table: TableDefinition
    index: IndexDefinition
    equal: tuple[Value | Unset, ...] = ()
    lower: StoredBound | None = None
    upper: StoredBound | None = None


def source_bounds(source: Source) -> IndexBounds:
    """Raises: ValidationError if the range asks for more fields than there are, or for a value that does not
    fit its field; SchemaError if the source is none."""
    if isinstance(source, IndexRange):
        return _range_bounds(source)
    if not isinstance(source, Table) and not _is_document_class(source):
        raise SchemaError(
            f"`{source!r}` cannot be queried: expected a `rdb.Document` class, a `rdb.Table`,"
            " or an index of one of them",
            code="UnknownTable",
        )
    definition = table_definition(source)
    return IndexBounds(definition, definition.indexes["by_creation_time"])


def _is_document_class(source: object) -> bool:
    return isinstance(source, type) and issubclass(source, Document)


def _range_bounds(range_: IndexRange[Any]) -> IndexBounds:
    definition = table_definition(range_.source)
    index = definition.indexes[range_.name]
    fields = definition.index_fields[range_.name]
    equal = range_.equal
    taken = len(equal)
    if taken > len(fields):
        raise ValidationError(
            f"`{source_name(range_.source)}.{range_.name}` takes at most {len(fields)} values, got {taken}"
            f" - drop the last {taken - len(fields)}",
            code="IndexPrefixTooLong",
            index=range_.name,
        )
    stored = tuple(_stored(field, value) for field, value in zip(fields, equal, strict=False))
    lower, upper = range_.lower, range_.upper
    if lower is None and upper is None:
        return IndexBounds(definition, index, stored)
    if taken == len(fields):
        raise ValidationError(
            f"`{range_!r}` bounds a field after the last one of its index - drop the bound, or the last value"
            " of `eq`",
            code="FieldNotInIndex",
            index=range_.name,
        )
    next_field = fields[taken]
    return IndexBounds(
        definition, index, stored, _stored_bound(next_field, lower), _stored_bound(next_field, upper)
    )


def _stored(field: IndexField, value: Any) -> Value | Unset:
    if value is UNSET or (value is None and field.none_is_absent):
        return UNSET
    return field.validator.dump(value, f".{field.path}")


def _stored_bound(field: IndexField, bound: Bound | None) -> StoredBound | None:
    if bound is None:
        return None
    value: Any = bound.value
    if value is UNSET or (value is None and field.none_is_absent):
        return UNSET, bound.inclusive
    if type(value) is float and float in field.validator.wire_types:
        # A bound may lie between the integers, or beyond all of them.
        return value, bound.inclusive
    return field.range_validator.dump(value, f".{field.path}"), bound.inclusive
