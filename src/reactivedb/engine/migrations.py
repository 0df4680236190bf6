"""Which migrations has this database run, and how is a document read that none of them has rewritten yet?

A migration begins when a program that declares it opens the database: its record keeps the last commit
timestamp of that moment, the watermark. A version up to the watermark is in the old form, wherever it is
met; one above it was written under the new schema. So no list of what is done is needed for being right: a
version is brought forward as it is read (`Upgrade`), and rewriting it, at a new timestamp, changes nothing
that anybody can see.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

from ..errors import SchemaError, ValidationError
from ..user_code import contained, is_from_library, is_of, name_of, text_of
from ..values import Value, decode, dumps, encode, loads

if TYPE_CHECKING:
    from ..schema import Migration, TableDefinition
    from ..storage import Storage

_META_KEY: Final = "migrations"


@dataclass(frozen=True, slots=True)
class MigrationRecord:
    """How far one migration has come; kept for as long as the database lives."""

    name: str
    table: str
    digest: str
    watermark_ts: int
    # Documents of the table when it began, and how many of them have been looked at, up to the id `cursor`.
    total: int = 0
    done: int = 0
    cursor: str = ""
    finished: bool = False


@dataclass(frozen=True, slots=True)
class _Step:
    migration: Migration
    watermark_ts: int


class Upgrade:
    """What brings older versions of one table's documents into the form of its schema."""

    def __init__(self, definition: TableDefinition, steps: Sequence[_Step]) -> None:
        self._definition = definition
        self._steps = steps
        self.until_ts = max(step.watermark_ts for step in steps)

    def apply(self, ts: int, json: bytes) -> tuple[bytes, dict[str, Value]] | None:
        """A version in the new form, as text and as fields; None for one that the migration deletes.

        Raises:
            SchemaError: `MigrationFailed`, with the path of what does not fit.
        """
        fields: dict[str, Value] | None = cast("dict[str, Value]", decode(json))
        name = ""
        try:
            for step in self._steps:
                if ts > step.watermark_ts:
                    continue
                name = step.migration.name
                fields = step.migration.apply(fields)
                if fields is None:
                    return None
            # Before defaults are filled in: what only a `default_factory` could fill is missing here too.
            self._definition.check(fields)
            system: dict[str, Value] = {"_id": fields["_id"], "_creationTime": fields["_creationTime"]}
            own = {field: value for field, value in fields.items() if field not in system}
            new = system | self._definition.dump(own)
            return encode(new), new
        except BaseException as error:  # the program's own function may raise anything
            raise _failed(name, self._definition.name, str(loads(json)["_id"]), contained(error)) from error


def _failed(name: str, table: str, id: str, error: BaseException) -> SchemaError:
    details = error.fields if is_of(error, ValidationError) and is_from_library(error) else {}
    raised = f"{name_of(error)}: {text_of(error)}"
    return SchemaError(
        f"migration `{name}` cannot bring `{id}` of `{table}` into the new form: {raised}",
        code="MigrationFailed",
        migration=name,
        table=table,
        id=id,
        path=details.get("path", ""),
        expected=details.get("expected", f"what migration `{name}` makes of it"),
        got=details.get("got", raised),
    )


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What opening with these declarations means: the records to keep, and what reads go through."""

    records: dict[str, MigrationRecord]
    # Tables whose older documents read differently from now on: to be checked, and indexed anew.
    starting: frozenset[str]
    upgrades: dict[str, Upgrade]


def load_records(storage: Storage) -> dict[str, MigrationRecord]:
    """By name, in the order in which they began."""
    text = storage.get_meta(_META_KEY)
    rows = cast("list[dict[str, Any]]", loads(text)) if text else []
    return {row["name"]: MigrationRecord(**_whole_numbers(row)) for row in rows}


def _whole_numbers(row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: int(row[name]) for name in ("watermark_ts", "total", "done")}


def save_records(storage: Storage, records: Iterable[MigrationRecord]) -> None:
    """Into the open group."""
    storage.set_meta(_META_KEY, dumps([asdict(record) for record in records]).decode())


def plan_migrations(storage: Storage, migrations: Iterable[Migration], applied_ts: int) -> MigrationPlan:
    """Compare what the program declares with what the database remembers.

    Raises:
        SchemaError: `MigrationNameTaken`, `MigrationUnfinished`.
    """
    records = load_records(storage)
    declared = {migration.name: migration for migration in migrations}
    for record in records.values():
        if not record.finished and record.name not in declared:
            raise SchemaError(
                f"migration `{record.name}` of `{record.table}` has not finished ({record.done} of "
                f"{record.total} documents) - declare it until it has",
                code="MigrationUnfinished",
                migration=record.name,
                table=record.table,
            )
    starting: set[str] = set()
    for migration in declared.values():
        table, record = migration.table.name, records.get(migration.name)
        if record is None:
            records[migration.name] = MigrationRecord(migration.name, table, migration.digest, applied_ts)
            starting.add(table)
        elif record.table != table:
            raise SchemaError(
                f"a migration called `{record.name}` was run on table `{record.table}` of this database, "
                f"expected that table, got `{table}` - give the new migration a name of its own",
                code="MigrationNameTaken",
                migration=record.name,
                table=table,
            )
        elif not record.finished and record.digest != migration.digest:
            # It was edited half-way: what is left reads by the new text, so keys are worked out again.
            records[record.name] = replace(record, digest=migration.digest)
            starting.add(table)
    return MigrationPlan(records, frozenset(starting), _upgrades(records, declared))


def _upgrades(records: dict[str, MigrationRecord], declared: dict[str, Migration]) -> dict[str, Upgrade]:
    steps: dict[str, list[_Step]] = {}
    for record in records.values():
        migration = declared.get(record.name)
        # Finished ones too: views of the past meet older versions for as long as the log keeps them.
        if migration is not None and migration.table.name == record.table:
            steps.setdefault(record.table, []).append(_Step(migration, record.watermark_ts))
    return {table: Upgrade(own[0].migration.table, own) for table, own in steps.items()}
