"""Which part of which index does a query read, and in which direction?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..schema import IndexBounds
from .interval import Interval

if TYPE_CHECKING:
    from .catalog import Catalog, IndexState, TableState


@dataclass(frozen=True, slots=True)
class IndexScan:
    """One interval of one index. `prefix` is set where the interval is all keys that begin with it."""

    table: TableState
    index: IndexState
    interval: Interval
    prefix: bytes | None
    reverse: bool = False


def scan_of(catalog: Catalog, bounds: IndexBounds, *, reverse: bool = False) -> IndexScan:
    """Turn bounds in values into an interval of bytes.

    Raises:
        SchemaError: `UnknownTable`.
    """
    table = catalog.table(bounds.table.name)
    index = table.indexes[bounds.index.name]
    interval = index.interval(bounds.equal, bounds.lower, bounds.upper)
    unbounded = bounds.lower is None and bounds.upper is None
    return IndexScan(table, index, interval, index.prefix(bounds.equal) if unbounded else None, reverse)
