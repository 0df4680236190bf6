"""Do index entries lie where their documents say?

The key of an entry is worked out from the stored document and the stored definition of the index, without the
application: so the documents of a table with an unfinished migration, which reads them in another form, are
only counted, and what the default of a nested field would be is not known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from ..values import UNSET, Unset, Value, decode, decode_key, encode_key, from_jsonable
from .sqlite_connection import SqlConnection

_CREATED = "_creationTime"
# As `engine.backfill` names them.
_BUILDING = "building"
_JOINED = (
    "SELECT key, entry.id, document.table_number, document.id, CAST(value AS BLOB) "
    "FROM index_entries AS entry LEFT JOIN documents AS document ON number = document_number "
    "WHERE index_number = ?"
)


class _Index(NamedTuple):
    number: int
    table_number: int
    table: str
    name: str
    fields: list[str]
    defaults: dict[str, Value]
    state: str


def entries_that_differ(connection: SqlConnection) -> Iterator[str]:
    """A sentence for each. Reads all entries and, for each of them, its document. Raises apsw.Error."""
    migrating = _migrating(connection)
    for index in _indexes(connection):
        count = 0
        for key, id, table_number, document_id, text in connection.execute(_JOINED, (index.number,)):
            count += 1
            place = f"index `{index.name}` of `{index.table}`"
            if (table_number, document_id) != (index.table_number, id):
                yield f"{place} has an entry for `{id}` that leads to `{document_id}`"
            elif index.table not in migrating and not _fits(index, key, id, text):
                yield f"{place} has `{id}` under a key that is not the document's"
        [(stored,)] = connection.execute(
            "SELECT count(*) FROM documents WHERE table_number = ?", (index.table_number,)
        ).fetchall()
        if count != stored and index.state != _BUILDING and index.table not in migrating:
            yield f"index `{index.name}` of `{index.table}` has {count} entries for {stored} documents"


def _indexes(connection: SqlConnection) -> list[_Index]:
    rows = connection.execute(
        "SELECT indexes.number, table_number, tables.name, indexes.name, fields, definition, state "
        "FROM indexes JOIN tables ON tables.number = table_number"
    ).fetchall()
    return [
        _Index(number, table_number, table, name, json.loads(fields), defaults, state)
        for number, table_number, table, name, fields, definition, state in rows
        # The documents themselves are in the order of ids.
        if json.loads(fields) != ["_id"] and (defaults := _defaults(definition)) is not None
    ]


def _defaults(definition: str) -> dict[str, Value] | None:
    """None: not a definition of the engine's, which makes such an index anew."""
    try:
        _, defaults = json.loads(definition)
        return {name: from_jsonable(value) for name, value in cast("dict[str, Any]", defaults).items()}
    except (ValueError, AttributeError):
        return None


def _migrating(connection: SqlConnection) -> set[str]:
    rows = connection.execute("SELECT value FROM meta WHERE key = 'migrations'").fetchall()
    records = cast("list[dict[str, Any]]", json.loads(rows[0][0])) if rows and rows[0][0] else []
    return {record["table"] for record in records if not record["finished"]}


def _fits(index: _Index, key: bytes, id: str, text: bytes) -> bool:
    try:
        document = cast("dict[str, Value]", decode(text))
    except ValueError:
        return False
    tail = id.encode()
    if not key.endswith(tail):
        return False
    fields = index.defaults | document
    expected = [_at_path(fields, name.split(".")) for name in index.fields]
    if index.fields[-1] != _CREATED:
        expected.append(document[_CREATED])
    if encode_key(expected) + tail == key:
        return True
    found = decode_key(key[: len(key) - len(tail)])
    return len(found) == len(expected) and all(
        encode_key((mine,)) == encode_key((theirs,))
        for name, mine, theirs in zip([*index.fields, _CREATED], expected, found, strict=False)
        if not ("." in name and mine is UNSET)
    )


def _at_path(fields: dict[str, Value], path: list[str]) -> Value | Unset:
    value: Value | Unset = cast("Value", fields)
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return UNSET
        value = value[name]
    return value
