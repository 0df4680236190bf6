"""How far back does the log in an SQLite file reach, and how is what lies before that taken out?

The horizon is a place in the log, `(ts, position)`. It moves over one write after the other; passing a write
deletes the version that it replaced, which `prev_ts` leads to, and the write itself if it is a tombstone.
What is left before the horizon is one version per document. Cost: O(writes passed), each with a search in
the commit that made the replaced version; the texts themselves are not read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import astuple, dataclass, replace
from itertools import starmap

from .contract import LOG_WRITE_SIZE_BYTES, LogExtent
from .sqlite_connection import SqlCursor

# `horizon_ts horizon_position forgotten_count forgotten_size_bytes`.
_HORIZON = "storage.log_horizon"
# `ts write_count size_bytes`: what lay behind the horizon when `ts` was the newest.
_SIZE = "storage.log_size"

_GET_META = "SELECT value FROM meta WHERE key = ?"
_PUT_META = "REPLACE INTO meta VALUES (?, ?)"
_SIZE_SINCE = "SELECT count(*), coalesce(sum(octet_length(value)), 0) FROM log WHERE (ts, position) > (?, ?)"
_NEXT = (
    "SELECT ts, position, table_number, id, prev_ts, value IS NULL, "
    f"coalesce(octet_length(value), 0) + {LOG_WRITE_SIZE_BYTES} "
    "FROM log WHERE (ts, position) > (?, ?) ORDER BY ts, position LIMIT ?"
)
_SIZE_OF_COMMIT = "SELECT coalesce(max(position), -1) + 1 FROM log WHERE ts = ?"
_NEXT_IN_COMMIT = "SELECT position, id FROM log WHERE ts = ? AND position >= ? ORDER BY position LIMIT 1"
_AMONG = "SELECT position FROM log WHERE ts = ? AND position >= ? AND position < ? AND id = ?"
_IN_COMMIT = (
    "SELECT position FROM log WHERE ts = ? AND id IN (SELECT value FROM json_each(?)) ORDER BY position"
)
_DELETE_REPLACED = (
    "DELETE FROM log WHERE ts = ? AND position IN (SELECT value FROM json_each(?)) "
    "RETURNING coalesce(octet_length(value), 0)"
)
_DELETE_TOMBSTONE = "DELETE FROM log WHERE ts = ? AND position = ?"

_ABOVE_ALL_POSITIONS = 2**63 - 1
# To look through so many writes takes as long as a search among all those of the largest commit.
_LOOKED_THROUGH = 64


@dataclass(frozen=True, slots=True)
class LogRow:
    """A write as far as forgetting looks at it."""

    ts: int
    position: int
    table_number: int
    id: str
    prev_ts: int | None
    is_tombstone: int
    size_bytes: int


class SqliteLog:
    """The extent of one file's log; it follows the open group as the file does."""

    def __init__(self) -> None:
        self._extent = LogExtent()
        self._flushed = self._extent
        # What was appended since: rows and bytes.
        self._appended_count = self._appended_bytes = 0

    @property
    def extent(self) -> LogExtent:
        if self._appended_count:
            count = self._extent.write_count + self._appended_count
            size_bytes = self._extent.size_bytes + self._appended_bytes
            self._set(replace(self._extent, write_count=count, size_bytes=size_bytes))
        return self._extent

    def _set(self, extent: LogExtent) -> None:
        self._extent = extent
        self._appended_count = self._appended_bytes = 0

    def load(self, cursor: SqlCursor) -> None:
        """At opening: what was recorded, and what came after it."""
        horizon = [int(word) for word in _meta(cursor, _HORIZON, "0 0 0 0").split()]
        recorded_ts, count, size = (int(word) for word in _meta(cursor, _SIZE, "0 0 0").split())
        # One bound, the higher of the two: SQLite would look for the horizon's and pass the log from there.
        place = max((horizon[0], horizon[1]), (recorded_ts, _ABOVE_ALL_POSITIONS))
        [(newer, newer_size)] = cursor.execute(_SIZE_SINCE, place).fetchall()
        count += newer
        size += newer_size + newer * LOG_WRITE_SIZE_BYTES
        self._set(LogExtent(horizon[0], horizon[1], count, size, horizon[2], horizon[3]))
        self._flushed = self._extent

    def appended(self, sizes: Iterable[int]) -> None:
        for text_size in sizes:
            self._appended_count += 1
            self._appended_bytes += text_size + LOG_WRITE_SIZE_BYTES

    def flushed(self) -> None:
        self._flushed = self.extent

    def rolled_back(self) -> None:
        self._set(self._flushed)

    def record(self, cursor: SqlCursor, last_ts: int) -> None:
        """Into the open group: spares the next opening from counting again."""
        extent = self.extent
        cursor.execute(_PUT_META, (_SIZE, f"{last_ts} {extent.write_count} {extent.size_bytes}"))

    def erased(self, cursor: SqlCursor, rows: list[tuple[int, int, int]], last_ts: int) -> None:
        """These writes (`ts`, `position`, weight) are gone; all that there is up to `last_ts` is recorded."""
        extent = self.extent
        behind = [row for row in rows if row[:2] > (extent.horizon_ts, extent.horizon_position)]
        self._set(
            replace(
                extent,
                write_count=extent.write_count - len(behind),
                size_bytes=extent.size_bytes - sum(size for *_, size in behind),
                forgotten_count=extent.forgotten_count + len(rows),
                forgotten_size_bytes=extent.forgotten_size_bytes + sum(size for *_, size in rows),
            )
        )
        self.record(cursor, last_ts)
        values = astuple(self.extent)
        cursor.execute(_PUT_META, (_HORIZON, " ".join(map(str, (*values[:2], *values[4:])))))

    def recorded_ts(self, cursor: SqlCursor) -> int:
        return int(_meta(cursor, _SIZE, "0").split()[0])

    def due(self, cursor: SqlCursor, before_ts: int, *, size_bytes_max: int, limit: int) -> list[LogRow]:
        """The writes that the horizon is to pass next."""
        extent = self.extent
        left_bytes = extent.size_bytes
        rows: list[LogRow] = []
        place = (extent.horizon_ts, extent.horizon_position)
        for row in starmap(LogRow, cursor.execute(_NEXT, (*place, limit)).fetchall()):
            if row.ts > before_ts and left_bytes <= size_bytes_max:
                break
            left_bytes -= row.size_bytes
            rows.append(row)
        return rows

    def forget(self, cursor: SqlCursor, passed: list[LogRow]) -> None:
        """Move the horizon over these writes, all of them recorded, in the open group."""
        replaced: dict[int, list[str]] = {}
        for row in passed:
            if row.prev_ts is not None:
                replaced.setdefault(row.prev_ts, []).append(row.id)
        tombstones = [(row.ts, row.position) for row in passed if row.is_tombstone]
        count, size = len(tombstones), len(tombstones) * LOG_WRITE_SIZE_BYTES
        for ts, ids in replaced.items():
            positions = json.dumps(positions_of(cursor, ts, ids))
            found = cursor.execute(_DELETE_REPLACED, (ts, positions)).fetchall()
            count += len(found)
            size += sum(text_size for (text_size,) in found) + len(found) * LOG_WRITE_SIZE_BYTES
        cursor.executemany(_DELETE_TOMBSTONE, tombstones)

        passed_bytes = sum(row.size_bytes for row in passed)
        extent = self.extent
        self._set(
            LogExtent(
                passed[-1].ts,
                passed[-1].position,
                extent.write_count - len(passed),
                extent.size_bytes - passed_bytes,
                extent.forgotten_count + count,
                extent.forgotten_size_bytes + size,
            )
        )
        recorded = [int(word) for word in _meta(cursor, _SIZE, "").split()]
        now = (recorded[0], recorded[1] - len(passed), recorded[2] - passed_bytes)
        horizon = (passed[-1].ts, passed[-1].position, *astuple(self.extent)[4:])
        cursor.executemany(
            _PUT_META, [(_SIZE, " ".join(map(str, now))), (_HORIZON, " ".join(map(str, horizon)))]
        )


def positions_of(cursor: SqlCursor, ts: int, ids: Collection[str]) -> list[int]:
    """Where in the commit at `ts` those documents were written, in order, as far as it is kept.

    Cost: O(ids * log(size of the commit)); of a large commit that is not in the order of ids, because an
    earlier version appended it, O(size of the commit).
    """
    [(size,)] = cursor.execute(_SIZE_OF_COMMIT, (ts,)).fetchall()
    if len(ids) * _LOOKED_THROUGH < size:
        found = [position for id in ids for position in _search(cursor, ts, id, size)]
        if len(found) == len(ids):
            return sorted(found)
    rows = cursor.execute(_IN_COMMIT, (ts, json.dumps(list(ids)))).fetchall()
    return [position for (position,) in rows]


def _search(cursor: SqlCursor, ts: int, id: str, size: int) -> list[int]:
    """The one position, or none. What was forgotten leaves gaps."""
    low, high = 0, size
    while high - low > _LOOKED_THROUGH:
        middle = (low + high) // 2
        [(position, found)] = cursor.execute(_NEXT_IN_COMMIT, (ts, middle)).fetchall()
        if found <= id:
            low = position
        else:
            high = middle
    return [position for (position,) in cursor.execute(_AMONG, (ts, low, high, id)).fetchall()]


def _meta(cursor: SqlCursor, key: str, default: str) -> str:
    rows = cursor.execute(_GET_META, (key,)).fetchall()
    return rows[0][0] if rows else default
