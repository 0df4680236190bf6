"""When must stored documents be compared with their table's definition again?

When the fingerprint is another one than the last time. It holds all that `TableDefinition.check` looks at:
types, what an absent field means, and the rules of pydantic classes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, cast

from reactivedb.schema.constrained import ConstrainedValidator
from reactivedb.schema.models import ModelValidator
from reactivedb.schema.objects import Field
from reactivedb.schema.table import TableDefinition
from reactivedb.schema.validators import Validator
from reactivedb.values import UNSET

# Where objects lie in this process's memory: ` at 0x7f...` in a repr, `:94...` in a core schema's names.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+|:\d{8,}")


def fingerprint(definition: TableDefinition) -> str:
    """A short text, equal for two definitions that take the same documents, in every process."""
    text = f"{definition.validator}\n" + "\n".join(_rules(definition.validator, set()))
    return hashlib.sha256(text.encode()).hexdigest()


def _rules(item: object, seen: set[int]) -> Iterator[str]:
    """What the printed form of a validator leaves out."""
    if id(item) in seen:
        return
    if isinstance(item, Field):
        seen.add(id(item))
        yield f"{item.wire} {item.presence.name} {item.stored_default is UNSET}"
        yield from _rules(item.validator, seen)
    elif isinstance(item, Validator):
        seen.add(id(item))
        if isinstance(item, ModelValidator):
            yield _ADDRESS.sub("", f"{item.has_own_rules} {_model_rules(item)}")
        elif isinstance(item, ConstrainedValidator):
            yield _ADDRESS.sub("", repr(item.adapter.core_schema))
        if is_dataclass(item):
            for part in fields(item):
                yield from _rules(getattr(item, part.name), seen)
    elif isinstance(item, tuple):
        for part in cast("tuple[Any, ...]", item):
            yield from _rules(part, seen)
    elif isinstance(item, dict):
        for part in cast("dict[Any, Any]", item).values():
            yield from _rules(part, seen)


def _model_rules(validator: ModelValidator) -> str:
    found = validator.python_class.__pydantic_fields__
    decorators: Any = validator.python_class.__pydantic_decorators__
    return repr([(name, field.metadata) for name, field in found.items()]) + repr(
        [sorted(kind) for kind in (decorators.field_validators, decorators.model_validators)]
    )
