"""Does what an application declares keep within its own limits?

Convex's bounds hold wherever a name or an index is declared; an application may set lower ones.
"""

from __future__ import annotations

from dataclasses import fields

from ..errors import LimitExceededError, SchemaError
from ..functions import Registry
from ..limits import DEFAULT_LIMITS, Limits
from ..schema import ObjectValidator, Schema, TableDefinition

_IMPLICIT_INDEX_COUNT = 2


def check_declared(schema: Schema, registry: Registry, limits: Limits) -> None:
    """Check the limits themselves, and what is declared against them.

    Raises:
        SchemaError: `InvalidLimit`.
        LimitExceededError: `IdentifierTooLong`, `TooManyIndexes`, `TooManyIndexFields`.
    """
    _check_limits(limits)
    for table in schema.tables.values():
        _check_table(table, limits)
    for function in registry:
        # Brought along by the product, not declared.
        if not function.path.startswith("_"):
            _check_name("function", function.path.rpartition(":")[2], limits)
            _check_path(function.path, limits)


def _check_path(path: str, limits: Limits) -> None:
    length_max = min(limits.function_path_length_max, DEFAULT_LIMITS.function_path_length_max)
    if len(path) > length_max:
        raise LimitExceededError(
            f"the path of a function may have {length_max} characters, `{path}` has {len(path)} - "
            "shorten the names of its folders",
            code="FunctionPathTooLong",
            limit="function_path_length_max",
            maximum=length_max,
            asked=len(path),
        )


def _check_limits(limits: object) -> None:
    if not isinstance(limits, Limits):
        raise SchemaError(f"`App(limits=)` expects `rdb.Limits(...)`, got `{limits!r}`", code="InvalidLimit")
    for field in fields(limits):
        value = getattr(limits, field.name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not value >= 0:  # not a number either
            raise SchemaError(
                f"`Limits({field.name}=)` expects a number from 0 on, got `{value!r}`",
                code="InvalidLimit",
                limit=field.name,
            )


def _check_table(table: TableDefinition, limits: Limits) -> None:
    _check_name("table", table.name, limits)
    if isinstance(table.validator, ObjectValidator):
        for field in table.validator.fields:
            _check_name(f"field of `{table.name}`", field.wire, limits)
    index_count = len(table.indexes) - _IMPLICIT_INDEX_COUNT
    if index_count > limits.indexes_per_table_max:
        raise LimitExceededError(
            f"a table may have {limits.indexes_per_table_max} indexes, `{table.name}` has {index_count} - "
            "drop some",
            code="TooManyIndexes",
            limit="indexes_per_table_max",
            maximum=limits.indexes_per_table_max,
            asked=index_count,
        )
    for index in table.indexes.values():
        if index.name in ("by_id", "by_creation_time"):
            continue  # given, not declared
        _check_name(f"index of `{table.name}`", index.name, limits)
        if len(index.fields) > limits.fields_per_index_max:
            raise LimitExceededError(
                f"an index may have {limits.fields_per_index_max} fields, `{table.name}.{index.name}` has "
                f"{len(index.fields)} - drop some",
                code="TooManyIndexFields",
                limit="fields_per_index_max",
                maximum=limits.fields_per_index_max,
                asked=len(index.fields),
            )


def _check_name(what: str, name: str, limits: Limits) -> None:
    if len(name) > limits.identifier_length_max:
        raise LimitExceededError(
            f"the name of a {what} may have {limits.identifier_length_max} characters, `{name}` has "
            f"{len(name)} - shorten it",
            code="IdentifierTooLong",
            limit="identifier_length_max",
            maximum=limits.identifier_length_max,
            asked=len(name),
        )
