"""Reading half of a database in one SQLite file: its documents, index entries, log and recorded answers."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any

from . import sqlite_outcomes
from .contract import DocumentWrite, Outcome, StoredVersion
from .sqlite_state import (
    COUNT,
    COUNT_ALL,
    GET,
    GET_MANY,
    GET_SOME,
    SCAN,
    SCAN_DOCUMENTS,
    SCAN_TABLE,
    reversed_order,
)

LOG_COLUMNS = "SELECT ts, position, table_number, id, prev_ts, CAST(value AS BLOB) FROM log "
_SCAN_REVERSE = reversed_order(SCAN)
_SCAN_DOCUMENTS_REVERSE = reversed_order(SCAN_DOCUMENTS)
_SCAN_TABLE_REVERSE = reversed_order(SCAN_TABLE)
_DELETED_AT = "SELECT max(ts) FROM log WHERE id = ? AND value IS NULL"
# Greater than every text in SQLite's order: the upper bound of a scan without one.
_ABOVE_ALL_TEXT = b""
_ABOVE_ALL_KEYS = b"\xff"
_LOG = LOG_COLUMNS + "WHERE ts > ? ORDER BY ts, position LIMIT ?"
_LOG_REST = LOG_COLUMNS + "WHERE ts = ? AND position > ? ORDER BY position"


class SqliteReader(ABC):
    """What `contract.Storage` reads; the connection is its subclass's."""

    @abstractmethod
    def _rows(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of a statement. Raises: StorageError."""

    def get(self, table_number: int, id: str) -> StoredVersion | None:
        rows = self._rows(GET, (table_number, id))
        return StoredVersion(id, *rows[0]) if rows else None

    def get_many(self, table_number: int, ids: Collection[str]) -> list[tuple[str, int, bytes]]:
        if 0 < len(ids) <= len(GET_SOME):
            return self._rows(GET_SOME[len(ids) - 1], (table_number, *ids))
        return self._rows(GET_MANY, (table_number, json.dumps(list(ids))))

    def scan(
        self, index_number: int, low: bytes, high: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, str]]:
        return self._rows(_SCAN_REVERSE if reverse else SCAN, (index_number, low, high, limit))

    def scan_documents(
        self, index_number: int, low: bytes, high: bytes, table_number: int, *, reverse: bool, limit: int
    ) -> list[tuple[bytes, str, int, bytes]]:
        statement = _SCAN_DOCUMENTS_REVERSE if reverse else SCAN_DOCUMENTS
        return self._rows(statement, (index_number, low, high, limit))

    def scan_table(
        self, table_number: int, low_id: str, high_id: str | None, *, reverse: bool = False, limit: int
    ) -> list[StoredVersion]:
        high = _ABOVE_ALL_TEXT if high_id is None else high_id
        rows = self._rows(_SCAN_TABLE_REVERSE if reverse else SCAN_TABLE, (table_number, low_id, high, limit))
        return [StoredVersion._make(row) for row in rows]

    def count(self, index_number: int, low: bytes, high: bytes) -> int:
        if not low and high >= _ABOVE_ALL_KEYS:
            return self._rows(COUNT_ALL, (index_number,))[0][0]
        return self._rows(COUNT, (index_number, low, high))[0][0]

    def outcome(self, session_id: str, request_id: int) -> Outcome | None:
        rows = self._rows(sqlite_outcomes.GET, (session_id, request_id))
        return sqlite_outcomes.from_row(session_id, request_id, rows[0]) if rows else None

    def requests_after(self, session_id: str, ts: int, *, newest: int) -> list[int]:
        return [row[0] for row in self._rows(sqlite_outcomes.AFTER, (session_id, ts, newest))]

    def log(self, after_ts: int, *, limit: int) -> list[tuple[int, DocumentWrite]]:
        rows = self._rows(_LOG, (after_ts, limit))
        if rows and len(rows) == limit:
            rows += self._rows(_LOG_REST, rows[-1][:2])
        return [(row[0], DocumentWrite(*row[2:])) for row in rows]

    def deleted_at(self, id: str) -> int | None:
        return self._rows(_DELETED_AT, (id,))[0][0]

    def get_meta(self, key: str) -> str | None:
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return rows[0][0] if rows else None
