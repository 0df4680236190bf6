"""How is a secret kept in a file beside the database?"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from ..errors import StorageError
from .owner_only import open_owned
from .wal_sync import sync_data, sync_folder

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def create_private(path: Path) -> None:
    """Make an empty file that its owner alone can read, in the place of another. Raises OSError."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def copy_mode(source: Path, target: Path) -> None:
    """Let those read and write the new file who may read and write the old one. Raises OSError."""
    os.chmod(target, source.stat().st_mode & 0o777)


def write_private(file: Path, text: str) -> None:
    """Replace a file so that at no moment anybody but its owner can read it.

    A power cut leaves the old one or the new one, and the new one once this returns.

    Raises:
        StorageError: `DiskFull`, `DataFolderNotWritable`.
    """
    new = file.with_name(f"{file.name}.new")
    try:
        new.unlink(missing_ok=True)
        with os.fdopen(open_owned(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as stream:
            stream.write(text)
            stream.flush()
            sync_data(stream.fileno())
        new.replace(file)
        sync_folder(file.parent)
    except OSError as error:
        with suppress(OSError):  # what is told is why it could not be written
            new.unlink(missing_ok=True)
        raise StorageError(
            f"`{file}` cannot be written ({error.strerror}) - make room or mend its rights, or keep the data "
            "in another folder",
            code="DiskFull"
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            else "DataFolderNotWritable",
        ) from error
