"""What may a value be of which nothing is said?

Any value. On the way out of Python, models, dataclasses and documents in it are taken for what their class
says they are; dicts are data and go out as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from functools import lru_cache
from typing import Any, cast

import pydantic

from reactivedb.limits import active_limits
from reactivedb.schema.mismatch import Path, levels, render_path, too_long
from reactivedb.schema.validators import ALL_WIRE_TYPES, Validator
from reactivedb.values import UNSET, Value, normalize


@dataclass(frozen=True)
class AnyValidator(Validator):
    shareable = False
    wire_types = ALL_WIRE_TYPES

    def parse(self, value: Value, path: Path = "") -> Any:
        return value

    def dump(self, value: Any, path: Path = "", *, splice: bool = False) -> Value:
        try:
            is_mixed = _holds_object(value)
        except RecursionError:
            is_mixed = False  # It is too deep, or within itself: `normalize` says so.
        if is_mixed:
            return _dump_mixed(value, path, splice=splice)
        return normalize(value, path=render_path(path), depth_used=levels(path))

    def takes(self, python_type: type) -> bool:
        return True

    def export(self) -> dict[str, Any]:
        return {"type": "any"}

    def __str__(self) -> str:
        return "v.any()"


def _is_object(value: Any) -> bool:
    return isinstance(value, pydantic.BaseModel) or (is_dataclass(value) and not isinstance(value, type))


def _holds_object(value: Any) -> bool:
    kind = cast("type[Any]", type(value))
    if kind is dict:
        return any(map(_holds_object, cast("dict[Any, Any]", value).values()))
    if kind is list or kind is tuple:
        return any(map(_holds_object, cast("list[Any]", value)))
    return _is_object(value)


def _dump_mixed(value: Any, path: Path, *, splice: bool) -> Value:
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        normalize(dict.fromkeys(items), path=render_path(path), depth_used=levels(path))
        return {
            key: _dump_mixed(item, (path, key), splice=splice)
            for key, item in items.items()
            if item is not UNSET
        }
    if isinstance(value, list | tuple):
        several = cast("list[Any]", value)
        normalize([], path=render_path(path), depth_used=levels(path))
        if len(several) > active_limits().array_length_max:
            raise too_long(len(several), active_limits().array_length_max, path)
        return [_dump_mixed(item, (path, n), splice=splice) for n, item in enumerate(several)]
    if _is_object(value):
        return _validator_of_class(cast("type[Any]", type(value))).dump(value, path, splice=splice)
    return normalize(value, path=render_path(path), depth_used=levels(path))


@lru_cache(maxsize=256)
def _validator_of_class(python_class: type) -> Validator:
    # Annotations lead to this module; the way back is needed only for values without an annotation.
    from reactivedb.schema.annotations import validator_for

    return validator_for(python_class)
