"""What may a function be called with, and what may it return?

The signature of the handler says it. Parameters are snake_case in Python and camelCase on the wire; callers
may spell them either way.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any, TypeVar, get_origin, get_type_hints

from pydantic.alias_generators import to_camel

from reactivedb.errors import SchemaError, ValidationError
from reactivedb.schema.annotations import validator_for
from reactivedb.schema.anything import AnyValidator
from reactivedb.schema.defaults import field_of
from reactivedb.schema.mismatch import mismatch, missing_field, unknown_field, unquoting, with_code
from reactivedb.schema.objects import Field, ObjectValidator, Presence, check_wire_names
from reactivedb.schema.validators import FoundId, NoneType, Validator
from reactivedb.values import UNSET, Value

H = TypeVar("H", bound=Callable[..., Any])

ARGUMENT_ERROR = "ArgumentValidationError"
RETURNS_ERROR = "ReturnsValidationError"

Handler = Callable[..., Any]
_SECRET = "__reactivedb_secret_arguments__"


def secret_arguments(handler: H) -> H:
    """Have no error quote what this handler is called with; stands below what registers it."""
    setattr(handler, _SECRET, True)
    return handler


@dataclass(frozen=True)
class ArgsValidator:
    """The parameters of a function, without its context."""

    name: str
    fields: tuple[Field, ...]
    # How many of them may be given by position.
    positional_count: int
    # Any of them may be a secret, whatever its name: errors quote none.
    are_secret: bool = False

    @classmethod
    def from_signature(cls, handler: Handler) -> ArgsValidator:
        """Raises: SchemaError for parameters that cannot be sent, or not be told apart."""
        name = handler.__qualname__
        parameters = _parameters(handler)
        hints = _hints(handler, skip=parameters[0].name)
        fields: list[Field] = []
        positional_count = 0
        for parameter in parameters[1:]:
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise SchemaError(
                    f"`{name}` has the parameter `{parameter}`: expected one that has a name of its own"
                    " - name every argument, and gather the rest in a `list` or `dict` parameter",
                    code="UnsupportedParameter",
                )
            positional_count += parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            fields.append(_field_of_parameter(name, parameter, hints.get(parameter.name, Any)))
        check_wire_names(name, ((field.name, field.wire) for field in fields))
        return cls(name, tuple(fields), positional_count, getattr(handler, _SECRET, False))

    @cached_property
    def object(self) -> ObjectValidator:
        """The same as a validator of one object under wire names."""
        return ObjectValidator(self.fields, self.name)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @cached_property
    def _required(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if field.presence is Presence.REQUIRED)

    @cached_property
    def _wire_by_name(self) -> dict[str, str]:
        """The snake_case spellings that are not the wire's."""
        return {f.name: f.wire for f in self.fields if f.name not in self.object.by_wire_name}

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """What a call in Python gives, by parameter; parameters with a default may be missing.

        Raises: ValidationError `ArgumentValidationError`.
        """
        if len(args) > self.positional_count:
            raise self._refused(
                f"takes {self.positional_count} arguments by position, got {len(args)}", reason="type"
            )
        named = dict(zip(self._names, args, strict=False))
        for name, value in kwargs.items():
            if name in named:
                raise self._refused(f"got `{name}` twice - give it once", path=f".{name}")
            if name not in self.object.by_name:
                known = ", ".join(f"`{known}`" for known in self._names) or "none"
                raise self._refused(
                    f"has no parameter `{name}` - its parameters are {known}",
                    path=f".{name}",
                    reason="unknown_field",
                )
            named[name] = value
        for field in self._required:
            if field.name not in named:
                raise with_code(missing_field(field.validator, ("", field.wire)), ARGUMENT_ERROR)
        return named

    def _refused(self, text: str, **fields: Any) -> ValidationError:
        return ValidationError(f"`{self.name}` {text}", code=ARGUMENT_ERROR, **fields)

    def dump(self, named: dict[str, Any]) -> dict[str, Value]:
        """The bound arguments as they are sent.

        Raises: ValidationError `ArgumentValidationError`.
        """
        by_name = self.object.by_name
        result: dict[str, Value] = {}
        try:
            for name, value in named.items():
                field = by_name[name]
                stored: Any = field.dumped(value, "")
                if stored is not UNSET:
                    result[field.wire] = stored
        except ValidationError as error:
            raise with_code(error, ARGUMENT_ERROR) from error
        return result

    def parse(self, value: Value) -> dict[str, Any]:
        """The arguments as the handler takes them, defaults filled in.

        Raises: ValidationError `ArgumentValidationError`.
        """
        try:
            return self.object.parse_fields(self._canonical(value), "")
        except ValidationError as error:
            if self.are_secret:
                raise with_code(unquoting(error), ARGUMENT_ERROR) from None
            raise with_code(error, ARGUMENT_ERROR) from error

    def _canonical(self, value: Value) -> Value:
        """The same with every name spelt as on the wire."""
        wire_by_name = self._wire_by_name
        if not isinstance(value, dict) or not wire_by_name or wire_by_name.keys().isdisjoint(value):
            return value
        result: dict[str, Value] = {}
        for name, item in value.items():
            wire = wire_by_name.get(name, name)
            if wire in result:
                raise mismatch("one spelling", name, ("", wire), way_out="give it once")
            result[wire] = item
        return result

    def check_type(self, name: str, types: frozenset[type], shown: Value) -> None:
        """Whether an argument of that name, in either spelling, can be of one of these types.

        `shown` is a small value like it. Raises: ValidationError `ArgumentValidationError`.
        """
        wire = self._wire_by_name.get(name, name)
        field = self.object.by_wire_name.get(wire)
        if field is None:
            error = unknown_field(self.name, self.object.wire_names, ("", wire))
        elif (NoneType in types and field.null_is_absent) or not types.isdisjoint(field.validator.wire_types):
            return
        else:
            error = mismatch(field.validator, shown, ("", wire))
        raise with_code(error, ARGUMENT_ERROR)

    def find_ids(self, value: Value) -> Iterator[FoundId]:
        """Every id in arguments that were parsed, with the table it has to be of."""
        return self.object.find_ids(self._canonical(value))

    def export(self) -> dict[str, Any]:
        return self.object.export()

    def __str__(self) -> str:
        return str(self.object)


def returns_validator(handler: Handler) -> Validator:
    """Anything, if the handler does not say.

    Raises: SchemaError for an annotation that cannot be sent.
    """
    hints = _hints(handler, skip=_parameters(handler)[0].name)
    if "return" not in hints:
        return AnyValidator()
    try:
        return validator_for(hints["return"])
    except SchemaError as error:
        raise _located(error, f"{handler.__qualname__} -> ...") from error


def _parameters(handler: Handler) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(handler).parameters.values())
    if not parameters or parameters[0].kind in (
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    ):
        raise SchemaError(
            f"`{handler.__qualname__}` takes no context: expected `ctx` as its first parameter - add it",
            code="UnsupportedParameter",
        )
    return parameters


def _field_of_parameter(function: str, parameter: inspect.Parameter, annotation: Any) -> Field:
    default = parameter.default
    is_required = default is inspect.Parameter.empty
    # A class may know what its arguments are called by convention, whatever the parameter's name.
    wire = getattr(get_origin(annotation) or annotation, "__wire_argument__", None)
    return field_of(
        f"{function}({parameter.name})",
        (parameter.name, wire or to_camel(parameter.name)),
        annotation,
        validator_for,
        # A copy, so that one run cannot leave something behind for the next one.
        make_default=None if is_required else lambda: deepcopy(default),
    )


def _hints(handler: Handler, *, skip: str) -> dict[str, Any]:
    """The annotations of a handler, but for its context: that one may be imported for type checkers only."""
    target = inspect.unwrap(handler)
    annotations = {name: hint for name, hint in target.__annotations__.items() if name != skip}
    namespace = getattr(target, "__globals__", {})
    try:
        return get_type_hints(
            SimpleNamespace(__annotations__=annotations), globalns=namespace, include_extras=True
        )
    except NameError as error:
        raise SchemaError(
            f"the annotations of `{handler.__qualname__}` name `{error.name}`, which is not defined in"
            f" `{handler.__module__}` - define or import it at the top of the module",
            code="UnresolvedAnnotation",
        ) from error


def _located(error: SchemaError, owner: str) -> SchemaError:
    return SchemaError(f"`{owner}`: {error.message}", code=error.code, **(error.fields | {"owner": owner}))
