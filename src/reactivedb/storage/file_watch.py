"""Are the files that we write still the database?

What is written into a file that was moved, removed or replaced, or whose content another program has changed,
is lost to whoever opens the database by its name. So the names are looked at before a commit is acknowledged.
Only our own checkpoints write the database file: after each, its size and time of modification are noted,
and may not change until the next. The WAL never gets shorter between two of them.

Cost: four `stat` a group of commits, some 5 µs.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TypeAlias

from reactivedb.errors import StorageError

from .sqlite_errors import storage_error

_Identity: TypeAlias = "tuple[int, int]"


class FileWatch:
    """The database file, its WAL and its WAL index. `lock` keeps a look away from a checkpoint."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._names = (str(database), f"{database}-wal", f"{database}-shm")
        self.lock = Lock()
        # None until `learn`: while the file is being opened nobody is promised anything.
        self._identities: tuple[_Identity, _Identity, _Identity | None] | None = None
        self._content = (0, 0)
        self._wal_size_bytes = 0
        # What was found.
        self._found: str | None = None

    def learn(self) -> None:
        """Take the files for what they are now."""
        database, wal = map(os.stat, self._names[:2])
        wal_index = None
        # A full disk had no room for it: then it lies in memory.
        with suppress(FileNotFoundError):
            wal_index = _identity(os.stat(self._names[2]))
        self._identities = (_identity(database), _identity(wal), wal_index)
        self.checkpointed()

    def checkpointed(self) -> None:
        """A checkpoint of our own has written the database file, and perhaps emptied the WAL."""
        if self._identities is not None:
            self._wal_size_bytes = 0
            # If it has gone meanwhile, the next look says so.
            with suppress(OSError):
                database = os.stat(self._names[0])
                self._content = (database.st_size, database.st_mtime_ns)

    def check(self) -> None:
        """Raises: StorageError `FileMoved`, `FileChanged`. The caller holds `lock`."""
        if self._identities is None:
            return
        try:
            database, wal = map(os.stat, self._names[:2])
            wal_index = None if self._identities[2] is None else _identity(os.stat(self._names[2]))
        except OSError as error:
            name = os.path.basename(str(error.filename))
            raise self._failure("FileMoved", f"`{name}` cannot be found (`{error.strerror}`)") from error
        found = (_identity(database), _identity(wal), wal_index)
        if found != self._identities:
            number = next(n for n, known in enumerate(self._identities) if found[n] != known)
            raise self._failure("FileMoved", f"`{os.path.basename(self._names[number])}` is another file now")
        if (database.st_size, database.st_mtime_ns) != self._content:
            raise self._failure("FileChanged", f"another program has written to `{self._database.name}`")
        self._check_wal_size(wal)

    def check_wal(self) -> None:
        """Before SQLite writes to the WAL, and so hides that it was cut short. Raises: as `check`."""
        # Without it, `check` comes to that.
        with suppress(FileNotFoundError):
            self._check_wal_size(os.stat(self._names[1]))

    def _check_wal_size(self, wal: os.stat_result) -> None:
        if wal.st_size < self._wal_size_bytes:
            raise self._failure("FileChanged", f"another program has cut `{self._database.name}-wal` short")
        self._wal_size_bytes = wal.st_size

    def has_only_moved(self) -> bool:
        """It was found to be moved and not written to, and locks of other SQLite connections meet ours."""
        if self._identities is None or self._found != "FileMoved":
            return False
        try:
            return _identity(os.stat(self._names[2])) == self._identities[2]
        except OSError:
            return False

    def _failure(self, code: str, what: str) -> StorageError:
        self._found = code
        return storage_error(code, self._database, "go on with the open database", what)


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino
