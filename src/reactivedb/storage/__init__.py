"""Where do the commit log and its state live? See `contract` for what a storage promises."""

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
from .sqlite import SqliteStorage
from .sqlite_copy import copy_sqlite
from .sqlite_open import Durability, open_sqlite

__all__ = [
    "CLOSED_FOR_GOOD",
    "LOG_WRITE_SIZE_BYTES",
    "PART_SUFFIX",
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
    "SqliteStorage",
    "Storage",
    "StoredVersion",
    "TableRow",
    "copy_sqlite",
    "examine",
    "make_owned_folder",
    "open_sqlite",
    "tighten",
    "write_private",
]
