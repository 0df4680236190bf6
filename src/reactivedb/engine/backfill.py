"""What are the entries of a new index?

They are made of every document of the table, a batch at a time in the order of ids: at once when the table
is small or the index must hold from its first moment, else while the database serves. In the second case
commits keep the entries of what they write, as for any index, so a batch only adds what was there before;
the id it has come to is kept in the meta with the batch's own entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from ..errors import RequestError, SchemaError
from ..values import UNSET, decode_key, dumps, loads
from .document import StoredDocument

if TYPE_CHECKING:
    from ..storage import Storage, StoredVersion
    from .catalog import IndexState, TableState

BATCH: Final = 1_000
# States of an index: entries are missing; complete and open to queries; complete, but declared as staged.
BUILDING: Final = "building"
READY: Final = "ready"
STAGED: Final = "staged"


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far the building of one index has come: up to the id `cursor`."""

    cursor: str = ""
    done: int = 0
    total: int = 0


def load_progress(storage: Storage, index_number: int) -> BuildProgress:
    text = storage.get_meta(_progress_key(index_number))
    if not text:
        return BuildProgress()
    cursor, done, total = cast("list[Any]", loads(text))
    return BuildProgress(cursor, int(done), int(total))


def save_progress(storage: Storage, index_number: int, progress: BuildProgress | None) -> None:
    """Into the open group; None forgets it."""
    text = "" if progress is None else dumps([progress.cursor, progress.done, progress.total]).decode()
    storage.set_meta(_progress_key(index_number), text)


def _progress_key(index_number: int) -> str:
    return f"index_build:{index_number}"


def check_ready(storage: Storage, index: IndexState) -> None:
    """Refuse to read an index that is not open to queries.

    Raises:
        RequestError: `IndexNotReady`, while it is being built; `done` and `total` count documents.
        SchemaError: `IndexStaged`.
    """
    if index.state == READY:
        return
    definition = index.definition
    owner = f"{definition.table}.{definition.name}"
    if definition.staged:
        raise SchemaError(
            f"`{owner}` is declared as staged, so it is built but not read - drop `staged=True` to use it",
            code="IndexStaged",
            table=definition.table,
            index=definition.name,
        )
    progress = load_progress(storage, index.number)
    raise RequestError(
        f"`{owner}` is still being built: {progress.done} of {progress.total} documents - try again in a "
        "moment, or deploy a new index with `staged=True` first",
        code="IndexNotReady",
        table=definition.table,
        index=definition.name,
        done=progress.done,
        total=progress.total,
    )


def stored_versions(storage: Storage, table_number: int, *, after: str = "") -> Iterator[StoredVersion]:
    """Every document of a table in id order, a batch at a time."""
    while True:
        batch = storage.scan_table(table_number, _above(after), None, limit=BATCH)
        yield from batch
        if len(batch) < BATCH:
            return
        after = batch[-1].id


def next_versions(storage: Storage, table: TableState, after: str, limit: int) -> list[StoredVersion]:
    """One batch of a table's documents behind an id."""
    return storage.scan_table(table.number, _above(after), None, limit=limit)


def _above(id: str) -> str:
    return f"{id}\x00" if id else ""


def entries_of(document: StoredDocument, indexes: list[IndexState]) -> list[tuple[int, bytes, str]]:
    """Where a document belongs in these indexes."""
    return [(index.number, document.key(index).key, document.id) for index in indexes]


def add_batch(
    storage: Storage, table: TableState, indexes: list[IndexState], versions: list[StoredVersion]
) -> None:
    """Write the entries of stored documents into the open group."""
    entries: list[tuple[int, bytes, str]] = []
    for version in versions:
        document = StoredDocument.found(table, version.id, version.ts, version.value)
        if not document.gone:
            entries += entries_of(document, indexes)
    storage.add_index_entries(table.number, entries)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A document that has the values of an earlier one in the fields of an index."""

    id: str
    other_id: str
    values: tuple[Any, ...]


def duplicates(storage: Storage, index: IndexState) -> Iterator[Duplicate]:
    """Every document whose values in the index's fields are those of a document before it, in key order.

    Documents that lack one of the fields are told apart by nothing and are no duplicates. Reads the whole
    index; memory O(batch).
    """
    low, last_prefix, last_id = b"", b"", ""
    while batch := storage.scan(index.number, low, b"\xff", limit=BATCH):
        for key, id in batch:
            prefix = index.fields_of_key(key, id)
            if prefix != last_prefix:
                last_prefix, last_id = prefix, id
                continue
            values = tuple(decode_key(prefix))
            if UNSET not in values:
                yield Duplicate(id, last_id, values)
        low = batch[-1][0] + b"\x00"
