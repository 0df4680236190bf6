"""How does the state lie in an SQLite file: documents, and the index entries that lead to them?

Documents lie in the order of their numbers, that of their making. An entry names its document by id and by
number, so that a range goes from each of its entries to the document through three pages of numbers, whatever
the document's size. A table in the order of its ids (`WITHOUT ROWID`) would keep whole documents in its inner
pages, few to a page, and those of more than a thousand bytes in pages of their own.
"""

from __future__ import annotations

from collections.abc import Iterable

from .agreement import PROBLEM_COUNT_MAX
from .contract import Commit
from .sqlite_connection import SqlCursor

# Bytes are bound as they are and made text by SQLite: no copy through a Python string.
# A document that is there already keeps its number.
_PUT_DOCUMENT = (
    "INSERT INTO documents VALUES (?, ?, ?, ?, CAST(? AS TEXT)) "
    "ON CONFLICT (table_number, id) DO UPDATE SET ts = excluded.ts, value = excluded.value"
)
_DELETE_DOCUMENT = "DELETE FROM documents WHERE table_number = ? AND id = ?"
_PUT_ENTRY = "REPLACE INTO index_entries VALUES (?, ?, ?, ?)"
_PUT_ENTRY_OF_STORED = (
    "REPLACE INTO index_entries VALUES "
    "(?1, ?2, ?3, (SELECT number FROM documents WHERE table_number = ?4 AND id = ?3))"
)
_DELETE_ENTRY = "DELETE FROM index_entries WHERE index_number = ? AND key = ?"
_LAST_NUMBER = "SELECT coalesce(max(number), 0) FROM documents"

GET = "SELECT ts, CAST(value AS BLOB) FROM documents WHERE table_number = ? AND id = ?"
GET_MANY = (
    "SELECT id, ts, CAST(value AS BLOB) FROM documents "
    "WHERE table_number = ? AND id IN (SELECT value FROM json_each(?))"
)
# By how many they are: named one by one they are found in two thirds of the time.
GET_SOME = tuple(
    f"SELECT id, ts, CAST(value AS BLOB) FROM documents WHERE table_number = ? AND id IN ({'?, ' * count}?)"
    for count in range(32)
)
SCAN = (
    "SELECT key, id FROM index_entries WHERE index_number = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?"
)
SCAN_DOCUMENTS = (
    "SELECT key, entry.id, ts, CAST(value AS BLOB) "
    "FROM index_entries AS entry CROSS JOIN documents ON number = document_number "
    "WHERE index_number = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?"
)
SCAN_TABLE = (
    "SELECT id, ts, CAST(value AS BLOB) FROM documents WHERE table_number = ? AND id >= ? AND id < ? "
    "ORDER BY id LIMIT ?"
)
COUNT = "SELECT count(*) FROM index_entries WHERE index_number = ? AND key >= ? AND key < ?"
# Without looking at the keys it takes half as long.
COUNT_ALL = "SELECT count(*) FROM index_entries WHERE index_number = ?"


def reversed_order(statement: str) -> str:
    return statement.replace(" LIMIT ", " DESC LIMIT ")


class SqliteState:
    """Writes into the open group what a commit does to the state. Its methods raise apsw.Error."""

    def __init__(self) -> None:
        # Never given twice while the file is open; there may be gaps.
        self._last_number = 0

    def load(self, cursor: SqlCursor) -> None:
        [(self._last_number,)] = cursor.execute(_LAST_NUMBER).fetchall()

    def apply(self, cursor: SqlCursor, commit: Commit) -> None:
        put: list[tuple[int, int, str, int, bytes]] = []
        deleted: list[tuple[int, str]] = []
        new: dict[str, int] = {}
        for write in commit.writes:
            if write.value is None:
                deleted.append((write.table_number, write.id))
                continue
            self._last_number += 1
            put.append((self._last_number, write.table_number, write.id, commit.ts, write.value))
            if write.prev_ts is None:
                new[write.id] = self._last_number
        many = cursor.executemany
        if put:
            many(_PUT_DOCUMENT, put)
        if deleted:
            many(_DELETE_DOCUMENT, deleted)
        if commit.index_removed:
            many(_DELETE_ENTRY, commit.index_removed)
        of_new = [(*entry, new[entry[2]]) for entry in commit.index_added if entry[2] in new]
        if of_new:
            many(_PUT_ENTRY, of_new)
        if len(of_new) < len(commit.index_added):
            tables = {write.id: write.table_number for write in commit.writes}
            of_changed = [
                (*entry, tables.get(entry[2])) for entry in commit.index_added if entry[2] not in new
            ]
            many(_PUT_ENTRY_OF_STORED, of_changed)

    def fill_in(
        self, cursor: SqlCursor, table_number: int, entries: Iterable[tuple[int, bytes, str]]
    ) -> None:
        """Add entries of documents that are stored."""
        cursor.executemany(_PUT_ENTRY_OF_STORED, ((*entry, table_number) for entry in entries))


def entries_astray(cursor: SqlCursor) -> list[str]:
    """What is wrong with the numbers of entries, a sentence each; reads all of them."""
    rows = cursor.execute(
        "SELECT index_number, hex(key), entry.id FROM index_entries AS entry "
        "JOIN indexes ON indexes.number = index_number "
        "JOIN documents AS document "
        "ON document.table_number = indexes.table_number AND document.id = entry.id "
        "WHERE document_number IS NOT document.number LIMIT ?",
        (PROBLEM_COUNT_MAX,),
    ).fetchall()
    return [
        f"key {key.lower()} of index {index_number} leads to `{id}` by a number that is another's"
        for index_number, key, id in rows
    ]
