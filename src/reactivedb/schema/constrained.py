"""How do pydantic's constraints hold where there is no pydantic model?

`Annotated[int, Field(ge=1)]` as a parameter, or within a dataclass or `TypedDict`: the structure is checked
by our own validator, the rest by pydantic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from functools import cached_property
from typing import Any, get_args

import pydantic
import typing_extensions

from reactivedb.errors import SchemaError
from reactivedb.schema.constraints import FieldRule, misplaced_rule
from reactivedb.schema.mismatch import Path, broken_constraint
from reactivedb.schema.pydantic_annotations import readable_by_pydantic
from reactivedb.schema.validators import FoundId, Loader, Validator
from reactivedb.values import Value


def constrained(annotation: Any, inner: Validator) -> Validator:
    """`inner` with the constraints of an `Annotated`, itself if there are none."""
    metadata = get_args(annotation)[1:]
    rule = next((item for item in metadata if isinstance(item, FieldRule)), None)
    if rule is not None:
        raise misplaced_rule(str(inner), rule)
    if all(isinstance(item, str) for item in metadata):
        return inner  # Prose for readers.
    # Pydantic takes no settings for what has its own.
    config = None if _has_settings(get_args(annotation)[0]) else _SETTINGS
    try:
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(
            readable_by_pydantic(annotation), config=config
        )
    except pydantic.PydanticUserError as error:
        reason = error.message.splitlines()[0].rstrip(".")
        raise SchemaError(
            f"the constraints of `{inner}` cannot be checked: {reason} - move them into a `rdb.Model`",
            code="UnsupportedAnnotation",
        ) from error
    return ConstrainedValidator(inner, adapter)


# `Int64` and `Unset` are classes that pydantic knows nothing of.
_SETTINGS: pydantic.ConfigDict = {"arbitrary_types_allowed": True}


def _has_settings(python_type: Any) -> bool:
    return (
        is_dataclass(python_type)
        or typing_extensions.is_typeddict(python_type)
        or (isinstance(python_type, type) and issubclass(python_type, pydantic.BaseModel))
    )


@dataclass(frozen=True)
class ConstrainedValidator(Validator):
    inner: Validator
    adapter: pydantic.TypeAdapter[Any]

    @cached_property
    def shareable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.shareable

    @cached_property
    def fills(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.fills

    @cached_property
    def has_ids(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.has_ids

    @cached_property
    def wire_types(self) -> frozenset[type]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.wire_types

    def _checked(self, value: Any, path: Path) -> Any:
        try:
            return self.adapter.validate_python(value)
        except pydantic.ValidationError as error:
            raise broken_constraint(error, {}, path) from error

    def parse(self, value: Value, path: Path = "") -> Any:
        return self._checked(self.inner.parse(value, path), path)

    def dump(self, value: Any, path: Path = "", *, splice: bool = False) -> Value:
        stored = self.inner.dump(value, path, splice=splice)
        self._checked(value, path)
        return stored

    def takes(self, python_type: type) -> bool:
        return self.inner.takes(python_type)

    @cached_property
    def load(self) -> Loader | None:
        return self.inner.load

    def fill(self, value: Value) -> Value:
        return self.inner.fill(value)

    def find_ids(self, value: Value, path: Path = "") -> Iterator[FoundId]:
        return self.inner.find_ids(value, path)

    def export(self) -> dict[str, Any]:
        return self.inner.export()

    def __str__(self) -> str:
        return str(self.inner)
