"""A disk whose syncs wait, or fail, as the test says; under a real file.

`Disk.open` opens a database file over it. While the disk is `held`, a sync waits until the test lets it go;
while it is `failing`, a sync raises, as the system does after an I/O error.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reactivedb.storage import SqliteStorage, open_sqlite
from reactivedb.storage.wal_sync import FileWalSync

_DEADLINE_S = 20.0


class Disk:
    def __init__(self) -> None:
        self.failing = False
        self.sync_count = 0
        self._holds_next = False
        self._free = threading.Event()
        self._free.set()
        self._waiting = threading.Event()

    def open(self, path: Path, *, slow: bool = True) -> SqliteStorage:
        """`slow`: the database takes the disk for one whose syncs are worth a thread."""
        storage = open_sqlite(path, open_wal=lambda wal: _Wal(wal, self))
        storage.sync_cost_s = 1.0 if slow else 0.0
        return storage

    @contextmanager
    def held(self) -> Iterator[None]:
        self._waiting.clear()
        self._free.clear()
        try:
            yield
        finally:
            self.let_go()

    def hold_next(self) -> None:
        """Let go the sync that waits, and hold the one after it."""
        self._waiting.clear()
        self._holds_next = True

    def let_go(self) -> None:
        self._free.set()

    def wait_for_sync(self) -> None:
        """Until a sync waits for the held disk."""
        assert self._waiting.wait(_DEADLINE_S), "nobody synced the disk"

    def before_sync(self) -> None:
        if not self._free.is_set():
            self._waiting.set()
            assert self._free.wait(_DEADLINE_S), "the test did not let the disk go"
            if self._holds_next:
                self._holds_next = False
                self._free.clear()
        self.sync_count += 1
        if self.failing:
            raise OSError(errno.EIO, "Input/output error")


class _Wal(FileWalSync):
    def __init__(self, wal: Path, disk: Disk) -> None:
        super().__init__(wal)
        self._disk = disk

    def sync(self) -> None:
        self._disk.before_sync()
        super().sync()
