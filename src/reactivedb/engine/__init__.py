"""The log, the state it adds up to, and transactions over it: what happens between a read and a commit."""

from .catalog import Catalog, IndexState, SystemTable, TableState
from .committer import CommitRecord, Committer, LogReader
from .document import DocumentCache, StoredDocument
from .engine import Engine
from .history import begin_at
from .query import IndexScan, scan_of
from .read_set import RangeRead, ReadSet
from .transaction import Transaction
from .write_set import DocumentChange, WriteSet

__all__ = [
    "Catalog",
    "CommitRecord",
    "Committer",
    "DocumentCache",
    "DocumentChange",
    "Engine",
    "IndexScan",
    "IndexState",
    "LogReader",
    "RangeRead",
    "ReadSet",
    "StoredDocument",
    "SystemTable",
    "TableState",
    "Transaction",
    "WriteSet",
    "begin_at",
    "scan_of",
]
