"""Locks on the database file itself, which hold under every name of the file.

`lock` guards a name; this guards the file (st_dev, st_ino), also when it is reached by a hard link or a bind
mount, or when the `.lock` beside it was deleted. SQLite's own locks belong to the process: when anything in
it closes a descriptor of the file (`shutil.copy`, another SQLite library), the kernel drops them all. Locks
of an open file description stay (fcntl_locking(2)). While the database is open this holds three of them,
shared, on bytes of SQLite's (sqlite.org/fileformat2.html, sqlite.org/walformat.html). Nothing else may then

- remove the WAL as it closes the file: that takes all shared bytes of the database file for itself;
- move the WAL into the database file: the checkpoint byte of `-shm`, given free while we do so;
- make `-shm` anew under us: the dead man's switch byte of `-shm`.

Readers need none of them. Where the system knows no such locks (anything but Linux) only the `.lock` holds.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from .lock import in_use
from .owner_only import make_owned_file
from .sqlite_errors import from_os_error

# Far beyond what SQLite locks, and allowed though no file is that long.
_CLAIM_BYTE: Final = 2**62
# The last of the 510 bytes of which SQLite locks all for writing, when it wants the file alone.
_SHARED_BYTE: Final = 0x40000000 + 2 + 509
_CHECKPOINT_BYTE: Final = 121
_DEAD_MAN_BYTE: Final = 128
_SET_LOCK: Final[int | None] = getattr(fcntl, "F_OFD_SETLK", None)

# What this process has open: who may not open it again. (Opening it just to look and closing it would drop
# SQLite's locks.)
_claimed: dict[tuple[int, int], str] = {}


class FileClaim:
    """The right to one database file, from construction to `release`.

    Raises: StorageError `DatabaseInUse` naming the holder; `ReadOnly` and others if the file cannot be made.
    """

    def __init__(self, database: Path) -> None:
        self._wal_index = Path(f"{database}-shm")
        self._wal_index_descriptor: int | None = None
        with suppress(FileNotFoundError):
            since = _claimed.get(_identity(os.stat(database)))
            if since is not None:
                raise in_use(database, os.getpid(), since)
        try:
            # SQLite gives its WAL and shared memory the mode of the database.
            make_owned_file(database)
            self._descriptor = os.open(database, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(error, database, "open the database") from error
        self.identity: Final = _identity(os.fstat(self._descriptor))
        if not _lock(self._descriptor, fcntl.F_WRLCK, _CLAIM_BYTE):
            os.close(self._descriptor)
            raise in_use(database, _holder_of(self.identity), None)
        _claimed[self.identity] = datetime.now(UTC).isoformat(timespec="seconds")

    def guard(self) -> None:
        """From now on nothing else may move, remove or remake SQLite's files. The WAL index is there."""
        _lock(self._descriptor, fcntl.F_RDLCK, _SHARED_BYTE)
        with suppress(FileNotFoundError):
            self._wal_index_descriptor = os.open(self._wal_index, os.O_RDWR | os.O_CLOEXEC)
            _lock(self._wal_index_descriptor, fcntl.F_RDLCK, _DEAD_MAN_BYTE)
            _lock(self._wal_index_descriptor, fcntl.F_RDLCK, _CHECKPOINT_BYTE)

    @contextmanager
    def checkpointing(self) -> Generator[None]:
        """Let our own connection move the WAL."""
        if self._wal_index_descriptor is None:
            yield
            return
        _lock(self._wal_index_descriptor, fcntl.F_UNLCK, _CHECKPOINT_BYTE)
        try:
            yield
        finally:
            _lock(self._wal_index_descriptor, fcntl.F_RDLCK, _CHECKPOINT_BYTE)

    def unguard(self) -> None:
        """Let our own connection close the file as it likes."""
        _lock(self._descriptor, fcntl.F_UNLCK, _SHARED_BYTE)
        if self._wal_index_descriptor is not None:
            # A forked process may hold the same open file: closing ours would not release its locks.
            _lock(self._wal_index_descriptor, fcntl.F_UNLCK, 0)

    def release(self) -> None:
        """Called when the connection is closed: closing descriptors drops the process's other locks."""
        _lock(self._descriptor, fcntl.F_UNLCK, 0)
        self.leave_to_parent()

    def leave_to_parent(self) -> None:
        """Called in a forked process: the locks are the parent's alone."""
        _claimed.pop(self.identity, None)
        os.close(self._descriptor)
        if self._wal_index_descriptor is not None:
            os.close(self._wal_index_descriptor)
            self._wal_index_descriptor = None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _lock(descriptor: int, kind: int, byte: int) -> bool:
    """Set or end a lock on one byte, all of them for 0; False if somebody else's is in the way."""
    if _SET_LOCK is None:
        return True
    # `struct flock` of Linux: type, whence, start, length (0 reaches to the end), pid.
    request = struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1 if byte else 0, 0)
    try:
        fcntl.fcntl(descriptor, _SET_LOCK, request)
    except OSError as error:
        # A file system that knows no such locks refuses with another error: the `.lock` is all there is.
        return not isinstance(error, BlockingIOError | PermissionError)
    return True


def _holder_of(identity: tuple[int, int]) -> int | None:
    """The process that has locked the file: such locks name none, but each process shows its own."""
    for entry in os.scandir("/proc") if os.path.isdir("/proc") else ():
        if not entry.name.isdigit():
            continue
        # Processes end meanwhile, and those of others may not be looked at.
        with suppress(OSError):
            for name in os.listdir(f"{entry.path}/fd"):
                if _identity(os.stat(f"{entry.path}/fd/{name}")) != identity:
                    continue
                with open(f"{entry.path}/fdinfo/{name}") as info:
                    if f" {_CLAIM_BYTE} " in info.read():
                        return int(entry.name)
    return None
