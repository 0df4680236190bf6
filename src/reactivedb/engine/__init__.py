"""The log, the state it adds up to, and transactions over it: what happens between a read and a commit."""

from .catalog import Catalog, IndexState, SystemTable, TableState
from .committer import CommitRecord, Committer, LogReader
from .compaction import CompactionReport, compaction
from .document import DocumentCache, StoredDocument
from .engine import Engine, Running
from .erasure import each_write, erase_answers, erase_versions, texts_of, versions_in_log, written_forms
from .history import begin_at, check_public_at, check_readable_at, versions_of
from .interval import just_above, prefix_interval
from .made_tables import make_table
from .migration_preview import MigrationPreview, preview_migrations
from .mismatches import Offender, SchemaChange
from .query import IndexScan, scan_of
from .read_set import RangeRead, ReadSet
from .retention import Retention, RetentionReport
from .schema_change import SchemaReport
from .schema_work import SchemaProgress, Step, schema_progress, work_step
from .timeline import Timeline
from .transaction import Transaction
from .walk import Walk
from .write_set import DocumentChange, WriteSet

__all__ = [
    "Catalog",
    "CommitRecord",
    "Committer",
    "CompactionReport",
    "DocumentCache",
    "DocumentChange",
    "Engine",
    "IndexScan",
    "IndexState",
    "LogReader",
    "MigrationPreview",
    "Offender",
    "RangeRead",
    "ReadSet",
    "Retention",
    "RetentionReport",
    "Running",
    "SchemaChange",
    "SchemaProgress",
    "SchemaReport",
    "Step",
    "StoredDocument",
    "SystemTable",
    "TableState",
    "Timeline",
    "Transaction",
    "Walk",
    "WriteSet",
    "begin_at",
    "check_public_at",
    "check_readable_at",
    "compaction",
    "each_write",
    "erase_answers",
    "erase_versions",
    "just_above",
    "make_table",
    "prefix_interval",
    "preview_migrations",
    "scan_of",
    "schema_progress",
    "texts_of",
    "versions_in_log",
    "versions_of",
    "work_step",
    "written_forms",
]
