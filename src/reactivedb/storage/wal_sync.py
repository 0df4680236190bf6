"""How does a commit reach the disk?

SQLite writes commits to the `-wal` file without waiting for the disk (`synchronous=NORMAL`); one sync of that
file makes everything written so far durable, from any thread and beside SQLite's own work on it. SQLite keeps
one WAL file as long as a connection is open, so the descriptor stays good.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Protocol

_PIECE_SIZE_BYTES = 1024 * 1024
_PROBE_COUNT = 5
_PROBE_SIZE_BYTES = 4096
# Used where the cost cannot be measured: dear enough that the engine syncs in a thread.
_UNKNOWN_COST_S = 1.0


class WalSync(Protocol):
    """Raises: OSError from `sync` and `renew`; the storage then never calls them again."""

    def sync(self) -> None: ...
    def renew(self) -> None: ...
    def close(self) -> None: ...


class FileWalSync:
    """Syncs the WAL file of one open database; both files' names are durable once it is made."""

    def __init__(self, wal: Path) -> None:
        self._descriptor = os.open(wal, os.O_RDWR | os.O_CLOEXEC)
        try:
            sync_folder(wal.parent)
        except BaseException:
            os.close(self._descriptor)
            raise

    def sync(self) -> None:
        sync_data(self._descriptor)

    def renew(self) -> None:
        """Write the file's own bytes once more, and sync them; nobody else may be writing.

        After a sync that failed, Linux takes pages for written that are not: they can be read, and no later
        sync will write them. (`PostgreSQL's fsync surprise`, lwn.net/Articles/752063.)
        """
        offset = 0
        while piece := os.pread(self._descriptor, _PIECE_SIZE_BYTES, offset):
            offset += os.pwrite(self._descriptor, piece, offset)
        self.sync()

    def close(self) -> None:
        os.close(self._descriptor)


def sync_data(descriptor: int) -> None:
    if sys.platform == "darwin":
        # There fsync leaves the data in the drive's cache.
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def measure_sync_cost(folder: Path) -> float:
    """The quickest of a few small synced writes to an unnamed file in that folder, in seconds.

    A slow disk is slow every time; a median would also measure who else was busy when the file was opened.
    """
    costs_s: list[float] = []
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
            for _ in range(_PROBE_COUNT):
                started_s = time.perf_counter()
                probe.write(bytes(_PROBE_SIZE_BYTES))
                sync_data(probe.fileno())
                costs_s.append(time.perf_counter() - started_s)
    except OSError:
        # Not worth failing for (a full disk may still be read): whatever does not work, writing will report.
        return _UNKNOWN_COST_S
    return min(costs_s)
