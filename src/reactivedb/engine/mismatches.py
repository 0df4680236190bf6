"""What does not fit a schema that a program declares?

Counts everything and keeps the first few, so that memory does not grow with the damage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..errors import ReactiveDBError, SchemaError

_SHOWN_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class Offender:
    """One stored document that the schema would no longer take, and where in it the reason lies."""

    table: str
    id: str
    path: str
    expected: str
    got: str
    message: str

    @classmethod
    def of(cls, table: str, id: str, error: ReactiveDBError) -> Offender:
        found = error.fields
        return cls(
            table,
            id,
            str(found.get("path", "")),
            str(found.get("expected", found.get("maximum", ""))),
            str(found.get("got", found.get("asked", ""))),
            error.message,
        )


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """One table or index that a declaration adds, drops or builds again."""

    kind: str
    table: str
    index: str | None = None

    def __str__(self) -> str:
        what = f"table `{self.table}`" if self.index is None else f"index `{self.table}.{self.index}`"
        return f"{what} is {self.kind}"


class Mismatches:
    """The offenders of one check."""

    def __init__(self) -> None:
        self.offenders: list[Offender] = []
        self.count = 0

    def add(self, offender: Offender) -> None:
        self.count += 1
        if len(self.offenders) < _SHOWN_MAX:
            self.offenders.append(offender)

    def raise_if_any(self, changes: list[SchemaChange]) -> None:
        """Raises: SchemaError `SchemaMismatch` with `offenders` (the first ten), `count` and `changes`."""
        if not self.count:
            return
        lines = "\n".join(f"  {row.table} {row.id} {row.path}: {row.message}" for row in self.offenders)
        hidden = self.count - len(self.offenders)
        more = f"\n  ... and {hidden} more" if hidden else ""
        raise SchemaError(
            f"{self.count} stored document(s) do not fit the schema; nothing was changed. Widen the schema, "
            f"declare a `rdb.migration`, or mend the documents with the previous schema:\n{lines}{more}",
            code="SchemaMismatch",
            offenders=self.offenders,
            count=self.count,
            changes=changes,
        )
