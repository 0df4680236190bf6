"""What of a schema change is done while the database serves?

The indexes of large tables and the rewriting of documents by migrations, one batch at a time: each under the
engine's lock, in a storage group of its own that also keeps how far it has come. A batch looks up what is to
do in the state of that moment, so whoever calls `work_step` again after a crash, or after another schema was
declared, simply goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Literal

from ..storage import Commit, DocumentWrite, StoredVersion
from .backfill import (
    BUILDING,
    BuildProgress,
    add_batch,
    load_progress,
    next_versions,
    save_progress,
)
from .document import StoredDocument
from .migrations import MigrationRecord, load_records, save_records
from .schema_change import mark_complete
from .write_set import WriteSet

if TYPE_CHECKING:
    from .catalog import IndexState, TableState
    from .engine import Engine

# A commit is held in memory and written in one go.
_COMMIT_SIZE_BYTES_MAX = 4 * 1024 * 1024


class Step(Enum):
    """What `work_step` has done."""

    NOTHING_LEFT = auto()
    BATCH = auto()
    # Queries of an index that were refused until now can be run.
    INDEX_COMPLETE = auto()
    # Nothing reads otherwise than before.
    MIGRATION_COMPLETE = auto()


@dataclass(frozen=True, slots=True)
class SchemaProgress:
    """One thing that is being done, or was done; `done` and `total` count documents."""

    kind: Literal["index", "migration"]
    table: str
    name: str
    done: int
    total: int
    finished: bool


def work_step(engine: Engine) -> Step:
    """Do one batch. Never awaits.

    Raises:
        StorageError: nothing of the batch is done.
        SchemaError: `MigrationFailed`; the same batch will fail again.
    """
    with engine.lock:
        for table in engine.catalog:
            indexes = [index for index in table.all_indexes if index.state == BUILDING]
            if indexes:
                return _build_batch(engine, table, indexes)
        running = [record for record in load_records(engine.storage).values() if not record.finished]
        # An unfinished migration whose table is gone is refused when a program is opened.
        if running and (table := engine.catalog.find(running[0].table)) is not None:
            return _migrate_batch(engine, table)
        return Step.NOTHING_LEFT


def schema_progress(engine: Engine) -> list[SchemaProgress]:
    """Indexes that are being built, and every migration this database knows of."""
    with engine.lock:
        found: list[SchemaProgress] = []
        for table in engine.catalog:
            for index in table.all_indexes:
                if index.state == BUILDING:
                    progress = load_progress(engine.storage, index.number)
                    found.append(
                        SchemaProgress(
                            "index", table.name, index.definition.name, progress.done, progress.total, False
                        )
                    )
        found += [
            SchemaProgress("migration", row.table, row.name, row.done, row.total, row.finished)
            for row in load_records(engine.storage).values()
        ]
        return found


def _build_batch(engine: Engine, table: TableState, building: Sequence[IndexState]) -> Step:
    storage, limit = engine.storage, engine.limits.schema_batch_documents_max
    progress = load_progress(storage, building[0].number)
    # Those that have come as far are built together: the documents are read once.
    indexes = [index for index in building if load_progress(storage, index.number) == progress]
    versions = next_versions(storage, table, progress.cursor, limit)
    is_last = len(versions) < limit
    done = min(progress.done + len(versions), progress.total)
    try:
        with engine.own_group():
            add_batch(storage, table, indexes, versions)
            for index in indexes:
                if is_last:
                    mark_complete(storage, index)
                    save_progress(storage, index.number, None)
                else:
                    save_progress(storage, index.number, BuildProgress(versions[-1].id, done, progress.total))
    except BaseException:
        for index in indexes:
            index.state = BUILDING
        raise
    return Step.INDEX_COMPLETE if is_last else Step.BATCH


def _migrate_batch(engine: Engine, table: TableState) -> Step:
    """Rewrite the next documents of a table by all its unfinished migrations at once.

    The one that began last has the highest watermark and has come the least far; when it has seen every
    document, none is older than any of the others' watermarks.
    """
    storage, limit = engine.storage, engine.limits.schema_batch_documents_max
    records = load_records(storage)
    running = [record for record in records.values() if record.table == table.name and not record.finished]
    last = running[-1]
    found = next_versions(storage, table, last.cursor, limit)
    versions = _within_size(found)
    is_last = len(found) < limit and len(versions) == len(found)
    older = [version for version in versions if version.ts <= last.watermark_ts]
    writes = [_rewritten(table, version) for version in older]
    for record in running:
        records[record.name] = _advanced(record, versions, is_last=is_last)
    with engine.own_group():
        if writes:
            engine.timeline.observe(engine.clock.now_ns())
            ts = engine.committer.next_ts()
            # What documents read as does not change, nor do their keys: no live query has to run again.
            engine.committer.append(ts, WriteSet(()), Commit(ts, writes, [], [], None))
        save_records(storage, records.values())
    for write in writes:
        engine.cache.discard(write.id)
    return Step.MIGRATION_COMPLETE if is_last else Step.BATCH


def _within_size(versions: list[StoredVersion]) -> list[StoredVersion]:
    """As many as one commit should hold."""
    size = 0
    for count, version in enumerate(versions, 1):
        size += len(version.value)
        if size >= _COMMIT_SIZE_BYTES_MAX:
            return versions[:count]
    return versions


def _rewritten(table: TableState, version: StoredVersion) -> DocumentWrite:
    document = StoredDocument.found(table, version.id, version.ts, version.value)
    return DocumentWrite(table.number, version.id, version.ts, None if document.gone else document.json)


def _advanced(record: MigrationRecord, versions: list[StoredVersion], *, is_last: bool) -> MigrationRecord:
    if is_last:
        return replace(record, done=record.total, finished=True, cursor="")
    done = min(record.done + len(versions), record.total)
    return replace(record, done=done, cursor=versions[-1].id)
