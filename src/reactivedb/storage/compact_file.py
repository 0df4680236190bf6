"""How is a database file that nobody has open written anew, as small as it can be?

For a file of an earlier version, which cannot shrink in steps and has deleted bytes in it (`sqlite_upkeep`).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import cast

import apsw

from ..errors import StorageError
from . import sqlite_schema
from .open_file import OpenFile
from .page_checksums import ChecksumVFS
from .private_file import copy_mode, create_private
from .sqlite_connection import SqlConnection
from .sqlite_errors import from_os_error, from_sqlite_error, storage_error
from .sqlite_open import open_sqlite
from .sqlite_upkeep import BUSY_TIMEOUT_MS, INCREMENTAL, size_of
from .wal_sync import sync_data, sync_folder

_NEW_SUFFIX = ".rewriting"


def compact_file(path: Path) -> tuple[int, int]:
    """Write a database file that nobody has open anew, without what was deleted and as small as can be.

    All or nothing: the new file takes the old one's name when it is complete and durable. A kill leaves a
    file that the next call replaces.

    Gives its size in bytes before and after, with the WAL. It needs free disk for the new file.

    Raises: StorageError `FileMissing`, `DatabaseInUse`, `DiskFull` and others, with the old file as it was.
    """
    path = Path(os.path.realpath(path))
    new = path.with_name(path.name + _NEW_SUFFIX)
    if not path.is_file():
        raise StorageError(
            f"there is no database `{path}` - name another file", code="FileMissing", path=str(path)
        )
    size_bytes = size_of(path)
    if (free_bytes := shutil.disk_usage(path.parent).free) < size_bytes:
        got = f"it needs up to {size_bytes} bytes of free disk, there are {free_bytes}"
        raise storage_error("DiskFull", path, "write the file anew", got)
    before = size_bytes + size_of(Path(f"{path}-wal"))
    # Opened once as any database is: a file that is in use by whatever name is refused, and a WAL recovered.
    open_sqlite(path).close()
    held = OpenFile(path)
    connection: SqlConnection | None = None
    try:
        create_private(new)
        checked = ChecksumVFS(path)
        connection = cast(SqlConnection, apsw.Connection(str(path), vfs=checked.vfs_name))
        try:
            # Else closing would move a WAL into a file that may not be ours.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            sqlite_schema.recognise(connection, path)
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            connection.pragma("auto_vacuum", INCREMENTAL)
            connection.execute("VACUUM INTO ?", (str(new),))
            copy_mode(path, new)
            # The new file has all that the WAL has, which must not stay beside it.
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close(True)
        if Path(f"{path}-wal").exists():
            raise storage_error("DatabaseBusy", path, "write the file anew", "another program reads it")
        with new.open("rb") as file:
            sync_data(file.fileno())
        os.rename(new, path)
        sync_folder(path.parent)
        return before, size_of(path)
    except apsw.Error as error:
        system_errno = connection.system_errno if connection else 0
        raise from_sqlite_error(error, path, "write the file anew", system_errno=system_errno) from error
    except OSError as error:
        raise from_os_error(error, path, "write the file anew") from error
    finally:
        new.unlink(missing_ok=True)
        held.release()
