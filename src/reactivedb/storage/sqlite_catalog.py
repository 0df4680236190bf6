"""Tables and indexes as an SQLite file names them."""

from __future__ import annotations

import json
from typing import Any

from .contract import IndexRow, TableRow

TABLES = "SELECT number, name FROM tables ORDER BY number"
INDEXES = "SELECT number, table_number, name, fields, definition, state FROM indexes ORDER BY number"
PUT_TABLE = "INSERT INTO tables VALUES (?, ?)"
PUT_INDEX = "REPLACE INTO indexes VALUES (?, ?, ?, ?, ?, ?)"


def tables_of(rows: list[Any]) -> list[TableRow]:
    return [TableRow(*row) for row in rows]


def indexes_of(rows: list[Any]) -> list[IndexRow]:
    return [
        IndexRow(number, table_number, name, tuple(json.loads(fields)), definition, state)
        for number, table_number, name, fields, definition, state in rows
    ]


def to_row(row: IndexRow) -> tuple[Any, ...]:
    fields = json.dumps(row.fields, ensure_ascii=False)
    return (row.number, row.table_number, row.name, fields, row.definition, row.state)
