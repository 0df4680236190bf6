"""Does another process, or another part of this one, have a database of this name open?

A file beside the database is held with `flock`: the kernel lets go of it when the process ends, however it
ends. Its text names the holder (pid and start time), for people and for the error. The file stays when the
lock is released: removing it would let two processes hold locks on two files of one name. Other names of
the same file, and a lock file that was deleted: see `file_claim`.
"""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path

from reactivedb.errors import StorageError

from .owner_only import FILE_MODE, make_owned_file
from .sqlite_errors import from_os_error


def in_use(database: Path, pid: int | None, since: str | None) -> StorageError:
    """Says who has it open, as far as that is known."""
    who = "another process" if pid is None else f"process {pid}"
    who += f" (since {since})" if since else ""
    return StorageError(
        f"`{database}` can be open once, and {who} has it open - close it there, or use another file",
        code="DatabaseInUse",
        path=str(database),
        pid=pid,
    )


class FileLock:
    """Held from construction to `release`.

    Raises: StorageError `DatabaseInUse` naming the holder; `ReadOnly` or `DiskFull` if it cannot be made.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".lock")
        try:
            make_owned_file(self.path)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise from_os_error(error, database, "make its lock file") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            if not isinstance(error, BlockingIOError):
                raise from_os_error(error, database, "lock it") from error
            pid, _, since = holder.partition(" ")
            raise in_use(database, int(pid) if pid.isdigit() else None, since or None) from error
        self._write_holder()

    def release(self) -> None:
        os.ftruncate(self._descriptor, 0)
        # A forked process may hold the same open file: closing ours would not release the lock.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)

    def leave_to_parent(self) -> None:
        """Called in a forked process: the lock is the parent's alone, and ends with it."""
        os.close(self._descriptor)

    def _write_holder(self) -> None:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()} {since}\n".encode(), 0)
        except OSError:
            # On a full disk the name is missing; the lock itself holds all the same.
            pass
