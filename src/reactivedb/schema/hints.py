"""What do the fields of a dataclass or a `TypedDict` hold, the type parameters of generic ones replaced?

A field is read with the arguments of the class that declares it: `class Named(Box[int])` holds ints in what
`Box` declares. (What pydantic's own models hold, pydantic knows.)
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

import typing_extensions

Arguments = Mapping[Any, Any]


def is_fields_class(cls: object) -> bool:
    return dataclasses.is_dataclass(cls) or typing_extensions.is_typeddict(cls)


def arguments_of(alias: Any) -> Arguments:
    """What the type parameters are of a generic class that was given its arguments."""
    parameters = getattr(get_origin(alias), "__parameters__", ())
    return dict(zip(parameters, get_args(alias), strict=False))


def field_hints(cls: type, arguments: Arguments | None = None) -> dict[str, Any]:
    """Raises: NameError for an annotation that names something undefined."""
    hints = typing_extensions.get_type_hints(cls, include_extras=True)
    by_field = _arguments_by_field(cls, arguments or {})
    return {name: substituted(hint, by_field.get(name, {})) for name, hint in hints.items()}


def _arguments_by_field(cls: Any, arguments: Arguments) -> dict[str, Arguments]:
    inherited: dict[str, Arguments] = {}
    for base in reversed(typing_extensions.get_original_bases(cls)):
        origin: Any = get_origin(base) or base
        if is_fields_class(origin):
            given = {key: substituted(value, arguments) for key, value in arguments_of(base).items()}
            inherited.update(_arguments_by_field(origin, given))
    own = inspect.get_annotations(cls)
    if typing_extensions.is_typeddict(cls):
        # It repeats what it inherits, and may not change it.
        own = {name: hint for name, hint in own.items() if name not in inherited}
    return inherited | dict.fromkeys(own, arguments)


def substituted(hint: Any, arguments: Arguments) -> Any:
    """`hint` with the type parameters replaced that have an argument."""
    if not arguments:
        return hint
    if isinstance(hint, TypeVar):
        return arguments.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if not parameters or isinstance(hint, type):
        return hint
    return hint[tuple(arguments.get(parameter, parameter) for parameter in parameters)]
