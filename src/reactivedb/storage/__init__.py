"""Where do the commit log and its state live? See `contract` for what a storage promises."""

from .contract import (
    Catalog,
    Commit,
    DocumentWrite,
    IndexRow,
    Outcome,
    Storage,
    StoredVersion,
    TableRow,
)
from .memory import MemoryStorage
from .sqlite import SqliteStorage
from .sqlite_open import Durability, open_sqlite

__all__ = [
    "Catalog",
    "Commit",
    "DocumentWrite",
    "Durability",
    "IndexRow",
    "MemoryStorage",
    "Outcome",
    "SqliteStorage",
    "Storage",
    "StoredVersion",
    "TableRow",
    "open_sqlite",
]
