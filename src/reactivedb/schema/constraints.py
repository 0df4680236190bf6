"""What holds for a table's documents beyond the types of their fields?

A class says it beside the annotation (`Annotated[rdb.Id[Channel], rdb.OnDelete("cascade")]`), a `Table` in
`rules=`. Here such rules are checked against the fields and indexes they need and become `TableRules`, in
wire names and stored values; `functions.constraints` and `functions.cascade` keep them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pydantic

from reactivedb.errors import SchemaError, ValidationError
from reactivedb.schema.index import IndexDefinition
from reactivedb.schema.objects import Field, ObjectValidator, Presence
from reactivedb.schema.union import UnionValidator
from reactivedb.schema.validators import (
    IdValidator,
    LiteralValidator,
    NullValidator,
    NumberValidator,
    Validator,
)
from reactivedb.values import UNSET, Unset, Value

DeleteAction: TypeAlias = Literal["restrict", "cascade", "set_null"]
# A state as a dict key: its type tells `True` from `1.0`.
State: TypeAlias = "tuple[type, Value | Unset]"


class FieldRule:
    """What may stand in the `Annotated` around a whole field of a `Document`."""

    __slots__ = ()


def is_rule(item: object) -> bool:
    """Also for a class in the place of its instance, which `table_rules` refuses."""
    return isinstance(item, FieldRule) or (isinstance(item, type) and issubclass(item, FieldRule))


@dataclass(frozen=True, slots=True)
class OnDelete(FieldRule):
    """What becomes of a document when the one that this id names is deleted.

    `restrict`: the deletion is refused. `cascade`: this document is deleted too. `set_null`: this field
    becomes None. All three need an index that begins with the field.
    """

    action: DeleteAction


class Transitions(FieldRule):
    """From which state a literal field may move to which: `Transitions({"open": ["done"], "done": []})`.

    A state that is not among the keys is final; None stands for an absent field, which any state may follow
    unless it is a key itself. A document is inserted in any state.
    """

    __slots__ = ("allowed",)

    def __init__(self, allowed: Mapping[Any, Iterable[Any]]) -> None:
        """Raises: SchemaError `InvalidTransitions`."""
        if not isinstance(allowed, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SchemaError(
                "`rdb.Transitions` expects a dict from each state to the list of those that may follow, got"
                f" `{allowed!r}` - write `rdb.Transitions({{state: [following, ...]}})`",
                code="InvalidTransitions",
            )
        self.allowed = tuple((state, tuple(following)) for state, following in allowed.items())

    def __repr__(self) -> str:
        return f"Transitions({dict(self.allowed)!r})"


@dataclass(frozen=True, slots=True)
class UpdatedAt(FieldRule):
    """Every write sets the field to the transaction's time."""


def updated_at() -> Any:
    """A field that says when its document was last written: `updated_at: float = rdb.updated_at()`.

    Milliseconds since the epoch, the writing transaction's `now_ms`; what user code puts there is
    overwritten. A document that was not written since its table has the field reads 0.
    """
    field: Any = pydantic.Field(default=0.0)
    field.metadata.append(UpdatedAt())
    return field


@dataclass(frozen=True, slots=True)
class Reference:
    """A field of `table` that holds an id of `target`, and what a deletion there does here."""

    table: str
    field: str
    target: str
    action: DeleteAction
    # The index that finds the documents by this field.
    index: str
    # What `set_null` stores: null, or `UNSET` for a field that becomes absent.
    null: Value | Unset = None


@dataclass(frozen=True, slots=True)
class TransitionRule:
    """The states that may follow each state of a field."""

    field: str
    allowed: dict[State, tuple[Value | Unset, ...]]

    def following(self, state: Value | Unset) -> tuple[Value | Unset, ...] | None:
        """None: all may follow."""
        key = state_key(state)
        return self.allowed.get(key, None if state is UNSET or state is None else ())


@dataclass(frozen=True, slots=True)
class TableRules:
    """All rules of a table, in wire names."""

    unique: tuple[IndexDefinition, ...] = ()
    references: tuple[Reference, ...] = ()
    transitions: tuple[TransitionRule, ...] = ()
    updated_at: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Is there anything to look after when a document is written?"""
        return bool(self.unique or self.transitions or self.updated_at)

    @property
    def index_names(self) -> frozenset[str]:
        """The indexes that the rules look into."""
        return frozenset(index.name for index in self.unique) | {found.index for found in self.references}


def state_key(state: Value | Unset) -> State:
    return type(state), state


def table_rules(
    table: str,
    validator: Validator | None,
    rules: Mapping[str, Iterable[FieldRule]],
    indexes: Mapping[str, IndexDefinition],
) -> TableRules:
    """`rules` are by Python name or wire name of a field.

    Raises: SchemaError if a rule stands at a field that it cannot hold for, or lacks its index.
    """
    references: list[Reference] = []
    transitions: list[TransitionRule] = []
    updated: list[str] = []
    # A staged index may not hold every document yet, so it cannot say what is taken.
    unique = tuple(index for index in indexes.values() if index.unique and not index.staged)
    for name, of_field in rules.items():
        field = _field(table, validator, name)
        owner = f"{table}.{field.wire}"
        for kind, count in Counter(map(type, of_field)).items():
            if count > 1:
                raise _misplaced(owner, f"a field has one `rdb.{kind.__name__}`, got {count}", "keep one")
        for rule in of_field:
            if isinstance(rule, OnDelete):
                references.append(_reference(owner, table, field, rule, indexes))
            elif isinstance(rule, Transitions):
                transitions.append(_transition_rule(owner, field, rule))
            elif isinstance(rule, UpdatedAt):
                if field.validator != NumberValidator():
                    raise _misplaced(owner, "`rdb.updated_at()` is for a number", "annotate it with `float`")
                updated.append(field.wire)
            else:
                raise _misplaced(owner, f"`{rule!r}` is no rule", "use `rdb.OnDelete(...)` or the like")
    return TableRules(unique, tuple(references), tuple(transitions), tuple(updated))


def misplaced_rule(owner: str, rule: FieldRule) -> SchemaError:
    """The error for a rule that does not stand around a whole field of a document."""
    return _misplaced(
        owner,
        f"`{rule!r}` is a rule for a whole field of a `rdb.Document`",
        "write `field: Annotated[type, rule]` there, with `| None` inside of it",
    )


def _field(table: str, validator: Validator | None, name: str) -> Field:
    if isinstance(validator, ObjectValidator):
        field = validator.by_name.get(name) or validator.by_wire_name.get(name)
        if field is not None:
            return field
    raise _misplaced(
        f"{table}.{name}", "a rule needs a field whose type is known", "declare the field in the table"
    )


def _reference(
    owner: str, table: str, field: Field, rule: OnDelete, indexes: Mapping[str, IndexDefinition]
) -> Reference:
    target = _target(field.validator)
    if target is None:
        raise _misplaced(owner, "`rdb.OnDelete` is for an id", "annotate it with `rdb.Id[...]` of a table")
    if rule.action not in ("restrict", "cascade", "set_null"):
        raise _misplaced(owner, f"`{rule.action!r}` is no action", "use restrict, cascade or set_null")
    ready = (index for index in indexes.values() if index.fields[0] == field.wire and not index.staged)
    index = next(ready, None)
    if index is None:
        raise SchemaError(
            f"`{owner}` has `{rule!r}`, which looks for documents by that field, and no index begins with it"
            f' - add `by_{field.name} = rdb.Index("{field.name}")`',
            code="ReferenceWithoutIndex",
            field=field.wire,
        )
    null = _null_of(owner, field, indexes) if rule.action == "set_null" else None
    return Reference(table, field.wire, target, rule.action, index.name, null)


def _target(validator: Validator) -> str | None:
    """The table of an id, nullable or not."""
    members = validator.members if isinstance(validator, UnionValidator) else (validator,)
    ids = [member for member in members if not isinstance(member, NullValidator)]
    return ids[0].table if len(ids) == 1 and isinstance(ids[0], IdValidator) else None


def _null_of(owner: str, field: Field, indexes: Mapping[str, IndexDefinition]) -> Value | Unset:
    if field.presence in (Presence.NONE, Presence.UNSET, Presence.KEY):
        return UNSET
    if type(None) not in field.validator.wire_types:
        raise SchemaError(
            f"`{owner}` has `OnDelete('set_null')` and cannot be None - annotate it with `| None` and give it"
            " the default None",
            code="SetNullNotNullable",
            field=field.wire,
        )
    unique = next((index for index in indexes.values() if index.unique and field.wire in index.fields), None)
    if unique is not None:
        # Null is a value: the second deletion could be refused, perhaps long after the first.
        raise SchemaError(
            f"`{owner}` has `OnDelete('set_null')` and is a field of the unique index `{unique.name}`, in"
            " which null counts as a value - give the field the default None, so that it becomes absent",
            code="SetNullInUniqueIndex",
            field=field.wire,
        )
    return None


def _transition_rule(owner: str, field: Field, rule: Transitions) -> TransitionRule:
    members = field.validator.members if isinstance(field.validator, UnionValidator) else (field.validator,)
    if not all(isinstance(member, LiteralValidator | NullValidator) for member in members):
        raise _misplaced(
            owner, "`rdb.Transitions` is for a field of literals", "annotate it with `Literal[...]`"
        )

    def stored(state: Any) -> Value | Unset:
        try:
            return field.dumped(state, "")
        except ValidationError as error:
            raise SchemaError(
                f"`{owner}` has a transition from or to `{state!r}`, which is none of its states - expected"
                f" one of `{field.validator}`",
                code="UnknownState",
                field=field.wire,
            ) from error

    allowed = {state_key(stored(state)): tuple(map(stored, after)) for state, after in rule.allowed}
    return TransitionRule(field.wire, allowed)


def _misplaced(owner: str, why: str, way_out: str) -> SchemaError:
    return SchemaError(f"`{owner}`: {why} - {way_out}", code="MisplacedRule", field=owner)
