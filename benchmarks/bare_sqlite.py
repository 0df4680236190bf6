"""What does SQLite alone take for the rows that reactivedb writes?

The rows are not made up: the mutation runs once over a storage that keeps what it is given, and the same
log rows, documents, index entries and outcomes are then written by apsw into a file of the same layout,
with a WAL and one `fdatasync` per commit, which is the cheapest way to make them durable.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw

from reactivedb.app import App, Runtime
from reactivedb.clock import SystemClock
from reactivedb.storage import Commit, MemoryStorage, open_sqlite

from .application.app import app


class RecordingStorage(MemoryStorage):
    """Memory that remembers every commit as the engine gave it."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[Commit] = []

    def append(self, commit: Commit) -> None:
        self.commits.append(commit)
        super().append(commit)


def recorded(run: Callable[[Runtime], object], application: App = app) -> list[Commit]:
    """The commits that `run` makes on an empty database."""
    storage = RecordingStorage()
    runtime = application.runtime(storage, clock=SystemClock())
    run(runtime)
    return storage.commits


class BareSqlite:
    """One file of reactivedb's layout, written without reactivedb."""

    def __init__(self, path: Path) -> None:
        """Makes the file if there is none; one that is open already is written to beside its owner."""
        if not path.exists():
            open_sqlite(path).close()
        # What apsw says of its own types is beyond Python 3.11 (see `storage/sqlite_connection.py`).
        self._connection: Any = apsw.Connection(str(path))
        self._connection.pragma("journal_mode", "WAL")
        self._connection.pragma("synchronous", "NORMAL")
        self._cursor = self._connection.cursor()
        # Above all that the owner of the file will give.
        self._numbers = itertools.count(2**62)
        # The file is there once something was written.
        self._cursor.execute("REPLACE INTO meta VALUES ('probe', '')")
        self._wal = os.open(f"{path}-wal", os.O_RDWR)

    def write(self, commits: Sequence[Commit]) -> None:
        """One durable SQL transaction."""
        run, run_many = self._cursor.execute, self._cursor.executemany
        run("BEGIN IMMEDIATE")
        for commit in commits:
            ts = commit.ts
            run_many(
                "INSERT INTO log VALUES (?, ?, ?, ?, ?, CAST(? AS TEXT))",
                [(ts, n, w.table_number, w.id, w.prev_ts, w.value) for n, w in enumerate(commit.writes)],
            )
            numbers: dict[str, int] = {}
            for write in commit.writes:
                if write.prev_ts is None:
                    numbers[write.id] = next(self._numbers)
            run_many(
                "INSERT INTO documents VALUES (?, ?, ?, ?, CAST(? AS TEXT))",
                [
                    (numbers[w.id], w.table_number, w.id, ts, w.value)
                    for w in commit.writes
                    if w.id in numbers
                ],
            )
            run_many(
                "UPDATE documents SET ts = ?, value = CAST(? AS TEXT) WHERE table_number = ? AND id = ?",
                [(ts, w.value, w.table_number, w.id) for w in commit.writes if w.id not in numbers],
            )
            if commit.index_removed:
                run_many("DELETE FROM index_entries WHERE index_number = ? AND key = ?", commit.index_removed)
            if commit.index_added:
                run_many(
                    "REPLACE INTO index_entries VALUES (?, ?, ?, ?)",
                    [(*entry, numbers[entry[2]]) for entry in commit.index_added],
                )
            if (outcome := commit.outcome) is not None:
                run(
                    "INSERT INTO outcomes VALUES (?, ?, ?, CAST(? AS TEXT), ?)",
                    (ts, outcome.session_id, outcome.request_id, outcome.result, json.dumps([])),
                )
        run("COMMIT")
        os.fdatasync(self._wal)

    def close(self) -> None:
        os.close(self._wal)
        self._connection.close()
