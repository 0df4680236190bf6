"""How does a function read the product's own tables?

`ctx.db.system` reads `_scheduled_functions` as dicts and `_storage` as `StoredFile`, reactively and in the
same transaction as all else. Only the scheduler and the file store write them; `ctx.db` does not see them.
"""

from __future__ import annotations

from typing import Any, Final, Literal, overload

from ..engine import Catalog, IndexScan, Transaction
from ..errors import SchemaError, ValidationError
from ..schema import Id, StoredFile
from ..values import decode_id
from .pagination import Journal
from .query import Query
from .sources import Scan
from .system import FILES

SystemTableName = Literal["_scheduled_functions", "_storage"]
# There are system tables that functions do not see.
_READABLE: Final = ("_scheduled_functions", "_storage")
SystemIndexName = Literal["by_creation_time", "by_id"]


class SystemReader:
    """`ctx.db.system`."""

    def __init__(self, transaction: Transaction, catalog: Catalog, journal: Journal) -> None:
        self._transaction = transaction
        self._catalog = catalog
        self._journal = journal

    @overload
    def get(self, id: Id[StoredFile], /) -> StoredFile | None: ...
    @overload
    def get(self, id: str, /) -> Any: ...
    def get(self, id: str, /) -> Any:
        """The job or the file with that id, or None.

        Raises:
            ValidationError: `InvalidId`; `NotASystemTable`, for the id of a document of yours.
        """
        number, _ = decode_id(id)
        state = self._catalog.by_number(number)
        if state is not None and state.name not in _READABLE:
            way_out = "no function can read that one" if state.is_system else "use `ctx.db.get`"
            raise ValidationError(
                f"`ctx.db.system` reads jobs and files, got `{id}` of table `{state.name}` - {way_out}",
                code="NotASystemTable",
                id=id,
            )
        document = self._transaction.get(id)
        return None if document is None else document.object()

    @overload
    def query(
        self,
        table: type[StoredFile] | Literal["_storage"],
        /,
        *,
        index: SystemIndexName = "by_creation_time",
    ) -> Query[StoredFile]: ...
    @overload
    def query(
        self, table: Literal["_scheduled_functions"], /, *, index: SystemIndexName = "by_creation_time"
    ) -> Query[dict[str, Any]]: ...
    def query(
        self, table: type[StoredFile] | SystemTableName, /, *, index: SystemIndexName = "by_creation_time"
    ) -> Query[Any]:
        """All jobs or all files, in the order of creation or of their ids.

        Raises:
            SchemaError: `UnknownTable`, `UnknownIndex`.
        """
        name = FILES if table is StoredFile else table
        state = self._catalog.find(name) if isinstance(name, str) else None
        if state is None or name not in _READABLE:
            raise SchemaError(
                f"`{table}` is no system table - there are `_scheduled_functions` and `rdb.StoredFile`",
                code="UnknownTable",
                table=table,
            )
        if index not in ("by_creation_time", "by_id"):
            raise SchemaError(
                f"a system table is read `by_creation_time` or `by_id`, got `{index}`", code="UnknownIndex"
            )
        by = state.indexes[index]
        scan = IndexScan(state, by, by.interval((), None, None), by.prefix(()))
        return Query(Scan(self._transaction, scan, ()), self._journal)
