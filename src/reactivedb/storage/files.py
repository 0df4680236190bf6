"""How do files lie on the disk beside the database?

In one folder, each under its id, and as `ID.part` while it is written. A file gets its own name once all of
it is on the disk, and the name is there for good before anybody hears of it: whoever commits a row afterwards
has a file for it, wherever a crash or a power cut strikes. What such an end leaves over (parts, files without
a row) is found by `names` and is its caller's to remove.

Everything here blocks. Only `remove_later` does not: one thread of the store's own removes what it is given.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from reactivedb.errors import StorageError
from reactivedb.log import Log

from .owner_only import FOLDER_MODE, make_owned_folder, open_owned
from .sqlite_errors import from_os_error
from .wal_sync import sync_data, sync_folder

PART_SUFFIX: Final = ".part"
# A long file is synced as it comes: all at its end would hold up the syncs of commits for seconds.
_SYNC_SIZE_BYTES: Final = 32 * 1024 * 1024

_logger = Log("reactivedb")


class FileStore:
    """The folder of one database; None: a temporary one, gone when the store is closed.

    Raises StorageError `DiskFull`, `ReadOnly` or `StorageFailed` wherever the disk is used.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._is_temporary = folder is None
        self._ready = False
        # Guards what follows: any thread may be the first to write, or to remove.
        self._lock = threading.Lock()
        self._remover: ThreadPoolExecutor | None = None
        self._closed = False

    def create(self, name: str) -> PartialFile:
        """Begin a new file of that name."""
        return PartialFile(self._ready_folder(), name)

    def open(self, name: str) -> int:
        """A descriptor to read a file by, which stays good if the file is removed.

        Raises:
            StorageError: `FileMissing`, somebody has taken it out of the folder.
        """
        path = self._path(name)
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise StorageError(
                f"the file `{path}` is not where it was stored - put it back from a copy of the folder, "
                "or delete it through the database",
                code="FileMissing",
                path=str(path),
            ) from error
        except OSError as error:
            raise from_os_error(error, path, "open a file") from error

    def names(self) -> list[str]:
        """All there is in the folder, parts too; none if there is no folder yet."""
        if self._folder is None:
            return []
        try:
            return os.listdir(self._folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise from_os_error(error, self._folder, "list its files") from error

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise from_os_error(error, path, "remove a file") from error

    def remove_later(self, name: str) -> None:
        """Remove a file soon, in another thread; if it cannot be, the next opening tries again."""
        with self._lock:
            if self._closed:
                return
            if self._remover is None:
                self._remover = ThreadPoolExecutor(1, thread_name_prefix="reactivedb-files")
            self._remover.submit(self._remove_or_tell, name)

    def _remove_or_tell(self, name: str) -> None:
        try:
            self.remove(name)
        except StorageError as error:
            _logger.warning("%s", error)

    def close(self) -> None:
        """Finish what is to be removed. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            remover, self._remover = self._remover, None
        if remover is not None:
            remover.shutdown()
        if self._is_temporary and self._folder is not None:
            for name in self.names():
                self._remove_or_tell(name)
            # What keeps it is a file that could not be removed, of which the line above has told.
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def _path(self, name: str) -> Path:
        assert self._folder is not None, "a temporary folder is there from the first file on"
        return self._folder / name

    def _ready_folder(self) -> Path:
        with self._lock:
            if self._closed:
                raise StorageError("the database is closed - open it again", code="DatabaseClosed")
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="reactivedb-files-"))
                self._folder.chmod(FOLDER_MODE)  # a umask may have taken it from its owner too
            elif not self._ready:
                try:
                    make_owned_folder(self._folder)
                    sync_folder(self._folder.parent)
                except OSError as error:
                    raise from_os_error(error, self._folder, "make the folder of its files") from error
            self._ready = True
            return self._folder


class PartialFile:
    """A file that is being written. It ends with `finish`, or with `discard`, which may come after that."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / name
        self._part = folder / (name + PART_SUFFIX)
        self._digest = hashlib.sha256()
        self._unsynced_size_bytes = 0
        self.size_bytes = 0
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            self._descriptor: int | None = open_owned(self._part, flags)
        except OSError as error:
            raise from_os_error(error, self._part, "make a file") from error

    @property
    def sha256(self) -> bytes:
        """Of what was written so far."""
        return self._digest.digest()

    def write(self, piece: bytes) -> None:
        assert self._descriptor is not None
        self._digest.update(piece)
        self.size_bytes += len(piece)
        self._unsynced_size_bytes += len(piece)
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            if self._unsynced_size_bytes >= _SYNC_SIZE_BYTES:
                sync_data(self._descriptor)
                self._unsynced_size_bytes = 0
        except OSError as error:
            raise from_os_error(error, self._part, "write a file") from error

    def finish(self) -> None:
        """Give the file its name; file and name survive a power cut when this returns."""
        assert self._descriptor is not None
        try:
            sync_data(self._descriptor)
            self._close()
            os.rename(self._part, self._path)
            sync_folder(self._path.parent)
        except OSError as error:
            raise from_os_error(error, self._part, "write a file") from error

    def discard(self) -> None:
        """Leave nothing of it."""
        self._close()
        try:
            self._part.unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise from_os_error(error, self._part, "remove a file") from error

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
