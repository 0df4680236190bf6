"""How is a database file copied while another process writes to it?

By SQLite's own backup, in one read transaction over a connection that cannot write: the copy holds what was
flushed at one moment, and the writer is not disturbed.
"""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from .owner_only import make_owned_file
from .page_checksums import ChecksumVFS
from .sqlite_errors import from_os_error, from_sqlite_error


def copy_sqlite(source: str | os.PathLike[str], target: Path) -> None:
    """Make `target`, which does not exist yet, a copy of `source`.

    Raises: StorageError, if one cannot be read or the other not be written.
    """
    path = Path(os.path.realpath(source))
    source_vfs, target_vfs = ChecksumVFS(path), ChecksumVFS(target)
    try:
        flags = apsw.SQLITE_OPEN_READONLY
        reader = apsw.Connection(str(path), flags=flags, vfs=source_vfs.vfs_name)
        try:
            reader.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            make_owned_file(target)
            writer = apsw.Connection(str(target), vfs=target_vfs.vfs_name)
            try:
                with writer.backup("main", reader, "main") as backup:
                    backup.step(-1)
            finally:
                writer.close()
        finally:
            reader.close()
    except OSError as error:
        raise from_os_error(error, target, "copy the database") from error
    except apsw.Error as error:
        raise from_sqlite_error(error, path, "copy the database", system_errno=0) from error
