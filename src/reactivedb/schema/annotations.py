"""Which validator does an annotation stand for?

Builtins, `Literal`, enums, unions, `Id`, `Int64`, lists, dicts, `TypedDict`, dataclasses and pydantic models.
What cannot be stored is refused while the program is declared, with the way out.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import types
import typing
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import pydantic
import typing_extensions
from pydantic.fields import FieldInfo

from reactivedb.errors import SchemaError
from reactivedb.schema.anything import AnyValidator
from reactivedb.schema.constrained import constrained
from reactivedb.schema.constraints import FieldRule, misplaced_rule
from reactivedb.schema.constructors import literal_of, record_of
from reactivedb.schema.defaults import field_of
from reactivedb.schema.document import Document, Id, wire_name
from reactivedb.schema.hints import Arguments, arguments_of, field_hints, is_fields_class
from reactivedb.schema.models import DocumentValidator, ModelValidator
from reactivedb.schema.objects import DataclassValidator, Field, ObjectValidator, Presence
from reactivedb.schema.pydantic_annotations import NOT_REQUIRED, REQUIRED, Inside, recursive_type
from reactivedb.schema.union import union_of
from reactivedb.schema.validators import (
    ArrayValidator,
    BooleanValidator,
    BytesValidator,
    IdValidator,
    Int64Validator,
    NullValidator,
    NumberValidator,
    StringValidator,
    Validator,
)
from reactivedb.values import Int64, Unset, Value

_SCALARS: dict[Any, Validator] = {
    None: NullValidator(),
    type(None): NullValidator(),
    bool: BooleanValidator(),
    int: NumberValidator(integral=True),
    float: NumberValidator(),
    str: StringValidator(),
    bytes: BytesValidator(),
    Int64: Int64Validator(),
    Any: AnyValidator(),
    object: AnyValidator(),
}

_MILLISECONDS = "store milliseconds since the epoch as `float`, or ISO text as `str`"
# By name, so that nothing has to be imported for it.
_WAYS_OUT = {
    "datetime.datetime": _MILLISECONDS,
    "datetime.date": _MILLISECONDS,
    "datetime.time": "store it as ISO text in a `str`",
    "datetime.timedelta": "store seconds as `float`",
    "decimal.Decimal": "store it as `str`, or as a whole number of the smallest unit in `rdb.Int64`",
    "uuid.UUID": "store it as `str`",
    "builtins.tuple": "use `list[...]`, or a dataclass that names its parts",
    "builtins.set": "use `list[...]`",
    "builtins.frozenset": "use `list[...]`",
    "builtins.bytearray": "use `bytes`",
    "builtins.complex": "store two `float` fields",
    "builtins.type": "store its name as `str`",
}
_SEQUENCES = (list, collections.abc.Sequence, collections.abc.MutableSequence)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_ALIAS_TYPES: tuple[type, ...] = (typing_extensions.TypeAliasType,)


def validator_for(annotation: object) -> Validator:
    """Raises: SchemaError `UnsupportedAnnotation`, naming the annotation and the way out."""
    return _derive(annotation, ())


def _derive(annotation: Any, inside: Inside) -> Validator:
    if annotation is Value:
        return AnyValidator()
    if isinstance(annotation, _ALIAS_TYPES):
        return _derive(annotation.__value__, inside)
    try:
        scalar = _SCALARS.get(annotation)
    except TypeError:  # Annotated with something unhashable
        scalar = None
    if scalar is not None:
        return scalar
    origin = get_origin(annotation)
    if origin is not None:
        return _derive_generic(annotation, origin, inside)
    if annotation in _SEQUENCES:
        return ArrayValidator(AnyValidator())
    if annotation in _MAPPINGS:
        return record_of(StringValidator(), AnyValidator())
    if isinstance(annotation, type):
        return _derive_class(annotation, inside)
    raise _unsupported(annotation)


def _derive_generic(annotation: Any, origin: Any, inside: Inside) -> Validator:
    args = get_args(annotation)
    if not args and origin in (*_SEQUENCES, *_MAPPINGS):
        return _derive(origin, inside)  # `typing.List`, which is `list`.
    if origin is Annotated:
        return constrained(annotation, _derive(args[0], inside))
    if origin is Union or origin is types.UnionType:
        return union_of(_derive(arg, inside) for arg in args if arg is not Unset)
    if origin is Literal:
        return union_of(_enum_literal(arg) if isinstance(arg, enum.Enum) else literal_of(arg) for arg in args)
    if origin is Id:
        return _derive_id(annotation, args[0])
    if origin in _SEQUENCES:
        return ArrayValidator(_derive(args[0], inside))
    if origin in _MAPPINGS:
        return record_of(_derive(args[0], inside), _derive(args[1], inside))
    if is_fields_class(origin):
        return _derive_class(origin, inside, arguments_of(annotation))
    if isinstance(origin, _ALIAS_TYPES):
        return _derive(origin.__value__[args], inside)
    if origin in (typing.Final, typing.ClassVar):
        return _derive(args[0], inside)
    raise _unsupported(annotation)


def _derive_class(cls: type, inside: Inside, arguments: Arguments | None = None) -> Validator:
    if cls in inside:
        raise recursive_type(cls)
    inside = (*inside, cls)
    if issubclass(cls, enum.Enum):
        if not len(cls):
            raise SchemaError(
                f"`{cls.__name__}` has no members - give it at least one", code="UnsupportedAnnotation"
            )
        return union_of(_enum_literal(member) for member in cls)
    if issubclass(cls, Document):
        return _derive_document(cls, inside)
    if issubclass(cls, pydantic.BaseModel):
        return derive_model(cls, inside)
    plain = cast("type[Any]", cls)
    if typing_extensions.is_typeddict(plain):
        return _derive_typed_dict(cls, inside, arguments)
    if dataclasses.is_dataclass(plain):
        return _derive_dataclass(cls, inside, arguments)
    if issubclass(cls, Id):
        return IdValidator(None, Id)
    raise _unsupported(cls)


def _derive_id(annotation: Any, target: Any) -> Validator:
    if target is Any or isinstance(target, TypeVar):
        return IdValidator(None, Id)
    table = getattr(target, "__table__", None)
    if not isinstance(table, str):
        raise SchemaError(
            f"`{annotation}` names no table: expected `rdb.Id` of a class with `table=...`"
            " - use `v.id(name)` for a table of dicts, or `rdb.Id[Any]` for any",
            code="UnsupportedAnnotation",
        )
    return IdValidator(table, Id)


def _enum_literal(member: enum.Enum) -> Validator:
    if member.value is None:
        raise SchemaError(
            f"`{member}` has the value None, which reads as None and not as the member"
            f" - give it a string, or use `{type(member).__name__} | None` without it",
            code="UnsupportedAnnotation",
        )
    return literal_of(member.value, python=member)


def _derive_document(cls: type[Document], inside: Inside) -> Validator:
    if cls.__table__ is None:
        raise SchemaError(
            f"`{cls.__name__}` has no table: expected a class with `table=...` - derive objects that are not"
            " stored by themselves from `rdb.Model`",
            code="UnsupportedAnnotation",
        )
    return DocumentValidator(derive_model(cls, inside), cls.__table__, cls)


def derive_model(cls: type[pydantic.BaseModel], inside: Inside = ()) -> ModelValidator:
    """The fields of a pydantic model."""
    if not cls.__pydantic_complete__:
        cls.model_rebuild(raise_errors=False)
    if not cls.__pydantic_complete__:
        raise SchemaError(
            f"the annotations of `{cls.__name__}` name something that is not defined"
            " - define it in the same module, above the first use",
            code="UnresolvedAnnotation",
        )
    if issubclass(cls, pydantic.RootModel):
        raise SchemaError(
            f"`{cls.__name__}` is a `RootModel`, which is no object - annotate with what it holds",
            code="UnsupportedAnnotation",
        )
    if cls.model_config.get("extra") == "allow":
        raise SchemaError(
            f'`{cls.__name__}` allows unknown fields, and objects are closed - remove `extra="allow"`'
            " and keep free names in a `dict[str, ...]` field",
            code="UnsupportedAnnotation",
        )
    fields = [_model_field(cls, name, inside) for name in cls.__pydantic_fields__]
    return ModelValidator(tuple(fields), cls.__name__, cls)


def _model_field(cls: type[pydantic.BaseModel], name: str, inside: Inside) -> Field:
    info = cls.__pydantic_fields__[name]
    rule = next((item for item in info.metadata if isinstance(item, FieldRule)), None)
    if rule is not None and not issubclass(cls, Document):
        raise misplaced_rule(f"{cls.__name__}.{name}", rule)
    if info.default_factory_takes_validated_data:
        raise SchemaError(
            f"the default factory of `{cls.__name__}.{name}` takes the other fields, which not every reader"
            " has - make it a factory without parameters, and set the field where documents are made",
            code="UnsupportedDefaultFactory",
        )
    make_default: Callable[[], Any] | None = None
    if not info.is_required():
        make_default = lambda: info.get_default(call_default_factory=True)  # noqa: E731
    return field_of(
        f"{cls.__name__}.{name}",
        (name, wire_name(name, info)),
        info.annotation,
        lambda annotation: _derive(annotation, inside),
        make_default=make_default,
        is_factory=info.default_factory is not None,
    )


def _derive_typed_dict(cls: Any, inside: Inside, arguments: Arguments | None) -> Validator:
    fields: list[Field] = []
    for name, hint in _hints(cls, arguments).items():
        # With postponed annotations the class itself cannot tell which of its keys are required.
        required = name in cls.__required_keys__
        qualifier = get_origin(hint)
        while qualifier in _QUALIFIERS:
            if qualifier in NOT_REQUIRED:
                required = False
            elif qualifier in REQUIRED:
                required = True
            hint = get_args(hint)[0]
            qualifier = get_origin(hint)
        validator = _derive(hint, inside)
        fields.append(Field(name, name, validator, Presence.REQUIRED if required else Presence.KEY))
    return ObjectValidator(tuple(fields), cls.__name__)


_QUALIFIERS = (*NOT_REQUIRED, *REQUIRED, typing_extensions.ReadOnly)


def _derive_dataclass(cls: Any, inside: Inside, arguments: Arguments | None) -> Validator:
    hints = _hints(cls, arguments)
    for name, hint in hints.items():
        is_init_only = isinstance(hint, dataclasses.InitVar) or hint is dataclasses.InitVar
        if is_init_only and not hasattr(cls, name):
            raise SchemaError(
                f"`{cls.__name__}.{name}` is an `InitVar`, which is not kept and cannot be given again"
                " - make it a field, or give it a default",
                code="UnsupportedAnnotation",
            )
    fields: list[Field] = []
    for item in dataclasses.fields(cls):
        if not item.init:
            continue  # Computed from the others.
        make_default: Callable[[], Any] | None = None
        is_factory = item.default_factory is not dataclasses.MISSING
        if is_factory:
            make_default = cast("Callable[[], Any]", item.default_factory)
        elif isinstance(info := item.default, FieldInfo):  # Of a dataclass of pydantic's.
            is_factory = info.default_factory is not None
            if not info.is_required():
                make_default = partial(info.get_default, call_default_factory=True)
        elif item.default is not dataclasses.MISSING:
            make_default = _constant(item.default)
        fields.append(
            field_of(
                f"{cls.__name__}.{item.name}",
                (item.name, item.name),
                hints[item.name],
                lambda annotation: _derive(annotation, inside),
                make_default=make_default,
                is_factory=is_factory,
            )
        )
    frozen = cls.__dataclass_params__.frozen
    return DataclassValidator(tuple(fields), cls.__name__, cls, frozen)


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _hints(cls: type, arguments: Arguments | None) -> dict[str, Any]:
    try:
        return field_hints(cls, arguments)
    except NameError as error:
        raise SchemaError(
            f"the annotations of `{cls.__name__}` name `{error.name}`, which is not defined in"
            f" `{cls.__module__}` - define or import it at the top of the module",
            code="UnresolvedAnnotation",
        ) from error


def _unsupported(annotation: Any) -> SchemaError:
    if isinstance(annotation, TypeVar):
        return SchemaError(
            f"`{annotation.__name__}` is a type parameter, which may be anything - give the generic class its"
            f" arguments, as in `Page[int]`, or annotate with `rdb.Value`",
            code="UnsupportedAnnotation",
            annotation=annotation.__name__,
        )
    origin = get_origin(annotation) or annotation
    name = f"{getattr(origin, '__module__', '')}.{getattr(origin, '__qualname__', origin)}"
    way_out = _WAYS_OUT.get(name)
    if way_out is None and isinstance(origin, type) and issubclass(origin, tuple):
        way_out = _WAYS_OUT["builtins.tuple"]
    shown = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return SchemaError(
        f"`{shown}` is no type of a stored or sent value - "
        + (
            way_out
            or "use a builtin type, `rdb.Model`, a dataclass, a `TypedDict`, or `rdb.Value` for any value"
        ),
        code="UnsupportedAnnotation",
        annotation=shown,
    )
