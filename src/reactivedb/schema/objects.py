"""Does this object have the fields it should have?

`ObjectValidator` is for dicts (`v.object`, `TypedDict`); dataclasses and pydantic models differ in how an
object is built of its fields and taken apart again. Objects are closed: a field nobody declared is refused.
What a field does when it is absent is its `Presence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cached_property
from typing import Any, cast

import pydantic

from reactivedb.errors import SchemaError
from reactivedb.limits import DEFAULT_LIMITS
from reactivedb.schema.mismatch import Path, broken_constraint, mismatch, missing_field, unknown_field
from reactivedb.schema.validators import FoundId, Loader, NoneType, Validator
from reactivedb.values import UNSET, MisfitError, Unset, Value, check_field_names, normalize


class Presence(Enum):
    """What it means that a field is absent."""

    REQUIRED = auto()
    NONE = auto()  # `x: T | None = None`: absent and None are the same
    UNSET = auto()  # `x: T | Unset = UNSET`
    KEY = auto()  # `NotRequired`, `v.optional`: the key is absent in Python too
    DEFAULT = auto()  # any other default stands for it


@dataclass(frozen=True)
class Field:
    """One field under its Python name and its wire name."""

    name: str
    wire: str
    validator: Validator
    presence: Presence = Presence.REQUIRED
    # With `Presence.DEFAULT`: a fresh default for Python, and its stored form. A factory has no stored
    # form, since it must not fill older documents.
    make_default: Callable[[], Any] | None = None
    stored_default: Value | Unset = UNSET

    @cached_property
    def null_is_absent(self) -> bool:
        """Callers may send null for a field that they could have left out."""
        match self.presence:
            case Presence.NONE:
                return True
            case Presence.DEFAULT:
                return NoneType not in self.validator.wire_types
            case _:
                return False

    def absent(self, named: dict[str, Any], path: Path) -> None:
        """Put into `named` what stands for the absent field."""
        match self.presence:
            case Presence.REQUIRED:
                raise missing_field(self.validator, (path, self.wire))
            case Presence.NONE:
                named[self.name] = None
            case Presence.UNSET:
                named[self.name] = UNSET
            case Presence.KEY:
                pass
            case Presence.DEFAULT:
                assert self.make_default is not None
                named[self.name] = self.make_default()

    def dumped(self, value: Any, path: Path, *, splice: bool = False) -> Value | Unset:
        """The stored form, `UNSET` for what is stored as an absent field."""
        if value is None and self.presence is Presence.NONE:
            return UNSET
        if value is UNSET:
            if self.presence in (Presence.REQUIRED, Presence.DEFAULT):
                raise missing_field(self.validator, (path, self.wire))
            return UNSET
        return self.validator.dump(value, (path, self.wire), splice=splice)


def check_wire_names(owner: str, names: Iterable[tuple[str, str]]) -> None:
    """`names` are pairs of Python name and wire name.

    Raises: SchemaError if two are equal on the wire, or one cannot be a field of a value.
    """
    seen: dict[str, str] = {}
    for name, wire in names:
        if wire in seen:
            raise SchemaError(
                f"`{owner}.{seen[wire]}` and `{owner}.{name}` are both `{wire}` on the wire"
                " - rename one of them",
                code="AmbiguousWireName",
                fields=[seen[wire], name],
            )
        try:
            # Values with declared fields are not asked again when they are stored.
            check_field_names({wire: name}, DEFAULT_LIMITS)
        except MisfitError as misfit:
            raise SchemaError(
                f"`{owner}.{name}`: expected {misfit.expected} on the wire, got {misfit.got}"
                f" - {misfit.way_out}",
                code=misfit.code,
                field=name,
            ) from None
        seen[wire] = name


@dataclass(frozen=True)
class ObjectValidator(Validator):
    """A dict with these fields; subclasses are for objects of other classes."""

    fields: tuple[Field, ...]
    # How messages call it; empty: by its constructor call.
    label: str = ""
    shareable = False
    wire_types = frozenset({dict})

    def __post_init__(self) -> None:
        check_wire_names(self.label or "object", ((field.name, field.wire) for field in self.fields))

    # How an object of this kind is built and taken apart.

    def build(self, named: dict[str, Any], path: Path) -> Any:
        """The Python object of checked fields, under their Python names."""
        return named

    def take(self, value: Any, path: Path) -> Mapping[str, Any]:
        """The fields of a Python object, under their Python names."""
        if not isinstance(value, dict):
            raise mismatch(self, value, path)
        items = cast("dict[str, Any]", value)
        if not self._names.issuperset(items):
            unknown = next(name for name in items if name not in self._names)
            raise unknown_field(self.label or str(self), self.wire_names, (path, str(unknown)))
        return items

    @cached_property
    def rebuild(self) -> Loader | None:
        """Like `build` for fields that were checked when they were stored; None: nothing to do."""
        return None

    # What follows is the same for all kinds.

    @cached_property
    def wire_names(self) -> list[str]:
        return [field.wire for field in self.fields]

    @cached_property
    def by_wire_name(self) -> dict[str, Field]:
        return {field.wire: field for field in self.fields}

    @cached_property
    def by_name(self) -> dict[str, Field]:
        return {field.name: field for field in self.fields}

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(field.name for field in self.fields)

    @cached_property
    def _parse_plan(self) -> tuple[tuple[str, str, Callable[..., Any], bool, Field], ...]:
        return tuple((f.wire, f.name, f.validator.parse, f.null_is_absent, f) for f in self.fields)

    @cached_property
    def _dump_plan(self) -> tuple[tuple[str, str, Callable[..., Value], Field], ...]:
        return tuple((f.wire, f.name, f.validator.dump, f) for f in self.fields)

    @cached_property
    def has_ids(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(field.validator.has_ids for field in self.fields)

    def parse(self, value: Value, path: Path = "") -> Any:
        return self.build(self.parse_fields(value, path), path)

    def parse_fields(self, value: Value, path: Path) -> dict[str, Any]:
        """The checked fields under their Python names."""
        if not isinstance(value, dict):
            raise mismatch(self, value, path)
        named: dict[str, Any] = {}
        known = 0
        for wire, name, parse, null_is_absent, field in self._parse_plan:
            item = value.get(wire, UNSET)
            if item is UNSET:
                field.absent(named, path)
                continue
            known += 1
            if item is None and null_is_absent:
                field.absent(named, path)
            else:
                named[name] = parse(item, (path, wire))
        if known != len(value):
            unknown = next(name for name in value if name not in self.by_wire_name)
            raise unknown_field(self.label or str(self), self.wire_names, (path, unknown))
        return named

    def dump(self, value: Any, path: Path = "", *, splice: bool = False) -> Value:
        return self.dump_fields(self.take(value, path), path, splice=splice)

    def dump_fields(self, named: Mapping[str, Any], path: Path, *, splice: bool = False) -> dict[str, Value]:
        """The stored form of fields under their Python names."""
        result: dict[str, Value] = {}
        for wire, name, dump, field in self._dump_plan:
            item = named.get(name, UNSET)
            if item is UNSET or item is None:
                stored = field.dumped(item, path)
                if stored is not UNSET:
                    result[wire] = cast("Value", stored)
            else:
                result[wire] = dump(item, (path, wire), splice=splice)
        return result

    def takes(self, python_type: type) -> bool:
        return issubclass(python_type, dict)

    @cached_property
    def _load_plan(self) -> tuple[tuple[str, str, Loader | None, Field], ...]:
        return tuple((f.wire, f.name, f.validator.load, f) for f in self.fields)

    @cached_property
    def load(self) -> Loader | None:
        rebuild = self.rebuild
        if rebuild is None and all(load is None for _, _, load, _ in self._load_plan):
            return None
        if rebuild is None:
            return self.load_fields
        return lambda value: rebuild(self.load_fields(value))

    def load_fields(self, value: dict[str, Value]) -> dict[str, Any]:
        """Like `parse_fields` for fields that were checked when they were stored."""
        named: dict[str, Any] = {}
        for wire, name, load, field in self._load_plan:
            item = value.get(wire, UNSET)
            if item is UNSET:
                field.absent(named, "")
            elif load is None or (item is None and field.null_is_absent):
                named[name] = item
            else:
                named[name] = load(item)
        return named

    @cached_property
    def fills(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return bool(self._filling)

    @cached_property
    def _filling(self) -> tuple[Field, ...]:
        return tuple(f for f in self.fields if f.stored_default is not UNSET or f.validator.fills)

    def fill(self, value: Value) -> Value:
        if not isinstance(value, dict):
            return value
        filled = value
        for field in self._filling:
            item = value.get(field.wire, UNSET)
            if item is UNSET:
                if field.stored_default is UNSET:
                    continue
                # A copy, because what is filled in may be handed to user code.
                new = normalize(field.stored_default)
            else:
                new = field.validator.fill(cast("Value", item))
                if new is item:
                    continue
            if filled is value:
                filled = dict(value)
            filled[field.wire] = new
        return filled

    def find_ids(self, value: Value, path: Path = "") -> Iterator[FoundId]:
        if self.has_ids and isinstance(value, dict):
            for field in self.fields:
                if field.validator.has_ids and field.wire in value:
                    yield from field.validator.find_ids(value[field.wire], (path, field.wire))

    def export(self) -> dict[str, Any]:
        return {"type": "object", "value": {field.wire: export_field(field) for field in self.fields}}

    def __str__(self) -> str:
        return object_text(self.fields)

    # Deriving one validator from another.

    def extend(self, fields: Mapping[str, Validator | OptionalField]) -> ObjectValidator:
        """These fields and those; a field of the same name is replaced."""
        added = object_fields(fields)
        names = {field.name for field in added}
        return self._derived((*(field for field in self.fields if field.name not in names), *added))

    def pick(self, *names: str) -> ObjectValidator:
        self._check_known(names)
        return self._derived(tuple(field for field in self.fields if field.name in names))

    def omit(self, *names: str) -> ObjectValidator:
        self._check_known(names)
        return self._derived(tuple(field for field in self.fields if field.name not in names))

    def partial(self) -> ObjectValidator:
        """The same fields, all of them optional."""
        return self._derived(tuple(replace(field, presence=Presence.KEY) for field in self.fields))

    def _derived(self, fields: tuple[Field, ...]) -> ObjectValidator:
        if type(self) is not ObjectValidator:
            raise SchemaError(f"`{self.label}` is a class - derive a subclass of it, or write `v.object`")
        return ObjectValidator(fields)

    def _check_known(self, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in self.by_name:
                raise SchemaError(f"`{name}` is not a field of `{self}`", code="UnknownField")


@dataclass(frozen=True)
class OptionalField:
    """What `v.optional` gives: a field of `v.object` that may be absent."""

    validator: Validator

    def __str__(self) -> str:
        return f"v.optional({self.validator})"


def object_fields(fields: Mapping[str, Validator | OptionalField]) -> tuple[Field, ...]:
    """Fields whose names are the same on both sides.

    Raises: SchemaError `NotAValidator`.
    """
    return tuple(
        Field(name, name, given.validator, Presence.KEY)
        if isinstance(given, OptionalField)
        else Field(name, name, checked_validator(given, f"v.object` for `{name}"))
        for name, given in fields.items()
    )


def checked_validator(given: object, taker: str) -> Validator:
    """What was given to `taker`, which takes a validator.

    Raises: SchemaError `NotAValidator`.
    """
    if isinstance(given, Validator):
        return given
    way_out = (
        "only a field of `v.object` can be absent; what may be null is `v.union(..., v.null())`"
        if isinstance(given, OptionalField)
        else "use `v.string()`, `v.number()` and the like"
    )
    raise SchemaError(f"`{taker}` takes a validator, got `{given}` - {way_out}", code="NotAValidator")


def export_field(field: Field) -> dict[str, Any]:
    return {"fieldType": field.validator.export(), "optional": field.presence is not Presence.REQUIRED}


def object_text(fields: Iterable[Field]) -> str:
    parts = (
        f'"{field.wire}": {field.validator}'
        if field.presence is Presence.REQUIRED
        else f'"{field.wire}": v.optional({field.validator})'
        for field in fields
    )
    return f"v.object({{{', '.join(parts)}}})"


@dataclass(frozen=True)
class DataclassValidator(ObjectValidator):
    """A dataclass; its field names are the same on the wire."""

    python_class: type = object
    frozen: bool = False

    @cached_property
    def shareable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.frozen and all(field.validator.shareable for field in self.fields)

    def build(self, named: dict[str, Any], path: Path) -> Any:
        try:
            return self.python_class(**named)
        except pydantic.ValidationError as error:
            raise broken_constraint(error, {}, path) from error
        except ValueError as error:
            # `__post_init__` says so in the way pydantic's validators do.
            raise mismatch(str(error), named, path, reason="constraint") from error

    def take(self, value: Any, path: Path) -> Mapping[str, Any]:
        if not isinstance(value, self.python_class):
            raise mismatch(self.label, value, path)
        return {field.name: getattr(value, field.name) for field in self.fields}

    @cached_property
    def rebuild(self) -> Loader | None:
        python_class = self.python_class
        return lambda named: python_class(**named)

    def takes(self, python_type: type) -> bool:
        return issubclass(python_type, self.python_class)
