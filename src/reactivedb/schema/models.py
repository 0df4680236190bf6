"""How do pydantic models become stored values, and stored values models?

Fields are checked by our own validators, in wire names; pydantic is asked only where a class has constraints
or validators of its own. Stored documents are built around pydantic's `__init__`, as `model_construct` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, cast, get_args, get_origin

import msgspec
import pydantic

from reactivedb.schema.constraints import FieldRule
from reactivedb.schema.document import (
    CREATION_TIME_FIELD,
    ID_FIELD,
    Document,
    Id,
    is_stored,
    mark_stored,
)
from reactivedb.schema.mismatch import Path, broken_constraint, mismatch
from reactivedb.schema.objects import Field, ObjectValidator, Presence, export_field, object_text
from reactivedb.schema.validators import FoundId, IdValidator, Loader, NumberValidator, Validator
from reactivedb.values import Value

# The slots of every model: going around pydantic's `__setattr__` by name is slower.
_slots: Any = pydantic.BaseModel.__dict__
_set_dict = _slots["__dict__"].__set__
_set_fields_set = _slots["__pydantic_fields_set__"].__set__
_set_extra = _slots["__pydantic_extra__"].__set__
_set_private = _slots["__pydantic_private__"].__set__

# Settings that make pydantic change or refuse text of the right type.
_STRING_SETTINGS = (
    "str_min_length",
    "str_max_length",
    "str_strip_whitespace",
    "str_to_lower",
    "str_to_upper",
)


def has_own_rules(model: type[pydantic.BaseModel]) -> bool:
    """Does pydantic refuse or change anything that is of the annotated types?"""
    found: Any = model.__pydantic_decorators__
    if found.field_validators or found.model_validators or found.validators or found.root_validators:
        return True
    if model.__pydantic_post_init__ or model.__pydantic_custom_init__:
        return True
    if any(setting in model.model_config for setting in _STRING_SETTINGS):
        return True
    return any(
        any(not isinstance(item, FieldRule) for item in field.metadata) or _is_annotated(field.annotation)
        for field in model.__pydantic_fields__.values()
    )


def _is_annotated(annotation: Any) -> bool:
    return get_origin(annotation) is Annotated or any(map(_is_annotated, get_args(annotation)))


@dataclass(frozen=True)
class ModelValidator(ObjectValidator):
    """The fields of a pydantic model, without system fields if it is a `Document`."""

    python_class: type[pydantic.BaseModel] = pydantic.BaseModel

    @cached_property
    def has_own_rules(self) -> bool:
        return has_own_rules(self.python_class)

    @cached_property
    def shareable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        is_frozen = bool(self.python_class.model_config.get("frozen"))
        return is_frozen and all(field.validator.shareable for field in self.fields)

    @cached_property
    def _instance_class(self) -> type[pydantic.BaseModel]:
        """`Page[Message]` also takes a plain `Page(...)`: its fields are checked one by one."""
        return self.python_class.__pydantic_generic_metadata__["origin"] or self.python_class

    @cached_property
    def _wire_names_by_name(self) -> dict[str, str]:
        return {field.name: field.wire for field in self.fields}

    def build(self, named: dict[str, Any], path: Path) -> Any:
        if self.has_own_rules:
            return self.validated(named, path)
        return self.rebuild(named)

    def validated(self, named: dict[str, Any], path: Path) -> Any:
        """The model as pydantic makes it, with every rule of its class."""
        try:
            return self.python_class.__pydantic_validator__.validate_python(
                named, by_name=True, by_alias=False
            )
        except pydantic.ValidationError as error:
            raise broken_constraint(error, self._wire_names_by_name, path) from error

    def take(self, value: Any, path: Path) -> Mapping[str, Any]:
        if isinstance(value, self._instance_class):
            return value.__dict__
        if isinstance(value, dict):
            try:
                made = self.python_class.model_validate(value, by_name=True, by_alias=True)
            except pydantic.ValidationError as error:
                raise broken_constraint(error, self._wire_names_by_name, path) from error
            return made.__dict__
        raise mismatch(self.label, value, path)

    def takes(self, python_type: type) -> bool:
        return issubclass(python_type, self._instance_class) or issubclass(python_type, dict)

    def export(self) -> dict[str, Any]:
        return {"type": "object", "value": {f.wire: export_field(f) for f in self.as_read(self.fields)}}

    def __str__(self) -> str:
        return object_text(self.as_read(self.fields))

    def as_read(self, fields: tuple[Field, ...]) -> tuple[Field, ...]:
        """In documents a default stands in every document that is read, so the field is always there."""
        if not issubclass(self.python_class, Document):
            return fields
        return tuple(
            replace(field, presence=Presence.REQUIRED) if field.presence is Presence.DEFAULT else field
            for field in fields
        )

    @cached_property
    def rebuild(self) -> Loader:
        model, furnish = self.python_class, self.furnish

        def rebuild(named: dict[str, Any]) -> Any:
            made = object.__new__(model)
            furnish(made, named)
            return made

        return rebuild

    @cached_property
    def furnish(self) -> Callable[[Any, dict[str, Any]], None]:
        """Give a bare instance its fields."""
        # Shared by all: pydantic copies it before it changes it, and only for fields that it holds already.
        names = {field.name for field in self.fields}
        runs_post_init = bool(self.python_class.__pydantic_post_init__)

        def furnish(made: Any, named: dict[str, Any]) -> None:
            _set_dict(made, named)
            _set_fields_set(made, names)
            _set_extra(made, None)
            if runs_post_init:
                made.model_post_init(None)
            else:
                _set_private(made, None)

        return furnish


@dataclass(frozen=True)
class DocumentValidator(Validator):
    """A whole stored document, with `_id` and `_creationTime`."""

    inner: ModelValidator
    table: str
    python_class: type[Document]
    wire_types = frozenset({dict})
    has_ids = True

    @property
    def label(self) -> str:
        return self.inner.label

    @cached_property
    def shareable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.shareable

    @cached_property
    def fills(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.fills

    @cached_property
    def _id(self) -> IdValidator:
        return IdValidator(self.table, Id)

    def parse(self, value: Value, path: Path = "") -> Any:
        if not isinstance(value, dict) or ID_FIELD not in value or CREATION_TIME_FIELD not in value:
            raise mismatch(self, value, path)
        fields = dict(value)
        document_id = self._id.parse(fields.pop(ID_FIELD), (path, ID_FIELD))
        creation_time = NumberValidator().parse(fields.pop(CREATION_TIME_FIELD), (path, CREATION_TIME_FIELD))
        document = self.inner.parse(fields, path)
        mark_stored(document, document_id, creation_time, None)
        return document

    def dump(self, value: Any, path: Path = "", *, splice: bool = False) -> Value:
        if type(value) is not self.python_class and not isinstance(value, self.python_class):
            raise mismatch(f"a stored {self.label}", value, path)
        if splice and type(value) is self.python_class:
            json = value.stored_json()
            if json is not None:
                return cast("Value", msgspec.Raw(json))
        if not is_stored(value):
            raise mismatch(
                f"a stored {self.label}",
                value,
                path,
                way_out="insert it and get it, or use a `rdb.Model` for what is not stored",
            )
        system: dict[str, Value] = {ID_FIELD: str.__str__(value.id), CREATION_TIME_FIELD: value.creation_time}
        return system | self.inner.dump_fields(value.__dict__, path, splice=splice)

    def takes(self, python_type: type) -> bool:
        return issubclass(python_type, self.python_class)

    @cached_property
    def load(self) -> Loader | None:
        return self._load_whole

    def _load_whole(self, value: dict[str, Value]) -> Document:
        document = self.inner.rebuild(self.inner.load_fields(value))
        mark_stored(document, cast("str", value[ID_FIELD]), cast("float", value[CREATION_TIME_FIELD]), None)
        return document

    def fill(self, value: Value) -> Value:
        return self.inner.fill(value)

    def find_ids(self, value: Value, path: Path = "") -> Iterator[FoundId]:
        if isinstance(value, dict):
            yield from self._id.find_ids(value.get(ID_FIELD), (path, ID_FIELD))
            yield from self.inner.find_ids(value, path)

    @cached_property
    def all_fields(self) -> tuple[Field, ...]:
        system = (
            Field("id", ID_FIELD, self._id),
            Field("creation_time", CREATION_TIME_FIELD, NumberValidator()),
        )
        return system + self.inner.as_read(self.inner.fields)

    def export(self) -> dict[str, Any]:
        return {"type": "object", "value": {field.wire: export_field(field) for field in self.all_fields}}

    def __str__(self) -> str:
        return object_text(self.all_fields)
