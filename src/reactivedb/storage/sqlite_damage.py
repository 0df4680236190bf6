"""What could not be read: which document, range, commit or answer?

Asked once a statement has failed, so that reading costs nothing for it. The names of tables and indexes may
lie in the damaged part themselves; then their numbers have to do.
"""

from __future__ import annotations

import json
from typing import Any

from . import sqlite_outcomes
from .sqlite_connection import SqlConnection
from .sqlite_errors import SQL_ERRORS
from .sqlite_state import GET, GET_MANY, GET_SOME, SCAN, SCAN_DOCUMENTS, SCAN_TABLE

_TABLE = "SELECT name FROM tables WHERE number = ?"
_INDEX = (
    "SELECT indexes.name, tables.name FROM indexes JOIN tables ON tables.number = table_number "
    "WHERE indexes.number = ?"
)
# The entries of a range, each with what leads to its document.
_ENTRIES = "SELECT id, document_number FROM index_entries WHERE index_number = ? AND key >= ? AND key < ?"
_DOCUMENT = "SELECT CAST(value AS BLOB) FROM documents WHERE number = ?"
_IDS = "SELECT id FROM documents WHERE table_number = ? AND id >= ? AND id < ?"
_ONE = "SELECT CAST(value AS BLOB) FROM documents WHERE table_number = ? AND id = ?"
_LOG_PLACES = "SELECT ts, rowid FROM log WHERE ts > ? ORDER BY ts, position"
_LOG_ROW = "SELECT CAST(value AS BLOB) FROM log WHERE rowid = ?"


def what_was_read(connection: SqlConnection, sql: str, bindings: tuple[Any, ...]) -> str:
    """Ends a sentence that begins with `could not`. `sql` is a statement of `SqliteStorage`."""
    forward = sql.replace(" DESC LIMIT ", " LIMIT ")
    if sql in (GET, GET_MANY) or sql in GET_SOME:
        ids: list[str] = json.loads(bindings[1]) if sql == GET_MANY else list(bindings[1:])
        ids = [id for id in ids if not _reads(connection, _ONE, bindings[0], id)] or ids
        shown = ", ".join(f"`{id}`" for id in ids[:3]) + (" and more" if len(ids) > 3 else "")
        return f"read document {shown} of table {_table(connection, bindings[0])}"
    if forward in (SCAN, SCAN_DOCUMENTS):
        table, index = _index(connection, bindings[0])
        found = _first_bad(connection, (_ENTRIES, bindings[:3]), _DOCUMENT)
        return (
            f"read document `{found}` of table {table}" if found else f"read index {index} of table {table}"
        )
    if forward == SCAN_TABLE:
        table = _table(connection, bindings[0])
        for (id,) in _rows(connection, _IDS, bindings[:3]):
            if not _reads(connection, _ONE, bindings[0], id):
                return f"read document `{id}` of table {table}"
        return f"read table {table}"
    if sql in (sqlite_outcomes.GET, sqlite_outcomes.AFTER):
        return f"read the recorded answers of session `{bindings[0]}`"
    if " FROM log " in sql and bindings and isinstance(bindings[0], int):
        if "ts = ?" in sql:
            return f"read the commit at {bindings[0]}"
        ts = _first_bad(connection, (_LOG_PLACES, bindings[:1]), _LOG_ROW)
        return f"read the commit at {ts}" if ts else f"read the log behind {bindings[0]}"
    return "read the database"


def _table(connection: SqlConnection, number: Any) -> str:
    rows = _rows(connection, _TABLE, (number,))
    return f"`{rows[0][0]}`" if rows else f"{number}"


def _index(connection: SqlConnection, number: Any) -> tuple[str, str]:
    rows = _rows(connection, _INDEX, (number,))
    return (f"`{rows[0][1]}`", f"`{rows[0][0]}`") if rows else ("(unknown)", f"{number}")


def _first_bad(connection: SqlConnection, names: tuple[str, tuple[Any, ...]], row: str) -> Any:
    """The name of the first row that cannot be read."""
    for name, number in _rows(connection, *names):
        if number is not None and not _reads(connection, row, number):
            return name
    return None


def _rows(connection: SqlConnection, sql: str, bindings: tuple[Any, ...]) -> list[Any]:
    """As far as they can be read."""
    found: list[Any] = []
    try:
        found.extend(connection.execute(sql, bindings))
    except SQL_ERRORS:
        return found
    return found


def _reads(connection: SqlConnection, sql: str, *bindings: Any) -> bool:
    try:
        connection.execute(sql, bindings).fetchall()
    except SQL_ERRORS:
        return False
    return True
