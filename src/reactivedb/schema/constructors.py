"""How is a validator written down at run time, without a class?

`v` is the second door to the validators that annotations are turned into; a validator prints itself as the
call that makes it.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Final

from reactivedb.errors import SchemaError, ValidationError
from reactivedb.schema.anything import AnyValidator
from reactivedb.schema.document import Id
from reactivedb.schema.names import check_identifier
from reactivedb.schema.objects import ObjectValidator, OptionalField, checked_validator, object_fields
from reactivedb.schema.union import union_of
from reactivedb.schema.validators import (
    ArrayValidator,
    BooleanValidator,
    BytesValidator,
    IdValidator,
    Int64Validator,
    LiteralValidator,
    NullValidator,
    NumberValidator,
    RecordValidator,
    StringValidator,
    Validator,
)
from reactivedb.values import Int64, normalize


class Constructors:
    """One method per kind of value."""

    def null(self) -> Validator:
        return NullValidator()

    def number(self) -> Validator:
        return NumberValidator()

    def int64(self) -> Validator:
        return Int64Validator()

    def boolean(self) -> Validator:
        return BooleanValidator()

    def string(self) -> Validator:
        return StringValidator()

    def bytes(self) -> Validator:
        return BytesValidator()

    def any(self) -> Validator:
        return AnyValidator()

    def literal(self, value: str | float | bool | Int64) -> Validator:
        return literal_of(value)

    def id(self, table: str) -> Validator:
        if not isinstance(table, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SchemaError(
                f"`v.id` takes the name of a table, got `{table!r}` - pass the name it was declared with",
                code="NotATable",
            )
        check_identifier("table", table)
        return IdValidator(table, Id)

    def array(self, item: Validator) -> Validator:
        return ArrayValidator(checked_validator(item, "v.array"))

    def record(self, keys: Validator, values: Validator) -> Validator:
        return record_of(checked_validator(keys, "v.record"), checked_validator(values, "v.record"))

    def object(self, fields: Mapping[str, Validator | OptionalField]) -> ObjectValidator:
        return ObjectValidator(object_fields(fields))

    def union(self, *members: Validator) -> Validator:
        if not members:
            raise SchemaError("`v.union()` has no members - give at least one", code="EmptyUnion")
        return union_of(checked_validator(member, "v.union") for member in members)

    def optional(self, validator: Validator) -> OptionalField:
        """A field of `v.object` that may be absent."""
        return OptionalField(checked_validator(validator, "v.optional"))


v: Final = Constructors()


def literal_of(value: builtins.object, *, python: builtins.object = None) -> Validator:
    """`python` stands for the value in Python, if it is not the value itself.

    Raises: SchemaError for what cannot be a literal.
    """
    if value is None:
        return NullValidator()
    if not isinstance(value, str | int | float):
        raise SchemaError(
            f"`{value!r}` cannot be a literal: expected a string, a number or a boolean"
            f" - use `{type(value).__name__}` itself",
            code="UnsupportedAnnotation",
        )
    try:
        stored = normalize(str.__str__(value) if isinstance(value, str) else value)
    except ValidationError as error:
        raise SchemaError(f"a literal cannot be stored: {error.message}", code=error.code) from error
    return LiteralValidator(stored, value if python is None else python)


def record_of(keys: Validator, values: Validator) -> Validator:
    """Raises: SchemaError if the keys are no strings."""
    if not isinstance(keys, StringValidator | IdValidator):
        raise SchemaError(
            f"`{keys}` cannot be the keys of a record: expected strings or ids"
            " - use `dict[str, ...]`, or a `TypedDict` for names that are known",
            code="UnsupportedAnnotation",
        )
    return RecordValidator(keys, values)
