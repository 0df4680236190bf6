"""Does this value fit, and what is it in Python?

One frozen class per kind of value. `parse` takes a value in stored form and gives the Python object; `dump`
goes the other way and checks as strictly; `load` is `parse` for values that were checked when they were
stored. Objects stand in `objects`, unions in `union`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, NamedTuple, cast

from reactivedb.errors import ValidationError
from reactivedb.limits import active_limits
from reactivedb.schema.mismatch import Path, mismatch, render_path, too_long
from reactivedb.values import ID_LENGTH_MAX, Int64, Value, decode_id, normalize, to_jsonable

Loader = Callable[[Any], Any]
NoneType = type(None)
EXACT_INT_MAX = 2**53

# The types of the stored form; a plain int is a number that has not been normalised yet.
ALL_WIRE_TYPES: frozenset[type] = frozenset({NoneType, bool, float, Int64, str, bytes, list, dict})


def wire_type(value: object) -> type:
    """The stored type of a value that may be of a subclass, or a plain int."""
    kind = type(value)
    if kind in ALL_WIRE_TYPES:
        return kind
    for candidate in (str, Int64, int, dict, list):
        if isinstance(value, candidate):
            return float if candidate is int else candidate
    return kind


class FoundId(NamedTuple):
    """An id within a value, and the table its validator wants it to be of."""

    path: str
    table: str
    id: str


class Validator:
    """What is common to all of them."""

    # A Python object of this kind cannot be changed, so it may be shared between transactions.
    shareable: bool = True
    # Older values may lack fields that `fill` adds.
    fills: bool = False
    # There may be ids within.
    has_ids: bool = False
    # The types in stored form that can fit.
    wire_types: frozenset[type] = frozenset()

    def parse(self, value: Value, path: Path = "") -> Any:
        """Raises: `ValidationError` with the path."""
        raise NotImplementedError

    def dump(self, value: Any, path: Path = "", *, splice: bool = False) -> Value:
        """`splice` puts the stored text of whole documents into the result, as `msgspec.Raw`.

        Raises: `ValidationError` with the path.
        """
        raise NotImplementedError

    def takes(self, python_type: type) -> bool:
        """May `dump` accept an object of that type? Unions choose their branch by it."""
        raise NotImplementedError

    @cached_property
    def load(self) -> Loader | None:
        """How a value that is known to fit becomes a Python object; None: it is one."""
        return None

    def fill(self, value: Value) -> Value:
        """`value` with the defaults of the fields it lacks; the same object if there are none."""
        return value

    def find_ids(self, value: Value, path: Path = "") -> Iterator[FoundId]:
        """Every id in a value that fits; nothing for the parts that do not."""
        return iter(())

    def export(self) -> dict[str, Any]:
        """Convex's validator JSON (section a.6 of the protocol)."""
        raise NotImplementedError


class _Scalar(Validator):
    """Values that are the same in both forms."""

    python_type: ClassVar[type]
    type_name: ClassVar[str]

    def parse(self, value: Value, path: Path = "") -> Any:
        if isinstance(value, self.python_type):
            return value
        raise mismatch(self, value, path)

    def dump(self, value: Any, path: Path = "", *, splice: bool = False) -> Value:
        if type(value) is self.python_type:
            return value
        raise mismatch(self, value, path)

    def takes(self, python_type: type) -> bool:
        return issubclass(python_type, self.python_type)

    def export(self) -> dict[str, Any]:
        return {"type": self.type_name}


@dataclass(frozen=True)
class NullValidator(_Scalar):
    python_type = NoneType
    type_name = "null"
    wire_types = frozenset({NoneType})

    def __str__(self) -> str:
        return "v.null()"


@dataclass(frozen=True)
class BooleanValidator(_Scalar):
    python_type = bool
    type_name = "boolean"
    wire_types = frozenset({bool})

    def __str__(self) -> str:
        return "v.boolean()"


@dataclass(frozen=True)
class BytesValidator(_Scalar):
    python_type = bytes
    type_name = "bytes"
    wire_types = frozenset({bytes})

    def __str__(self) -> str:
        return "v.bytes()"


@dataclass(frozen=True)
class StringValidator(_Scalar):
    python_type = str
    type_name = "string"
    wire_types = frozenset({str})

    def dump(self, value: Any, path: Path = "", *, splice: bool = False) -> Value:
        if not isinstance(value, str):
            raise mismatch(self, value, path)
        if not value.isascii():
            # Only there can a lone surrogate be.
            normalize(value, path=render_path(path))
        return value if type(value) is str else str.__str__(value)

    def __str__(self) -> str:
        return "v.string()"


@dataclass(frozen=True)
class NumberValidator(Validator):
    """A float64; with `integral` Python sees an `int` within 2**53 either way."""

    integral: bool = False
    wire_types = frozenset({float})

    def parse(self, value: Value, path: Path = "") -> Any:
        if type(value) is int:
            value = self.dump(value, path)
        if type(value) is not float:
            raise mismatch(self, value, path)
        if not self.integral:
            return value
        if not value.is_integer() or abs(value) > EXACT_INT_MAX:
            raise mismatch("an integer within 2**53 either way", value, path)
        return int(value)

    def dump(self, value: Any, path: Path = "", *, splice: bool = False) -> Value:
        if type(value) is float and not self.integral:
            return value
        if isinstance(value, bool | Int64) or not isinstance(value, int | float):
            raise mismatch(self, value, path)
        if isinstance(value, float):
            if self.integral and not (value.is_integer() and abs(value) <= EXACT_INT_MAX):
                raise mismatch("an integer within 2**53 either way", value, path)
        elif not -EXACT_INT_MAX <= value <= EXACT_INT_MAX:
            raise mismatch(
                "an integer within 2**53 either way",
                value,
                path,
                way_out="annotate it with `rdb.Int64` and wrap the value in it",
            )
        return float(value)

    def takes(self, python_type: type) -> bool:
        return issubclass(python_type, int | float) and not issubclass(python_type, bool | Int64)

    @cached_property
    def load(self) -> Loader | None:
        return int if self.integral else None

    def export(self) -> dict[str, Any]:
        return {"type": "number"}

    def __str__(self) -> str:
        return "v.number()"


@dataclass(frozen=True)
class Int64Validator(Validator):
    wire_types = frozenset({Int64})

    def parse(self, value: Value, path: Path = "") -> Any:
        if isinstance(value, Int64):
            return value
        raise mismatch(self, value, path)

    def dump(self, value: Any, path: Path = "", *, splice: bool = False) -> Value:
        if type(value) is Int64:
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            # The annotation says which of the two it is.
            try:
                return Int64(value)
            except ValidationError:
                raise mismatch(self, value, path, way_out="keep larger numbers as a string") from None
        raise mismatch(self, value, path)

    def takes(self, python_type: type) -> bool:
        return issubclass(python_type, Int64)

    def export(self) -> dict[str, Any]:
        return {"type": "bigint"}

    def __str__(self) -> str:
        return "v.int64()"


@dataclass(frozen=True)
class LiteralValidator(Validator):
    """One value. `python` is what stands for it in Python: the value itself or a member of an enum."""

    value: Any  # in stored form
    python: Any

    @cached_property
    def wire_types(self) -> frozenset[type]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return frozenset({cast("type[Any]", type(self.value))})

    def parse(self, value: Value, path: Path = "") -> Any:
        if type(value) is int:
            value = float(value)
        if wire_type(value) is type(self.value) and value == self.value:
            return self.python
        raise mismatch(self, value, path)

    def dump(self, value: Any, path: Path = "", *, splice: bool = False) -> Value:
        if value is self.python:
            return self.value
        # What a member of an enum stands for will do in its place, as it does for pydantic.
        if self._is_of_kind(value) and (value == self.python or value == self.value):
            return self.value
        raise mismatch(self, value, path)

    def _is_of_kind(self, value: Any) -> bool:
        """Is it a value of the literal's type? A plain int stands for either kind of number."""
        if isinstance(value, bool) or isinstance(self.value, bool):
            return type(value) is type(self.value)
        wrong = float if isinstance(self.value, Int64) else Int64
        return not isinstance(value, wrong)

    def takes(self, python_type: type) -> bool:
        if python_type is bool or isinstance(self.python, bool):
            return python_type is type(self.python)
        base = str if isinstance(self.value, str) else int | float
        return issubclass(python_type, type(self.python)) or issubclass(python_type, base)

    @cached_property
    def load(self) -> Loader | None:
        python = self.python
        return None if type(python) is type(self.value) else lambda _value: python

    def export(self) -> dict[str, Any]:
        return {"type": "literal", "value": to_jsonable(self.value)}

    def __str__(self) -> str:
        value = self.value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        is_plain = isinstance(value, str) and value.isprintable() and not {'"', "\\"} & set(value)
        text = f'"{value}"' if is_plain else repr(value)
        return f"v.literal({text})"


def _is_id(text: str) -> bool:
    return len(text) <= ID_LENGTH_MAX and _is_short_id(text)


# Holds short texts only, for a caller may send any: 8 MiB at most.
@lru_cache(maxsize=65_536)
def _is_short_id(text: str) -> bool:
    try:
        decode_id(text)
    except ValidationError:
        return False
    return True


@dataclass(frozen=True)
class IdValidator(Validator):
    """An id of `table`, of any table if None. Only its form is known here: tables have their numbers from
    the engine, which asks `find_ids`."""

    table: str | None
    python_type: type[str]
    wire_types = frozenset({str})
    has_ids = True

    def parse(self, value: Value, path: Path = "") -> Any:
        if not isinstance(value, str) or not _is_id(value):
            raise mismatch(self, value, path)
        return self.python_type(value)

    def dump(self, value: Any, path: Path = "", *, splice: bool = False) -> Value:
        if not isinstance(value, str) or not _is_id(value):
            raise mismatch(self, value, path)
        return str.__str__(value)

    def takes(self, python_type: type) -> bool:
        return issubclass(python_type, str)

    @cached_property
    def load(self) -> Loader | None:
        return self.python_type

    def find_ids(self, value: Value, path: Path = "") -> Iterator[FoundId]:
        if self.table is not None and isinstance(value, str):
            yield FoundId(render_path(path), self.table, value)

    def export(self) -> dict[str, Any]:
        if self.table is None:
            return {"type": "string"}
        return {"type": "id", "tableName": self.table}

    def __str__(self) -> str:
        return "v.string()" if self.table is None else f'v.id("{self.table}")'


@dataclass(frozen=True)
class ArrayValidator(Validator):
    item: Validator
    shareable = False
    wire_types = frozenset({list})

    @cached_property
    def _keeps(self) -> bool:
        """Whether elements that are of the right type are what the handler takes, as they are."""
        item = self.item
        return isinstance(item, _Scalar) or (isinstance(item, NumberValidator) and not item.integral)

    @cached_property
    def _kinds(self) -> frozenset[type]:
        return self.item.wire_types

    @cached_property
    def fills(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.item.fills

    @cached_property
    def has_ids(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.item.has_ids

    def parse(self, value: Value, path: Path = "") -> Any:
        if not isinstance(value, list):
            raise mismatch(self, value, path)
        if self._keeps and self._kinds.issuperset(map(type, value)):
            return value.copy()
        parse = self.item.parse
        return [parse(item, (path, position)) for position, item in enumerate(value)]

    def dump(self, value: Any, path: Path = "", *, splice: bool = False) -> Value:
        if not isinstance(value, list | tuple):
            raise mismatch(self, value, path)
        items = cast("list[Any]", value)
        limits = active_limits()
        if len(items) > limits.array_length_max:
            raise too_long(len(items), limits.array_length_max, path)
        dump = self.item.dump
        return [dump(item, (path, position), splice=splice) for position, item in enumerate(items)]

    def takes(self, python_type: type) -> bool:
        return issubclass(python_type, list | tuple)

    @cached_property
    def load(self) -> Loader | None:
        load = self.item.load
        return None if load is None else lambda items: [load(item) for item in items]

    def fill(self, value: Value) -> Value:
        if not self.fills or not isinstance(value, list):
            return value
        filled = [self.item.fill(item) for item in value]
        return filled if any(a is not b for a, b in zip(filled, value, strict=True)) else value

    def find_ids(self, value: Value, path: Path = "") -> Iterator[FoundId]:
        if self.has_ids and isinstance(value, list):
            for position, item in enumerate(value):
                yield from self.item.find_ids(item, (path, position))

    def export(self) -> dict[str, Any]:
        return {"type": "array", "value": self.item.export()}

    def __str__(self) -> str:
        return f"v.array({self.item})"


@dataclass(frozen=True)
class RecordValidator(Validator):
    """An object whose field names are data: they go out as they are."""

    keys: Validator
    values: Validator
    shareable = False
    wire_types = frozenset({dict})

    @cached_property
    def fills(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.values.fills

    @cached_property
    def has_ids(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.keys.has_ids or self.values.has_ids

    def parse(self, value: Value, path: Path = "") -> Any:
        if not isinstance(value, dict):
            raise mismatch(self, value, path)
        key_of, parse = self.keys.parse, self.values.parse
        return {key_of(key, (path, key)): parse(item, (path, key)) for key, item in value.items()}

    def dump(self, value: Any, path: Path = "", *, splice: bool = False) -> Value:
        if not isinstance(value, dict):
            raise mismatch(self, value, path)
        items = cast("dict[Any, Any]", value)
        # Names of fields have rules of their own, whatever the values are.
        normalize(dict.fromkeys(items), path=render_path(path))
        key_of, dump = self.keys.dump, self.values.dump
        return {
            cast("str", key_of(key, (path, key))): dump(item, (path, key), splice=splice)
            for key, item in items.items()
        }

    def takes(self, python_type: type) -> bool:
        return issubclass(python_type, dict)

    @cached_property
    def load(self) -> Loader | None:
        key_of, load = self.keys.load, self.values.load
        if key_of is None and load is None:
            return None
        key_of, load = key_of or _as_it_is, load or _as_it_is
        return lambda items: {key_of(key): load(item) for key, item in items.items()}

    def fill(self, value: Value) -> Value:
        if not self.fills or not isinstance(value, dict):
            return value
        filled = {key: self.values.fill(item) for key, item in value.items()}
        return filled if any(filled[key] is not item for key, item in value.items()) else value

    def find_ids(self, value: Value, path: Path = "") -> Iterator[FoundId]:
        if self.has_ids and isinstance(value, dict):
            for key, item in value.items():
                yield from self.keys.find_ids(key, (path, key))
                yield from self.values.find_ids(item, (path, key))

    def export(self) -> dict[str, Any]:
        return {
            "type": "record",
            "keys": self.keys.export(),
            "values": {"fieldType": self.values.export(), "optional": False},
        }

    def __str__(self) -> str:
        return f"v.record({self.keys}, {self.values})"


def _as_it_is(value: Any) -> Any:
    return value
