"""What is pydantic told of an annotation that it reads otherwise than we do?

`Value`, an alias that refers to itself, is `Any` for it. A `TypedDict` gets a twin: below Python 3.12
pydantic refuses those of `typing`, and it would read any of them by the aliases of the model around it.
"""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typing_extensions

from reactivedb.errors import SchemaError
from reactivedb.schema.hints import Arguments, arguments_of, field_hints
from reactivedb.values import Value

# A type checker knows it as a base class alone.
_make_typed_dict: Any = typing_extensions.TypedDict

# The classes that are being read, outermost first: a class within itself has no end.
Inside = tuple[type, ...]

NOT_REQUIRED = (typing.NotRequired, typing_extensions.NotRequired)
REQUIRED = (typing.Required, typing_extensions.Required)


def readable_by_pydantic(annotation: Any, inside: Inside = ()) -> Any:
    """The annotation as pydantic should read it; what it means to us stays the same.

    Raises: SchemaError for a `TypedDict` within itself.
    """
    # Pydantic would try the members of that union and make a plain int of an `Int64`; whether it is a value
    # is checked when it is stored.
    if annotation is Value:
        return Any
    args = get_args(annotation)
    origin: Any = get_origin(annotation)
    if typing_extensions.is_typeddict(origin or annotation):
        return _twin(origin or annotation, inside, arguments_of(annotation))
    if not args or origin is Literal:
        return annotation
    changed = tuple(readable_by_pydantic(arg, inside) for arg in args)
    if changed == args:
        return annotation
    if origin is Annotated:
        return Annotated[changed]
    if origin is Union or origin is types.UnionType:
        return Union[changed]  # noqa: UP007 - the members are known at run time only
    return origin[changed]


def _twin(cls: Any, inside: Inside, arguments: Arguments) -> Any:
    if cls in inside:
        raise recursive_type(cls)
    try:
        hints = field_hints(cls, arguments)
    except NameError:
        return cls  # Pydantic waits for the name, or says that it is missing.
    fields: dict[str, Any] = {}
    for name, hint in hints.items():
        readable = readable_by_pydantic(hint, (*inside, cls))
        if name not in cls.__required_keys__ and get_origin(hint) not in (*NOT_REQUIRED, *REQUIRED):
            readable = typing_extensions.NotRequired[readable]
        fields[name] = readable
    twin = _make_typed_dict(cls.__name__, fields)
    twin.__module__, twin.__doc__ = cls.__module__, cls.__doc__
    own = getattr(cls, "__pydantic_config__", {})
    twin.__pydantic_config__ = {"extra": "forbid", "arbitrary_types_allowed": True, **own}
    return twin


def recursive_type(cls: type) -> SchemaError:
    return SchemaError(
        f"`{cls.__name__}` contains itself, and a validator has to end - use `rdb.Value` for the inner"
        " one, or keep the parts in a table and refer to them by `rdb.Id`",
        code="RecursiveType",
    )
