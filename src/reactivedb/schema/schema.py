"""Which tables does an application have?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

from reactivedb.errors import SchemaError
from reactivedb.schema.bounds import Source
from reactivedb.schema.document import Document, StoredFile
from reactivedb.schema.index import IndexRange
from reactivedb.schema.migration import Migration
from reactivedb.schema.table import Table, TableDefinition, table_definition


@dataclass(frozen=True)
class Schema:
    """The tables by name, and the migrations in the order they were declared."""

    tables: dict[str, TableDefinition]
    migrations: tuple[Migration, ...] = ()

    @classmethod
    def from_modules(cls, modules: Iterable[ModuleType]) -> Schema:
        """All `Document` classes, `Table` objects and migrations that the modules can see.

        Raises: SchemaError if two of them claim one table or one name, or one declares something that
            cannot be stored.
        """
        modules = tuple(modules)
        tables: dict[str, TableDefinition] = {}
        owners: dict[str, str] = {}
        for module in modules:
            for name, item in vars(module).items():
                source = _declared_table(item)
                if source is None:
                    continue
                definition = table_definition(source)
                owner = f"{module.__name__}.{name}"
                _check_table_name(definition.name, owner)
                other = tables.setdefault(definition.name, definition)
                if other is not definition:
                    raise SchemaError(
                        f"table `{definition.name}` is declared by `{owners[definition.name]}`"
                        f" and by `{owner}` - give one of them another name, or import the other",
                        code="DuplicateTable",
                        table=definition.name,
                    )
                owners.setdefault(definition.name, owner)
        _check_references(tables)
        return cls(tables, _migrations(modules, tables))

    def table_of(self, source: Source) -> TableDefinition:
        """Raises: SchemaError `UnknownTable` if the application does not have it."""
        if isinstance(source, IndexRange):
            source = source.source
        definition = table_definition(source)
        if self.tables.get(definition.name) is not definition:
            raise SchemaError(
                f"table `{definition.name}` of `{source!r}` is not part of this application"
                " - pass the module that declares it to `App`",
                code="UnknownTable",
                table=definition.name,
            )
        return definition


def _check_references(tables: dict[str, TableDefinition]) -> None:
    for definition in tables.values():
        for reference in definition.rules.references:
            if reference.target not in tables and reference.target != StoredFile.__table__:
                raise SchemaError(
                    f"`{definition.name}.{reference.field}` has a rule for the deletion of documents of"
                    f" `{reference.target}`, which is no table of this application - pass the module that"
                    " declares it to `App`, or drop the rule",
                    code="UnknownTable",
                    table=reference.target,
                    field=reference.field,
                )


def _migrations(modules: Iterable[ModuleType], tables: dict[str, TableDefinition]) -> tuple[Migration, ...]:
    found: dict[str, Migration] = {}
    for module in modules:
        for item in vars(module).values():
            if not isinstance(item, Migration):
                continue
            if found.setdefault(item.name, item) is not item:
                raise SchemaError(
                    f"two migrations are called `{item.name}`, and a database remembers them by name"
                    " - rename the one that has not run yet",
                    code="DuplicateMigration",
                    migration=item.name,
                )
            if tables.get(item.table.name) is not item.table:
                raise SchemaError(
                    f"migration `{item.name}` is of table `{item.table.name}`, which is not part of this"
                    " application - pass the module that declares it to `App`",
                    code="UnknownTable",
                    table=item.table.name,
                )
    return tuple(found.values())


def _declared_table(item: object) -> type[Document] | Table | None:
    if isinstance(item, Table):
        return item
    if isinstance(item, type) and issubclass(item, Document) and item.__table__ is not None:
        # The library's own classes are system tables, which every application has.
        return None if item.__module__.split(".")[0] == __name__.split(".")[0] else item
    return None


def _check_table_name(name: str, owner: str) -> None:
    if name.startswith("_"):
        raise SchemaError(
            f"`{owner}` names its table `{name}`, and `_` begins system tables only - rename it",
            code="ReservedName",
            table=name,
        )
