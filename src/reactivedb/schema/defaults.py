"""What does a default say about its field?

`= None` beside `| None` makes a field optional, `= UNSET` makes it absent and never null, any other default
is filled in. The same rules hold for fields of models and dataclasses and for parameters.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Annotated, Any, Union, get_args, get_origin

from reactivedb.errors import SchemaError, ValidationError
from reactivedb.schema.objects import Field, Presence
from reactivedb.schema.validators import Validator
from reactivedb.values import UNSET, Unset, Value


def field_of(
    owner: str,
    names: tuple[str, str],
    annotation: Any,
    derive: Callable[[Any], Validator],
    *,
    make_default: Callable[[], Any] | None = None,
    is_factory: bool = False,
) -> Field:
    """`names` are the Python name and the wire name; `owner` is how messages call the field.

    Raises: SchemaError if the annotation cannot be derived or the default does not fit it.
    """
    name, wire = names
    try:
        if make_default is None:
            if _members(annotation) != (annotation,) and Unset in _members(annotation):
                return Field(name, wire, derive(annotation), Presence.UNSET)
            return Field(name, wire, derive(annotation))
        if is_factory:
            return Field(name, wire, derive(annotation), Presence.DEFAULT, make_default)
        default = make_default()
        if default is None and type(None) in _members(annotation):
            return Field(name, wire, derive(_without_none(annotation)), Presence.NONE)
        validator = derive(annotation)
        if default is UNSET:
            return Field(name, wire, validator, Presence.UNSET)
        if default is None and type(None) in validator.wire_types:
            return Field(name, wire, validator, Presence.NONE)
        stored = _stored_default(owner, validator, default)
    except SchemaError as error:
        if error.fields.get("owner"):
            raise
        raise SchemaError(
            f"`{owner}`: {error.message}", code=error.code, **error.fields, owner=owner
        ) from error
    return Field(name, wire, validator, Presence.DEFAULT, make_default, stored)


def _stored_default(owner: str, validator: Validator, default: Any) -> Value:
    try:
        return validator.dump(default)
    except ValidationError as error:
        raise SchemaError(f"the default does not fit: {error.message}", code="DefaultDoesNotFit") from error


def _members(annotation: Any) -> tuple[Any, ...]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin is Union or origin is types.UnionType:
        return get_args(annotation)
    return (annotation,)


def _without_none(annotation: Any) -> Any:
    """The annotation for a value that is there: None is not among them."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        return Annotated[(_without_none(inner), *metadata)]
    left = tuple(member for member in _members(annotation) if member not in (type(None), Unset))
    return Union[left] if left else type(None)  # noqa: UP007 - the members are known at run time only
