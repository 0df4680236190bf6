"""Which documents, commits and recorded answers lie in damaged pages?

SQLite's own indexes have the names of the rows, so that each row can be tried by itself. What cannot even be
listed, because such an index is damaged, is said to be so. Costs a search for each row of a table that cannot
be read whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .agreement import PROBLEM_COUNT_MAX
from .sqlite_connection import SqlConnection
from .sqlite_errors import SQL_ERRORS

_NAMED_MAX = 20


@dataclass(frozen=True, slots=True)
class _Rows:
    """One table: all of it, the names of its rows from an index, and one row by the last part of its name."""

    kind: str
    everything: str
    names: str
    row: str
    say: str


_TABLES = (
    _Rows(
        "documents",
        "SELECT number, table_number, id, ts, CAST(value AS BLOB) FROM documents NOT INDEXED",
        "SELECT (SELECT name FROM tables WHERE number = table_number), id, documents.number "
        "FROM documents INDEXED BY sqlite_autoindex_documents_1 ORDER BY table_number, id",
        "SELECT ts, CAST(value AS BLOB) FROM documents WHERE number = ?",
        "document `{1}` of table `{0}`",
    ),
    _Rows(
        "the log",
        "SELECT ts, position, id, prev_ts, CAST(value AS BLOB) FROM log NOT INDEXED",
        "SELECT ts, position, rowid FROM log INDEXED BY sqlite_autoindex_log_1 ORDER BY ts, position",
        "SELECT id, prev_ts, CAST(value AS BLOB) FROM log WHERE rowid = ?",
        "write {1} of the commit at {0}",
    ),
    _Rows(
        "recorded answers",
        "SELECT ts, session_id, CAST(result AS BLOB), log_lines FROM outcomes NOT INDEXED",
        "SELECT session_id, request_id, ts FROM outcomes INDEXED BY sqlite_autoindex_outcomes_1",
        "SELECT CAST(result AS BLOB), log_lines FROM outcomes WHERE ts = ?",
        "the answer to request {1} of session `{0}`",
    ),
)


def unreadable_rows(connection: SqlConnection) -> list[str]:
    """A sentence for each row that cannot be read, up to a bound, and one for what cannot be listed."""
    problems: list[str] = []
    for table in _TABLES:
        problems += _unreadable(connection, table)
    for name, number in _indexes(connection, problems):
        if error := _error_of(connection, "SELECT key, id FROM index_entries WHERE index_number = ?", number):
            problems.append(f"{name} cannot be read whole: {error}")
    return problems[:PROBLEM_COUNT_MAX]


def _unreadable(connection: SqlConnection, table: _Rows) -> list[str]:
    names: list[tuple[Any, ...]] = []
    problems: list[str] = []
    try:
        names.extend(connection.execute(table.names))
    except SQL_ERRORS as error:
        problems.append(f"{table.kind} cannot all be listed: {error}")
    if _error_of(connection, table.everything) is None:
        return problems
    bad = [(name, error) for name in names if (error := _error_of(connection, table.row, name[-1]))]
    problems += [f"{table.say.format(*name)} cannot be read: {error}" for name, error in bad[:_NAMED_MAX]]
    if len(bad) > _NAMED_MAX:
        problems.append(f"{table.kind}: {len(bad) - _NAMED_MAX} more cannot be read")
    return problems


def _indexes(connection: SqlConnection, problems: list[str]) -> list[tuple[str, int]]:
    try:
        return [
            (f"index `{index}` of table `{table}`", number)
            for index, table, number in connection.execute(
                "SELECT indexes.name, tables.name, indexes.number FROM indexes "
                "JOIN tables ON tables.number = table_number"
            )
        ]
    except SQL_ERRORS as error:
        problems.append(f"the list of tables and indexes cannot be read: {error}")
        return []


def _error_of(connection: SqlConnection, statement: str, *bindings: Any) -> Exception | None:
    try:
        for _ in connection.execute(statement, bindings):
            pass
    except SQL_ERRORS as error:
        return error
    return None
