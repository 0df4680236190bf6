"""A database's files as long as they are open here: nobody else's, and still what they were when opened."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from .file_claim import FileClaim
from .file_watch import FileWatch
from .lock import FileLock


class OpenFile:
    """Held from construction to `release`. Raises: StorageError `DatabaseInUse` and what `FileLock` does."""

    def __init__(self, database: Path) -> None:
        self.path = database
        self._lock = FileLock(database)
        try:
            self._claim = FileClaim(database)
        except BaseException:
            self._lock.release()
            raise
        self._watch = FileWatch(database)

    def guard(self) -> None:
        """It has been opened and recovered: from now on nothing else may change it unnoticed."""
        self._claim.guard()
        self._watch.learn()

    def check(self) -> None:
        """Raises: StorageError `FileMoved`, `FileChanged`. Any thread."""
        with self._watch.lock:
            self._watch.check()

    def check_wal(self) -> None:
        """To be asked before the WAL is written to. Raises: as `check`."""
        with self._watch.lock:
            self._watch.check_wal()

    @contextmanager
    def checkpointing(self) -> Generator[None]:
        """Move the WAL into the database file.

        Raises: as `check`, so that what was put in the file's place stays whole.
        """
        with self._watch.lock, self._claim.checkpointing():
            self._watch.check()
            try:
                yield
            finally:
                self._watch.checkpointed()

    def rescue(self, empty_wal: Callable[[], object]) -> None:
        """Before closing what has only been moved: put all that was acknowledged into the database file.

        A WAL that stayed behind would be taken for that of the next file of this name.
        """
        with self._watch.lock:
            if self._watch.has_only_moved():
                # What cannot be moved stays in the WAL, as it would without us.
                with self._claim.checkpointing(), suppress(apsw.Error):
                    empty_wal()

    def unguard(self) -> None:
        """Our own connection is about to close."""
        self._claim.unguard()

    def release(self) -> None:
        """Our own connection has been closed."""
        self._claim.release()
        self._lock.release()

    def leave_to_parent(self) -> None:
        """Called in a forked process: nothing is ours."""
        self._claim.leave_to_parent()
        self._lock.leave_to_parent()
