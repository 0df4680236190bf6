"""What does sign-in keep in the database, and how is a row found and written?

System tables, there only for applications that declare `sign_in`: functions can neither read nor write them.
Nothing in them lets its reader in: of a password and of a refresh token there is a hash, and the keys that
tokens are signed with are not in the database at all (`keys`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ..engine import SystemTable
from ..functions import range_of
from ..schema import Index, TableDefinition

if TYPE_CHECKING:
    from ..engine import StoredDocument
    from ..functions import QueryCtx, Run
    from ..values import Value

# {name}: the name of the account as its owner writes it, null for somebody who is anonymous.
USERS: Final = "_sign_in_users"
# {userId, key, hash}: `key` is the name in the form that names are compared in.
PASSWORDS: Final = "_sign_in_passwords"
# {userId, familyHash, secretHash, rotatedMs, usedMs, endsMs, ended}: see `sessions`.
SESSIONS: Final = "_sign_in_sessions"
# {key, level, atMs, fullMs}: see `rate_limits`.
BUCKETS: Final = "_sign_in_rate_limits"


def _table(name: str, **fields_of_index: tuple[str, ...]) -> TableDefinition:
    declared = {index: Index(*fields) for index, fields in fields_of_index.items()}
    for index_name, index in declared.items():
        index.name = index_name
    return TableDefinition(name, declared=declared)


SIGN_IN_TABLES: Final = (
    SystemTable(544, _table(USERS)),
    SystemTable(545, _table(PASSWORDS, by_key=("key",), by_user=("userId",))),
    SystemTable(
        546, _table(SESSIONS, by_family=("familyHash",), by_user=("userId", "usedMs"), by_end=("endsMs",))
    ),
    SystemTable(547, _table(BUCKETS, by_key=("key",), by_full=("fullMs",))),
)


def run_of(ctx: QueryCtx) -> Run:
    # The context shows user code less than this.
    return ctx._run  # pyright: ignore[reportPrivateUsage]


def rows(run: Run, table_name: str, index: str, *equal: Value) -> Iterator[StoredDocument]:
    """The rows with these values, in the order of the index."""
    table = run.runner.engine.catalog.table(table_name)
    scan = range_of(run.transaction, table, table.indexes[index], equal).scan
    return (row for row, _ in run.transaction.scan(scan))


def find(run: Run, table_name: str, index: str, *equal: Value) -> StoredDocument | None:
    return next(rows(run, table_name, index, *equal), None)


def insert(run: Run, table_name: str, fields: dict[str, Value]) -> str:
    return run.transaction.insert(run.runner.engine.catalog.table(table_name), fields)


def update(run: Run, row: StoredDocument, changes: dict[str, Value]) -> None:
    kept = {name: value for name, value in row.fields.items() if not name.startswith("_")}
    run.transaction.replace(row, kept | changes)
