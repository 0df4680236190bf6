"""Which stored field does `Index("author.display_name")` mean?

Python names are mapped to wire names as long as classes say what they are; below a dict or anything else that
has no declared fields they are data and taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType

from reactivedb.errors import SchemaError
from reactivedb.schema.anything import AnyValidator
from reactivedb.schema.constrained import ConstrainedValidator
from reactivedb.schema.models import DocumentValidator
from reactivedb.schema.objects import Field, ObjectValidator, Presence
from reactivedb.schema.union import UnionValidator, literals_of
from reactivedb.schema.validators import RecordValidator, Validator


@dataclass(frozen=True)
class IndexField:
    """One field of an index: its wire path, and how Python values become bounds on it."""

    path: str
    validator: Validator
    # None asks for the documents that lack the field, or what it would lie in.
    none_is_absent: bool = False

    @property
    def range_validator(self) -> Validator:
        """Bounds need not be among the literals; they are compared with them."""
        return AnyValidator() if literals_of(self.validator) else self.validator


def resolve_index_field(validator: Validator | None, path: str, *, owner: str) -> IndexField:
    """`owner` is how messages call the index; a validator of None knows no fields.

    Raises: SchemaError `UnknownIndexField`.
    """
    current: Validator = validator or AnyValidator()
    # `may_lack`: something on the way may be absent, or None, so that the path leads nowhere.
    none_is_absent = may_lack = False
    steps: list[str] = []
    for name in path.split("."):
        may_lack |= none_is_absent or (bool(steps) and NoneType in current.wire_types)
        fields = list(_fields_of(current))
        field = next((f for f in fields if f.name == name), None)
        field = field or next((f for f in fields if f.wire == name), None)
        if field is not None:
            current = field.validator
            none_is_absent = field.presence is Presence.NONE
            steps.append(field.wire)
            continue
        below = _free_names(current)
        if below is None or not name or name.startswith("_"):
            known = ", ".join(f"`{f.name}`" for f in fields) or "none"
            raise SchemaError(
                f"`{owner}`: `{name}` of `{path}` is not a field that can be indexed"
                f" - its fields are {known}",
                code="UnknownIndexField",
                field=path,
            )
        current = below
        none_is_absent, may_lack = False, True
        steps.append(name)
    none_is_absent |= may_lack and NoneType not in current.wire_types
    return IndexField(".".join(steps), current, none_is_absent)


def _fields_of(validator: Validator) -> Iterator[Field]:
    if isinstance(validator, ConstrainedValidator):
        yield from _fields_of(validator.inner)
    elif isinstance(validator, DocumentValidator):
        yield from validator.inner.fields
    elif isinstance(validator, ObjectValidator):
        yield from validator.fields
    elif isinstance(validator, UnionValidator):
        for member in validator.members:
            yield from _fields_of(member)


def _free_names(validator: Validator) -> Validator | None:
    """What lies below a name that nobody declared; None where only declared names are."""
    if isinstance(validator, AnyValidator):
        return validator
    if isinstance(validator, RecordValidator):
        return validator.values
    if isinstance(validator, ConstrainedValidator):
        return _free_names(validator.inner)
    if isinstance(validator, UnionValidator):
        return next((b for m in validator.members if (b := _free_names(m)) is not None), None)
    return None
