"""What happens to what is stored when a program declares its tables?

Everything in one storage group: numbers, checks, migrations that begin, and the indexes that must be complete
before anybody reads. If something does not fit, nothing is changed. Each table that has to be looked at is
gone through once, and memory holds one batch of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ..errors import LimitExceededError, ReactiveDBError, SchemaError, ValidationError
from ..schema import fingerprint
from ..user_code import contained, is_from_library, is_of, name_of, text_of
from .backfill import (
    BATCH,
    BUILDING,
    BuildProgress,
    duplicates,
    entries_of,
    load_progress,
    save_progress,
    stored_versions,
)
from .catalog import Catalog, IndexState, SystemTable, TableState, open_catalog
from .document import StoredDocument
from .document_limits import check_document_limits
from .migrations import MigrationPlan, MigrationRecord, plan_migrations, save_records
from .mismatches import Mismatches, Offender, SchemaChange

if TYPE_CHECKING:
    from ..limits import Limits
    from ..schema import Migration, TableDefinition
    from ..storage import Storage, StoredVersion

# So many documents of a starting migration are brought forward twice, to see whether it gives the same again.
_REPEATED_COUNT: Final = 10


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a program says its database holds."""

    tables: tuple[TableDefinition, ...]
    system: tuple[SystemTable, ...]
    migrations: tuple[Migration, ...] = ()


@dataclass(frozen=True, slots=True)
class SchemaReport:
    """What a declaration changes in a database that it fits."""

    changes: tuple[SchemaChange, ...]
    # The names of migrations that begin, and of those that go on.
    migrations: tuple[str, ...]


def change_schema(
    storage: Storage, declaration: Declaration, *, applied_ts: int, limits: Limits
) -> tuple[Catalog, SchemaReport]:
    """Compare with what is stored and make it so, in the open group; the caller flushes or rolls back.

    Raises:
        SchemaError: `SchemaMismatch`, and what `plan_migrations` raises.
    """
    plan = plan_migrations(storage, declaration.migrations, applied_ts)
    opened = open_catalog(storage, declaration.tables, declaration.system, reindexed=plan.starting)
    for number in opened.dropped_index_numbers:
        save_progress(storage, number, None)
        storage.set_meta(_unique_key(number), "")
    change = _Change(storage, opened.catalog, plan, limits)
    own = {definition.name for definition in declaration.tables}
    for table in opened.catalog:
        table.upgrade = plan.upgrades.get(table.name)
        change.go_through(table, is_own=table.name in own)
    change.mismatches.raise_if_any(opened.changes)
    for table in opened.catalog:
        change.check_unique(table)
    change.mismatches.raise_if_any(opened.changes)
    records = [change.started(record.name) for record in plan.records.values()]
    if records:
        save_records(storage, records)
    unfinished = tuple(record.name for record in records if not record.finished)
    return opened.catalog, SchemaReport(tuple(opened.changes), unfinished)


class _Change:
    def __init__(self, storage: Storage, catalog: Catalog, plan: MigrationPlan, limits: Limits) -> None:
        self._storage = storage
        self._catalog = catalog
        self._plan = plan
        self._limits = limits
        self._counts: dict[str, int] = {}
        self.mismatches = Mismatches()

    def go_through(self, table: TableState, *, is_own: bool) -> None:
        """Check the documents of one table if need be, and build what must be complete at once."""
        meta_key = f"validator:{table.number}"
        text = fingerprint(table.definition)
        is_starting = table.name in self._plan.starting
        is_checked = is_starting or self._storage.get_meta(meta_key) != text
        building = [index for index in table.all_indexes if index.state == BUILDING]
        now = building
        if building and is_own and not is_starting and self._is_large(table):
            # A rule holds from its first moment on, so its index is complete by then.
            needed = table.definition.rules.index_names
            now = [index for index in building if index.definition.name in needed]
        if now or (is_checked and table.definition.validator is not None) or is_starting:
            self._read(table, now, is_checked=is_checked)
        if is_checked:
            self._storage.set_meta(meta_key, text)
        for index in now:
            mark_complete(self._storage, index)
        for index in building:
            if index not in now and not load_progress(self._storage, index.number).total:
                save_progress(self._storage, index.number, BuildProgress(total=self._size(table)))

    def _is_large(self, table: TableState) -> bool:
        return self._size(table) > self._limits.documents_indexed_at_open_max

    def _size(self, table: TableState) -> int:
        by_creation_time = table.by_creation_time
        if by_creation_time.state == BUILDING:  # a new table
            return 0
        return self._storage.count(by_creation_time.number, b"", b"\xff")

    def _read(self, table: TableState, indexes: list[IndexState], *, is_checked: bool) -> None:
        entries: list[tuple[int, bytes, str]] = []
        count = 0
        for version in stored_versions(self._storage, table.number):
            count += 1
            try:
                document = self._document(table, version, count)
                self._check(table, document, is_checked=is_checked)
            except (SchemaError, ValidationError, LimitExceededError) as error:
                self.mismatches.add(Offender.of(table.name, version.id, error))
                continue
            if document.gone or self.mismatches.count:
                continue
            entries += entries_of(document, indexes)
            if len(entries) >= BATCH:
                self._storage.add_index_entries(table.number, entries)
                entries = []
        self._storage.add_index_entries(table.number, entries)
        self._counts[table.name] = count

    def _check(self, table: TableState, document: StoredDocument, *, is_checked: bool) -> None:
        if document.gone:
            return
        if table.upgrade is not None and document.ts <= table.upgrade.until_ts:
            # The upgrade has compared it with the schema; how large it has become is another matter.
            check_document_limits(self._limits, table.name, document.fields, document.json)
        elif is_checked:
            _check_fields(table, document)
        else:
            return
        validator = table.definition.validator
        if validator is not None and validator.has_ids:
            for found in validator.find_ids(document.fields):
                self._catalog.check_id(found.id, found.table, found.path)

    def _document(self, table: TableState, version: StoredVersion, count: int) -> StoredDocument:
        document = StoredDocument.found(table, version.id, version.ts, version.value)
        if count <= _REPEATED_COUNT and table.name in self._plan.starting:
            again = StoredDocument.found(table, version.id, version.ts, version.value)
            if (document.gone, document.json) != (again.gone, again.json):
                raise SchemaError(
                    "the migration gives something else each time it is asked - let it use nothing but the "
                    "document: no clock, no random, no `default_factory`",
                    code="MigrationNotRepeatable",
                    expected=again.json.decode(),
                    got=document.json.decode(),
                )
        return document

    def check_unique(self, table: TableState) -> None:
        """Compare what is stored with indexes that are unique from now on."""
        for index in table.all_indexes:
            key = _unique_key(index.number)
            was_enforced = self._storage.get_meta(key) == "enforced"
            if index.enforces_unique and not was_enforced:
                for found in duplicates(self._storage, index):
                    self.mismatches.add(_duplicate(index, found.id, found.other_id, found.values))
            if index.enforces_unique != was_enforced:
                self._storage.set_meta(key, "enforced" if index.enforces_unique else "")

    def started(self, name: str) -> MigrationRecord:
        """The record of a migration; one without documents is over before it begins."""
        record = self._plan.records[name]
        if record.finished or record.table not in self._counts or record.table not in self._plan.starting:
            return record
        total = self._counts[record.table]
        return replace(record, total=total, finished=total == 0)


def _check_fields(table: TableState, document: StoredDocument) -> None:
    try:
        table.definition.check(document.fields)
    except BaseException as error:  # a validator of the class may raise anything
        if is_of(error, ReactiveDBError) and is_from_library(error):
            raise
        raised = f"{name_of(contained(error))}: {text_of(error)}"
        raise SchemaError(
            f"a validator of the table's class failed with {raised} - let it raise `ValueError` to refuse",
            code="ValidatorFailed",
            expected="a document that the validators of its class take",
            got=raised,
        ) from error


def mark_complete(storage: Storage, index: IndexState) -> None:
    """All entries of the index are there: into the open group, and in memory."""
    row = next(row for row in storage.catalog().indexes if row.number == index.number)
    storage.put_index(replace(row, state=index.complete_state))
    index.state = index.complete_state


def _unique_key(index_number: int) -> str:
    return f"index_unique:{index_number}"


def _duplicate(index: IndexState, id: str, other_id: str, values: tuple[object, ...]) -> Offender:
    definition = index.definition
    path = ", ".join(f".{field}" for field in definition.fields)
    shown = ", ".join(f"`{value!r}`" for value in values)
    got = f"{shown} which `{other_id}` has"
    expected = f"values that no other document has in unique index `{definition.name}`"
    return Offender(
        definition.table,
        id,
        path,
        expected,
        got,
        f"expected {expected} at `{path}`, got {got}",
    )
