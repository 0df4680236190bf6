"""Where do the commit log and its state live? See `contract` for what a storage promises."""

from .backup import BackupReport, back_up
from .compact_file import compact_file
from .contract import (
    CLOSED_FOR_GOOD,
    LOG_WRITE_SIZE_BYTES,
    Catalog,
    Commit,
    DocumentWrite,
    IndexRow,
    LogExtent,
    Outcome,
    Storage,
    StoredVersion,
    TableRow,
)
from .doctor import Examination, examine
from .files import PART_SUFFIX, FileStore, PartialFile
from .memory import MemoryStorage
from .owner_only import make_owned_folder, tighten
from .private_file import write_private
from .restore import RestoreReport, restore
from .sqlite import SqliteStorage
from .sqlite_copy import copy_sqlite
from .sqlite_open import Durability, open_sqlite
from .upkeep import Room

__all__ = [
    "CLOSED_FOR_GOOD",
    "LOG_WRITE_SIZE_BYTES",
    "PART_SUFFIX",
    "BackupReport",
    "Catalog",
    "Commit",
    "DocumentWrite",
    "Durability",
    "Examination",
    "FileStore",
    "IndexRow",
    "LogExtent",
    "MemoryStorage",
    "Outcome",
    "PartialFile",
    "RestoreReport",
    "Room",
    "SqliteStorage",
    "Storage",
    "StoredVersion",
    "TableRow",
    "back_up",
    "compact_file",
    "copy_sqlite",
    "examine",
    "make_owned_folder",
    "open_sqlite",
    "restore",
    "tighten",
    "write_private",
]
