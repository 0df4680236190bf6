"""What would the migrations that have not finished make of the documents they are about?

Reads only. For a dry run the engine is over a copy of the database, in which they have begun.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..values import Value, decode
from .backfill import stored_versions
from .document import StoredDocument
from .migrations import load_records

if TYPE_CHECKING:
    from .engine import Engine


@dataclass(slots=True)
class MigrationPreview:
    """What becomes of one table's documents; `examples` are the first that change: id, before, after."""

    table: str
    migrations: list[str]
    total: int = 0
    changed: int = 0
    deleted: int = 0
    examples: list[tuple[str, Value, Value | None]] = field(
        default_factory=list[tuple[str, Value, "Value | None"]]
    )


def preview_migrations(engine: Engine, *, example_count: int = 10) -> list[MigrationPreview]:
    """One for each table with an unfinished migration. Cost: every document of those tables once."""
    previews: dict[str, MigrationPreview] = {}
    with engine.lock:
        for record in load_records(engine.storage).values():
            if not record.finished:
                preview = previews.setdefault(record.table, MigrationPreview(record.table, []))
                preview.migrations.append(record.name)
        for preview in previews.values():
            _look_through(engine, preview, example_count)
    return list(previews.values())


def _look_through(engine: Engine, preview: MigrationPreview, example_count: int) -> None:
    table = engine.catalog.table(preview.table)
    for version in stored_versions(engine.storage, table.number):
        preview.total += 1
        document = StoredDocument.found(table, version.id, version.ts, version.value)
        if not document.gone and document.json == version.value:
            continue
        if document.gone:
            preview.deleted += 1
        else:
            preview.changed += 1
        if len(preview.examples) < example_count:
            after = None if document.gone else decode(document.json)
            preview.examples.append((version.id, decode(version.value), after))
