"""May this document be written, as its table's rules have it?

Asked at every single write, inside the transaction and through an index read: what was found free is in the
read set, so the answer still holds when the transaction commits. Deletions: see `cascade`.
"""

from __future__ import annotations

from typing import Any

from ..engine import IndexScan, IndexState, StoredDocument, TableState, Transaction, prefix_interval
from ..errors import RequestError
from ..schema import TransitionRule, shown, shown_at
from ..values import UNSET, Unset, Value


class Constraints:
    """The rules over one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def checked(
        self, table: TableState, fields: dict[str, Value], current: StoredDocument | None = None
    ) -> dict[str, Value]:
        """`fields` as they are to be stored; `current` is the document that they replace.

        Raises:
            RequestError: `UniqueViolation`, `TransitionNotAllowed`. Nothing is written yet.
        """
        rules = table.definition.rules
        if not rules:
            return fields
        if rules.updated_at:
            fields = {**fields, **dict.fromkeys(rules.updated_at, self._transaction.now_ms)}
        if current is not None:
            for rule in rules.transitions:
                _check_transition(table, rule, current, fields)
        for index in rules.unique:
            self._check_unique(table, table.indexes[index.name], fields, current)
        return fields

    def _check_unique(
        self, table: TableState, index: IndexState, fields: dict[str, Value], current: StoredDocument | None
    ) -> None:
        if current is not None and index.looks_alike(fields, current.fields):
            return
        read_form = table.definition.read_form
        values = index.values_in(read_form(fields))
        if UNSET in values:
            return
        prefix = index.prefix(tuple(values))
        if current is not None and index.prefix(tuple(index.values_in(read_form(current.fields)))) == prefix:
            return
        scan = IndexScan(table, index, prefix_interval(prefix), prefix)
        for other in self._transaction.probe(scan, 1):
            raise _taken(table, index, values, other)


def _taken(table: TableState, index: IndexState, values: list[Value | Unset], other: str) -> RequestError:
    paths = index.definition.fields
    pairs = ", ".join(
        f"`{path}` = {shown_at(value, path)}" for path, value in zip(paths, values, strict=True)
    )
    name = f"{table.name}.{index.definition.name}"
    return RequestError(
        f"`{name}` is unique, and document `{other}` has {pairs} already - choose another value, or use"
        " `ctx.db.upsert`; it holds after every single write, so to swap two values, move one away first",
        code="UniqueViolation",
        table=table.name,
        index=index.definition.name,
        values=dict(zip(paths, values, strict=True)),
        id=other,
    )


def _check_transition(
    table: TableState, rule: TransitionRule, current: StoredDocument, fields: dict[str, Value]
) -> None:
    read_form = table.definition.read_form
    before: Any = read_form(current.fields).get(rule.field, UNSET)
    after: Any = read_form(fields).get(rule.field, UNSET)
    allowed = rule.following(before)
    if allowed is None or _same(before, after) or any(_same(after, state) for state in allowed):
        return
    choices = " or ".join(map(_state, allowed)) or "no other, the state is final"
    raise RequestError(
        f"`{table.name}.{rule.field}` of document `{current.id}` may go from {_state(before)} to {choices},"
        f" got {_state(after)} - go through the states in between, or widen its `rdb.Transitions`",
        code="TransitionNotAllowed",
        table=table.name,
        field=rule.field,
        id=current.id,
        before=before,
        after=after,
        allowed=list(allowed),
    )


def _state(state: Value | Unset) -> str:
    return "absent" if state is UNSET else shown(state)


def _same(one: Value | Unset, other: Value | Unset) -> bool:
    return type(one) is type(other) and one == other
