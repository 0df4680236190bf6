"""How is a database file opened, and who is refused?

Nothing is changed in a file that is not ours, damaged, newer or read-only, and a failed opening holds
nothing: no lock, no descriptor. Whatever the last holder left (a crash, a power cut) is put right here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal, cast

import apsw

from reactivedb.errors import StorageError

from . import sqlite_schema
from .open_file import OpenFile
from .owner_only import tighten_database
from .page_checksums import RESERVED_BYTES, ChecksumVFS
from .sqlite_connection import SqlConnection
from .sqlite_errors import NO_ROOM, from_os_error, from_sqlite_error, storage_error
from .sqlite_upkeep import BUSY_TIMEOUT_MS, UpkeptSqliteStorage, prepare_upkeep
from .wal_damage import RELAXED, WalDamage, damage_of, has_groups
from .wal_sync import FileWalSync, WalSync, measure_sync_cost

Durability = Literal["full", "relaxed"]

# 8 MiB of WAL: a checkpoint takes some 5 ms then, and its two syncs are shared by hundreds of commits.
CHECKPOINT_PAGES = 2000
# SQLite's own page cache, in KiB.
_CACHE_SIZE_KIB = 64 * 1024
_NO_SHM = (apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_SHMOPEN)


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
    checked = ChecksumVFS(database, vfs or "")
    _check_place(database)
    with ExitStack() as undo:
        file = OpenFile(database)
        undo.callback(file.release)
        connection = None
        try:
            # Held, so no connection of this process has locks that closing the file would drop.
            sqlite_schema.refuse_newer(database)
            connection = _connect(database, checked.vfs_name)
            undo.callback(connection.close, True)
            _prepare(connection, database)
            tighten_database(database)
            wal = open_wal(Path(str(database) + "-wal"))
            undo.callback(wal.close)
            storage = UpkeptSqliteStorage(connection, file=file, wal=wal, checkpoint_pages=checkpoint_pages)
            storage.recover(checked)
        except apsw.Error as error:
            system_errno = connection.system_errno if connection else 0
            raise from_sqlite_error(
                error, database, "open the database", system_errno=system_errno
            ) from error
        except OSError as error:
            raise from_os_error(error, database, "open the database") from error
        except (ValueError, TypeError, IndexError) as error:
            # Only in a file of an earlier format, or where another program put pages: there are no checksums.
            got = f"a stored text or number cannot be read ({error})"
            raise storage_error("DatabaseCorrupt", database, "open the database", got) from error
        if durability == "full":
            storage.tighten()
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
    is_empty = not database.exists() or database.stat().st_size == 0
    # SQLite would remove the WAL. Its first group may be there before the name of the file is durable.
    if is_empty and has_groups(Path(f"{database}-wal"), 2):
        raise _damaged_wal(database, "the database file is empty or missing", "bring it back")
    for place in (database, database.parent):
        # The bits count even for root, whom the system would let write: they say what the owner wants.
        if place.exists() and not (os.access(place, os.W_OK) and place.stat().st_mode & 0o222):
            raise storage_error("ReadOnly", database, doing, f"`{place}` is read-only")


def damage_in_wal(connection: SqlConnection, database: Path) -> WalDamage | None:
    """Are acknowledged commits in the WAL damaged? Changes nothing; raises apsw.Error."""
    damage = damage_of(Path(f"{database}-wal"), taken=_frames_taken(connection))
    if damage is not None:
        with suppress(apsw.Error):
            if connection.execute("SELECT 1 FROM meta WHERE key = ?", (RELAXED,)).fetchall():
                return None
    return damage


def _check_wal(connection: SqlConnection, database: Path) -> None:
    """Raises: StorageError `DatabaseCorrupt`."""
    damage = damage_in_wal(connection, database)
    if damage is not None:
        raise _damaged_wal(
            database,
            str(damage),
            f"restore a copy; or give these commits up: `truncate -s {damage.sound_size_bytes} "
            f"'{database}-wal'`, then `reactivedb doctor '{database}'` to see whether the rest fits together",
        )


def _frames_taken(connection: SqlConnection) -> int:
    """How many frames of the WAL SQLite found whole. Never read from `-shm`: closing that drops its locks."""
    # A damaged page is reported by who needs it; here SQLite only has to read the WAL.
    with suppress(apsw.CorruptError):
        connection.pragma("schema_version")
    frame_count, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    return max(0, frame_count)


def _damaged_wal(database: Path, got: str, way_out: str) -> StorageError:
    doing = f"recover the commits in `{database.name}-wal`"
    return storage_error("DatabaseCorrupt", database, doing, got, way_out=way_out)


def _connect(database: Path, vfs_name: str) -> SqlConnection:
    """A connection that has read nothing but the WAL. What is wrong with the file is told later."""
    connection = _connection(database, vfs_name, "NORMAL")
    try:
        connection.pragma("schema_version")
    except apsw.Error as error:
        if getattr(error, "extendedresult", 0) in _NO_SHM and connection.system_errno in NO_ROOM:
            # A full disk has no room for `-shm`. What lies in it is kept in this process's memory then, and
            # no other program can read the file for as long as it is open.
            connection.close(True)
            return _connection(database, vfs_name, "EXCLUSIVE")
    return connection


def _connection(database: Path, vfs_name: str, locking_mode: str) -> SqlConnection:
    connection = cast(SqlConnection, apsw.Connection(str(database), vfs=vfs_name))
    # Closing must change nothing until the file is known to be ours and sound.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    connection.pragma("locking_mode", locking_mode)
    return connection


def _prepare(connection: SqlConnection, database: Path) -> None:
    _check_wal(connection, database)
    known = sqlite_schema.recognise(connection, database)
    if connection.readonly("main"):
        raise storage_error("ReadOnly", database, "open the database", "SQLite can only read it")
    connection.pragma("synchronous", "NORMAL")
    connection.pragma("cache_size", -_CACHE_SIZE_KIB)
    connection.pragma("temp_store", "MEMORY")
    if not known:
        connection.reserve_bytes("main", RESERVED_BYTES)
    prepare_upkeep(connection, is_new=not known)
    mode: object = connection.pragma("journal_mode", "WAL")
    if mode != "wal":
        raise storage_error("StorageFailed", database, "open it with a write-ahead log", f"mode `{mode}`")
    connection.wal_autocheckpoint(0)
    if not known:
        sqlite_schema.create(connection)
    # The WAL is there once something was read, also of a file that had none (`sqlite3` makes such).
    connection.pragma("schema_version")
