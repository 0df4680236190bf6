"""How do an application's tables and functions look as Convex's tools expect them?

The JSON of a schema and the list of functions, as code generators and dashboards read them (sections a.6 and
g.6 of the protocol).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, cast

from ..protocol import identifier_of
from ..schema import IndexDefinition, TableDefinition
from ..values import Value, from_jsonable

if TYPE_CHECKING:
    from .http_router import HttpRoute
    from .registry import FunctionDefinition

_IMPLICIT = ("by_creation_time", "by_id")


def schema_spec(
    tables: Iterable[TableDefinition], *, without: Collection[tuple[str, str]] = ()
) -> dict[str, Any]:
    """The schema as JSON, `without` these indexes (table and name)."""
    found = sorted(tables, key=lambda table: table.name)
    return {
        "tables": [_table(definition, without) for definition in found],
        "schemaValidation": True,
    }


def function_spec(functions: Iterable[FunctionDefinition], routes: Iterable[HttpRoute]) -> list[Value]:
    """Functions under their identifiers, then HTTP actions; validators are values in it, not text."""
    found = sorted(functions, key=lambda known: known.path)
    spec = [_function(definition) for definition in found] + [_http_action(route) for route in routes]
    return cast("list[Value]", from_jsonable(spec))


def _table(definition: TableDefinition, without: Collection[tuple[str, str]]) -> dict[str, Any]:
    declared = [
        index
        for index in definition.indexes.values()
        if index.name not in _IMPLICIT and (definition.name, index.name) not in without
    ]
    return {
        "tableName": definition.name,
        "documentType": {"type": "any"} if definition.validator is None else definition.validator.export(),
        "indexes": [_index(index) for index in declared if not index.staged],
        "stagedDbIndexes": [_index(index) for index in declared if index.staged],
        "searchIndexes": [],
        "stagedSearchIndexes": [],
        "vectorIndexes": [],
        "stagedVectorIndexes": [],
    }


def _index(index: IndexDefinition) -> dict[str, Any]:
    return {"indexDescriptor": index.name, "fields": [*index.fields, "_creationTime"]}


def _http_action(route: HttpRoute) -> dict[str, Any]:
    return {"functionType": "HttpAction", "method": route.method, "path": route.pattern}


def _function(definition: FunctionDefinition) -> dict[str, Any]:
    return {
        "identifier": identifier_of(definition.path),
        "functionType": definition.kind.value.capitalize(),
        "visibility": {"kind": "internal" if definition.internal else "public"},
        "args": definition.args.export(),
        "returns": definition.returns.export(),
    }
