"""May several callers in this process hold the same object?

A live result is computed once for all who hold it. What can be changed in it (lists, dicts, models that are
not frozen all the way down) is copied for each of them; what cannot is shared.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any, Final, cast

import pydantic

from ..schema import Document, mark_stored
from ..schema.document import is_stored

_IMMUTABLE: Final = (str, bytes, int, float, bool, type(None), type)


def cannot_change(value: object) -> bool:
    """Is there nothing in the value, at any depth, that somebody could change?"""
    if isinstance(value, _IMMUTABLE):
        return True
    if isinstance(value, tuple | frozenset):
        return all(map(cannot_change, cast("Iterable[object]", value)))
    if isinstance(value, Document) and type(value).__definition__ is not None:
        # By its types, without looking at fields that nobody has asked for.
        return type(value).__definition__.shareable
    if isinstance(value, pydantic.BaseModel):
        # Frozen is shallow: what stands in the fields counts as well.
        return bool(value.model_config.get("frozen")) and all(map(cannot_change, value.__dict__.values()))
    return False


def own(value: Any) -> Any:
    """The value for one caller: containers are copied, what cannot change is shared."""
    if isinstance(value, list):
        return [own(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: own(item) for key, item in cast("dict[Any, Any]", value).items()}
    if cannot_change(value):
        return value
    if isinstance(value, pydantic.BaseModel):
        return _own_model(value)
    if isinstance(value, tuple):
        items = [own(item) for item in cast("tuple[Any, ...]", value)]
        # A named tuple is made of its items, a plain one of their iterable.
        make = getattr(cast("Any", value), "_make", tuple[Any, ...])
        return make(items)
    if is_dataclass(value) and not isinstance(value, type):
        mine = copy.copy(value)
        for field in fields(value):
            # Also into a frozen one, which nobody else has seen yet.
            object.__setattr__(mine, field.name, own(getattr(value, field.name)))
        return mine
    return value


def _own_model(model: pydantic.BaseModel) -> pydantic.BaseModel:
    mine = model.model_copy()
    for name, value in model.__dict__.items():
        object.__setattr__(mine, name, own(value))
    # A copy counts as a new document, but this one is still the stored one.
    if isinstance(model, Document) and isinstance(mine, Document) and is_stored(model):
        mark_stored(mine, model.id, model.creation_time, model.stored_json())
    return mine
