"""Does what is stored fit the schema, and what are the entries of a new index?

Both read every document of the tables concerned, in batches, at `open`. Documents are checked only when
the table's validator has changed since the last time, which the storage's meta remembers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import SchemaError, ValidationError
from .document import StoredDocument

if TYPE_CHECKING:
    from ..storage import Storage
    from .catalog import Catalog, IndexState, TableState

_BATCH = 1_000
_SHOWN_MAX = 10


@dataclass(frozen=True, slots=True)
class Offender:
    """One stored document that the schema would no longer take."""

    table: str
    id: str
    path: str
    message: str


def check_documents(storage: Storage, catalog: Catalog) -> None:
    """Compare the documents of every table whose validator is new with that validator.

    Raises:
        SchemaError: `SchemaMismatch`; `offenders` holds the first ten, `count` how many there are.
    """
    shown: list[Offender] = []
    count = 0
    for table in catalog:
        meta_key = f"validator:{table.number}"
        text = str(table.definition.validator)
        if storage.get_meta(meta_key) == text:
            continue
        for document in stored_documents(storage, table):
            try:
                table.definition.check(document.fields)
            except ValidationError as error:
                count += 1
                if len(shown) < _SHOWN_MAX:
                    shown.append(Offender(table.name, document.id, error.path, error.message))
        storage.set_meta(meta_key, text)
    if count:
        lines = "\n".join(f"  {row.table} {row.id} {row.path}: {row.message}" for row in shown)
        more = f"\n  ... and {count - len(shown)} more" if count > len(shown) else ""
        raise SchemaError(
            f"{count} stored document(s) do not fit the schema; nothing was changed. Widen the schema, "
            f"or mend the documents with the previous one:\n{lines}{more}",
            code="SchemaMismatch",
            offenders=shown,
            count=count,
        )


def build_indexes(storage: Storage, catalog: Catalog, indexes: Iterable[IndexState]) -> None:
    """Write the entries of new indexes and mark them ready."""
    by_table: dict[str, list[IndexState]] = {}
    for index in indexes:
        by_table.setdefault(index.definition.table, []).append(index)
    for name, wanted in by_table.items():
        table = catalog.table(name)
        batch: list[tuple[int, bytes, str]] = []
        for document in stored_documents(storage, table):
            batch.extend((index.number, document.key(index).key, document.id) for index in wanted)
            if len(batch) >= _BATCH:
                storage.add_index_entries(batch)
                batch = []
        storage.add_index_entries(batch)
    _mark_ready(storage)


def _mark_ready(storage: Storage) -> None:
    for row in storage.catalog().indexes:
        if row.state == "building":
            storage.put_index(replace(row, state="ready"))


def stored_documents(storage: Storage, table: TableState) -> Iterator[StoredDocument]:
    """Every document of a table in id order, a batch at a time."""
    low = ""
    while True:
        batch = storage.scan_table(table.number, low, None, limit=_BATCH)
        for version in batch:
            yield StoredDocument(table, version.id, version.ts, version.value)
        if len(batch) < _BATCH:
            return
        low = batch[-1].id + "\x00"
