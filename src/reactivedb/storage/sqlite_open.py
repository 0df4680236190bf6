"""How is a database file opened, and who is refused?

Nothing is changed in a file that is not ours, damaged, newer or read-only, and a failed opening holds
nothing: no lock, no descriptor. Whatever the last holder left (a crash, a power cut) is put right here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, cast

import apsw

from . import sqlite_schema
from .lock import FileLock
from .sqlite_connection import SqlConnection
from .sqlite_errors import from_os_error, from_sqlite_error, storage_error
from .sqlite_upkeep import BUSY_TIMEOUT_MS, UpkeptSqliteStorage, prepare_upkeep
from .wal_sync import FileWalSync, WalSync, measure_sync_cost

Durability = Literal["full", "relaxed"]

# 8 MiB of WAL: a checkpoint takes some 5 ms then, and its two syncs are shared by hundreds of commits.
CHECKPOINT_PAGES = 2000
# SQLite's own page cache, in KiB.
_CACHE_SIZE_KIB = 64 * 1024


def open_sqlite(
    path: str | os.PathLike[str],
    *,
    durability: Durability = "full",
    vfs: str | None = None,
    open_wal: Callable[[Path], WalSync] = FileWalSync,
    checkpoint_pages: int = CHECKPOINT_PAGES,
) -> UpkeptSqliteStorage:
    """Open the file, or lay it out if there is none (its folder must be there).

    `vfs` (a registered SQLite file system) and `open_wal` (what syncs the WAL file) are seams for tests.

    Raises: StorageError `DatabaseInUse`, `DatabaseCorrupt`, `ForeignDatabase`, `NewerFormat`, `ReadOnly`,
        `FolderMissing`, `DiskFull`, `DatabaseBusy`, `StorageFailed`; then nothing is changed or held.
    """
    # The WAL and the lock lie beside the file itself, also if the path leads there through a link.
    database = Path(os.path.realpath(path))
    _check_place(database)
    with ExitStack() as undo:
        lock = FileLock(database)
        undo.callback(lock.release)
        connection = None
        try:
            connection = cast(SqlConnection, apsw.Connection(str(database), vfs=vfs))
            undo.callback(connection.close, True)
            _prepare(connection, database)
            wal = open_wal(Path(str(database) + "-wal"))
            undo.callback(wal.close)
            storage = UpkeptSqliteStorage(
                connection, path=database, lock=lock, wal=wal, checkpoint_pages=checkpoint_pages
            )
            storage.recover()
        except apsw.Error as error:
            system_errno = connection.system_errno if connection else 0
            raise from_sqlite_error(
                error, database, "open the database", system_errno=system_errno
            ) from error
        except OSError as error:
            raise from_os_error(error, database, "open the database") from error
        if durability == "full":
            storage.sync_cost_s = measure_sync_cost(database.parent)
        else:
            storage.relax()
        undo.pop_all()
    return storage


def _check_place(database: Path) -> None:
    doing = "open the database"
    if not database.parent.is_dir():
        raise storage_error("FolderMissing", database, doing, f"there is no folder `{database.parent}`")
    if database.is_dir():
        raise storage_error("ForeignDatabase", database, doing, "it is a folder")
    for place in (database, database.parent):
        # The bits count even for root, whom the system would let write: they say what the owner wants.
        if place.exists() and not (os.access(place, os.W_OK) and place.stat().st_mode & 0o222):
            raise storage_error("ReadOnly", database, doing, f"`{place}` is read-only")


def _prepare(connection: SqlConnection, database: Path) -> None:
    # Closing must change nothing until the file is known to be ours and sound.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    known = sqlite_schema.recognise(connection, database)
    if connection.readonly("main"):
        raise storage_error("ReadOnly", database, "open the database", "SQLite can only read it")
    connection.pragma("synchronous", "NORMAL")
    connection.pragma("cache_size", -_CACHE_SIZE_KIB)
    connection.pragma("temp_store", "MEMORY")
    prepare_upkeep(connection, is_new=not known)
    mode: object = connection.pragma("journal_mode", "WAL")
    if mode != "wal":
        raise storage_error("StorageFailed", database, "open it with a write-ahead log", f"mode `{mode}`")
    connection.wal_autocheckpoint(0)
    if not known:
        sqlite_schema.create(connection)
    # The WAL is there once something was read, also of a file that had none (`sqlite3` makes such).
    connection.pragma("schema_version")
