"""Which tables has an administrator made that no program declares?

They take any documents and have no index of their own. The file keeps their names, so that they are there
again after a restart; a program that declares a table of such a name takes it over, with all it holds.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final, cast

from ..schema import TableDefinition
from ..values import dumps, loads
from .backfill import BUILDING
from .catalog import SystemTable, open_catalog
from .schema_change import mark_complete

if TYPE_CHECKING:
    from ..storage import Storage
    from .engine import Engine

_META_KEY: Final = "tables.made"


def made_tables(storage: Storage, declared: Collection[str]) -> list[TableDefinition]:
    """Those that are not among the declared ones."""
    return [TableDefinition(name, declared={}) for name in _names(storage) if name not in declared]


def make_table(engine: Engine, name: str) -> None:
    """Add a table to file and catalog, at once and for good, whatever becomes of the run that asks for it.

    One that was declared once, and is no more, is there again with what it holds.

    Raises:
        StorageError: nothing has changed.
    """
    with engine.lock:
        storage, catalog = engine.storage, engine.catalog
        own = [table.definition for table in catalog.user_tables]
        system = [SystemTable(table.number, table.definition) for table in catalog if table.is_system]
        with engine.own_group():
            opened = open_catalog(storage, [*own, TableDefinition(name, declared={})], system)
            made = opened.catalog.table(name)
            for index in made.all_indexes:
                if index.state == BUILDING:  # and so there are no documents yet
                    mark_complete(storage, index)
            names = dict.fromkeys([*_names(storage), name])
            storage.set_meta(_META_KEY, dumps(list(names)).decode())
        catalog.add(made)
        engine.made_names |= {name}


def _names(storage: Storage) -> list[str]:
    text = storage.get_meta(_META_KEY)
    return cast("list[str]", loads(text)) if text else []
