"""What is a value, and is this Python object one?

The stored form has nine types (section a.1 of the protocol): None, `Int64`, float, bool, str, bytes, list and
dict; the ninth, "undefined", is `UNSET` and is never stored. A plain Python int is a number if a float holds
it exactly. Everything here runs for every document, so it looks at the exact type first and builds a path
only while an error is on its way up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from operator import index
from typing import Any, NamedTuple, Self, SupportsIndex, cast, final

from typing_extensions import TypeAliasType

from reactivedb.errors import ValidationError, ValueLimitError
from reactivedb.limits import Limits, active_limits
from reactivedb.text import beginning
from reactivedb.values.sensitive import LOOKED_AT_MAX, is_secret_name, quoted

# A real object at run time (not a string), so that an annotation `list[Value]` can be recognised.
Value = TypeAliasType("Value", "bool | int | float | str | bytes | list[Value] | dict[str, Value] | None")

# `type` itself, with a signature: pyright takes `type(x)` of an `Any` for unknown.
type_of: Callable[[object], type[object]] = type

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1
# Every integer up to here is exactly one float64.
EXACT_INT_MAX = 2**53


class Int64(int):
    """A signed 64-bit integer, JavaScript's bigint; plain ints are numbers (float64)."""

    __slots__ = ()

    def __new__(cls, value: SupportsIndex = 0) -> Self:
        """Raises: `ValidationError` (`Int64OutOfRange`); `TypeError` for what is no integer."""
        number = index(value)
        if not INT64_MIN <= number <= INT64_MAX:
            raise ValidationError(
                f"expected an integer from -2**63 to 2**63 - 1, got {abbreviated(number)}"
                " - keep larger numbers as a string",
                code="Int64OutOfRange",
            )
        return super().__new__(cls, number)

    def __repr__(self) -> str:
        return f"Int64({int.__repr__(self)})"

    def __str__(self) -> str:
        return int.__repr__(self)


@final
class Unset:
    """The type of `UNSET`: a field that is absent, which is not the same as one that holds null."""

    __slots__ = ()
    _only: Unset | None = None

    def __new__(cls) -> Unset:
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "UNSET"  # A copy or an unpickled one is the same object again.


UNSET = Unset()


class Bound(NamedTuple):
    """A limit that was reached: its name in `Limits`, its value, and what would have been needed."""

    limit: str
    maximum: int
    asked: int


class MisfitError(Exception):
    """Something below is no value; each container on the way up adds its step to `trail`."""

    def __init__(
        self, code: str, expected: str, got: str, way_out: str, *, bound: Bound | None = None
    ) -> None:
        super().__init__(code)
        self.bound = bound
        self.code = code
        self.expected = expected
        self.got = got
        self.way_out = way_out
        self.trail: list[str] = []

    def located(self, path: str) -> ValidationError:
        where = path + "".join(reversed(self.trail))
        if self.bound is None and is_secret_name(where):
            self.got = "one that is not shown"
        text = (
            f"expected {self.expected} at {f'`{where}`' if where else 'the top'}, got {self.got}"
            f" - {self.way_out}"
        )
        if self.bound is not None:
            limit, maximum, asked = self.bound
            return ValueLimitError(
                text, code=self.code, limit=limit, maximum=maximum, asked=asked, path=where
            )
        return ValidationError(
            text,
            code=self.code,
            path=where,
            expected=self.expected,
            got=self.got,
        )


def abbreviated(value: object) -> str:
    """`value` for an error message: never longer than a line."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    text = beginning(value, LOOKED_AT_MAX)  # ASCII, so that a lone surrogate cannot break the message too
    return quoted(text, length_max=80)


def normalize(value: object, *, path: str = "", limits: Limits | None = None, depth_used: int = 0) -> Value:
    """Check plain Python data and copy it into stored form.

    A field that holds `UNSET` is left out, as JavaScript clients do with `undefined`. The containers of the
    result are new; a `str` subclass is kept. O(nodes). `depth_used` is how many containers `value` lies in.

    Raises: `ValidationError` with the path of the first thing that is no value.
    """
    limits = limits or active_limits()
    try:
        return _copy(value, limits.value_depth_max - depth_used, limits)
    except MisfitError as misfit:
        raise misfit.located(path) from None


def _copy(value: Any, depth_left: int, limits: Limits) -> Value:
    kind = type_of(value)
    if kind is str:
        check_text(value)
        return value
    if value is None or kind is float or kind is bool or kind is bytes or kind is Int64:
        return value
    if kind is int:
        return _exact_float(value)
    if kind is dict:
        return _copy_object(value, depth_left, limits)
    if kind is list or kind is tuple:
        return _copy_array(value, depth_left, limits)
    return _copy_unusual(value, depth_left, limits)


def _copy_object(value: dict[Any, Any], depth_left: int, limits: Limits) -> Value:
    check_container(len(value), depth_left, limits, "fields")
    check_field_names(value, limits)
    copy: dict[str, Any] = dict(value)
    unset: list[str] | None = None
    for key, item in value.items():
        kind = type_of(item)
        if item is None or kind is float or kind is bool or (kind is str and item.isascii()):
            continue
        if item is UNSET:
            unset = [*(unset or ()), key]
            continue
        try:
            copy[key] = _copy(item, depth_left - 1, limits)
        except MisfitError as misfit:
            misfit.trail.append(f".{key}")
            raise
    for key in unset or ():
        del copy[key]
    return copy


def _copy_array(value: list[Any] | tuple[Any, ...], depth_left: int, limits: Limits) -> Value:
    check_container(len(value), depth_left, limits, "elements")
    copy: list[Value] = []
    for item in value:
        try:
            copy.append(_copy(item, depth_left - 1, limits))
        except MisfitError as misfit:
            misfit.trail.append(f"[{len(copy)}]")
            raise
    return copy


def _copy_unusual(value: Any, depth_left: int, limits: Limits) -> Value:
    """Subclasses and buffers; whatever is left over is no value."""
    if isinstance(value, str):
        check_text(value)
        return value
    if isinstance(value, Int64):
        return Int64(value)
    if isinstance(value, int):
        return _exact_float(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(cast(bytes, value))
    if isinstance(value, dict):
        return _copy_object(dict(cast("dict[Any, Any]", value)), depth_left, limits)
    if isinstance(value, (list, tuple)):
        return _copy_array(cast("list[Any]", value), depth_left, limits)
    got = "`UNSET`" if value is UNSET else f"`{type(value).__qualname__}`"
    raise MisfitError("UnsupportedValue", "a value", got, _way_out(value))


def _way_out(value: object) -> str:
    if value is UNSET:
        return "only a field of an object may be unset, use `None` here"
    if isinstance(value, Awaitable):
        return "put `await` before what gives it"
    # Where no annotation says what it is (`ApplicationError(data)`), a pydantic model is no value.
    if hasattr(value, "model_dump"):
        return "pass what its `model_dump()` gives"
    # A set, a generator, and a query that nobody has consumed; a class of enum members is none of these.
    if isinstance(value, Iterable) and not isinstance(value, type):
        return "turn it into a list"
    return "use `None`, bool, float, `rdb.Int64`, str, bytes, list or dict"


def _exact_float(value: int) -> float:
    if -EXACT_INT_MAX <= value <= EXACT_INT_MAX:
        return float(value)
    raise MisfitError(
        "NumberNotExact",
        "an integer within 2**53 either way",
        abbreviated(value),
        "wrap it in `rdb.Int64`, or make it a float if it may be rounded",
    )


def check_text(text: str) -> None:
    """Raises: `MisfitError` if the text has no UTF-8 form."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MisfitError(
            "LoneSurrogate",
            "Unicode text",
            f"the lone surrogate `U+{ord(text[error.start]):04X}` at index {error.start}",
            "do not cut a string between the halves of a surrogate pair",
        ) from None


def check_container(length: int, depth_left: int, limits: Limits, noun: str) -> None:
    """Raises: `MisfitError` if the container is too long, or lies below the deepest level allowed."""
    if depth_left <= 0:
        deepest = limits.value_depth_max
        raise MisfitError(
            "ValueTooDeep",
            f"at most {deepest} levels of nesting",
            f"level {deepest + 1}",
            "keep nested data in its own table",
            bound=Bound("value_depth_max", deepest, deepest + 1),
        )
    length_max = limits.object_field_count_max if noun == "fields" else limits.array_length_max
    if length > length_max:
        raise MisfitError(
            "TooManyFields" if noun == "fields" else "ArrayTooLong",
            f"at most {length_max} {noun}",
            str(length),
            "keep them as documents of their own",
            bound=Bound(
                "object_field_count_max" if noun == "fields" else "array_length_max", length_max, length
            ),
        )


# Names found good before: one C call then checks all names of an object. Only short names, and only so
# many, because a caller may send any.
_SHORT_NAME_LENGTH = 32
# From here on it pays to ask for the kinds of an array's elements before they are looked at.
_MANY = 16
_KNOWN_NAME_COUNT_MAX = 8_192
_known_names: set[object] = set()


def check_field_names(names: Mapping[Any, Any], limits: Limits) -> None:
    """Raises: `MisfitError` for a name that is not printable ASCII, begins with `$` or is too long."""
    if limits.field_name_length_max < _SHORT_NAME_LENGTH or not _known_names.issuperset(names):
        _check_new_names(names, limits)


def _check_new_names(names: Iterable[object], limits: Limits) -> None:
    for name in names:
        if not isinstance(name, str):
            raise MisfitError(
                "InvalidFieldName", "field names of type `str`", abbreviated(name), "convert it with `str()`"
            )
        if name.startswith("$"):
            raise MisfitError(
                "InvalidFieldName", "field names without a leading `$`", abbreviated(name), "rename it"
            )
        if not (name.isascii() and name.isprintable()):
            raise MisfitError(
                "InvalidFieldName",
                "field names of printable ASCII",
                abbreviated(name),
                "keep free text in values, for instance as a list of pairs",
            )
        if len(name) > limits.field_name_length_max:
            raise MisfitError(
                "InvalidFieldName",
                f"field names of at most {limits.field_name_length_max} characters",
                f"one of {len(name)}",
                "shorten it",
                bound=Bound("field_name_length_max", limits.field_name_length_max, len(name)),
            )
        if len(name) <= _SHORT_NAME_LENGTH and len(_known_names) < _KNOWN_NAME_COUNT_MAX:
            _known_names.add(name)


def size_bytes(value: Any) -> int:
    """The size that limits speak of (section a.3): a number 9, a text 2 + its UTF-8, a field its name + 1."""
    kind = type_of(value)
    if kind is str:
        text = value
        return 2 + (len(text) if text.isascii() else len(text.encode()))
    if kind is float or kind is Int64:
        return 9
    if kind is dict:
        total = 2
        for key, item in value.items():
            total += len(key) + 1
            item_kind = type_of(item)
            if item_kind is float:
                total += 9
            elif item_kind is str and item.isascii():
                total += 2 + len(item)
            else:
                total += size_bytes(item)
        return total
    if kind is list:
        if len(value) >= _MANY and set(map(type_of, value)) == {float}:
            return 2 + 9 * len(value)
        return 2 + sum(map(size_bytes, value))
    if value is None or kind is bool:
        return 1
    if isinstance(value, str):
        return 2 + len(value.encode())
    if isinstance(value, bytes):
        return 2 + len(value)
    assert isinstance(value, (int, float)), f"not in stored form: {kind}"
    return 9


def depth(value: Any) -> int:
    """How many containers lie within each other: 0 for a scalar, 1 for a flat document."""
    kind = type_of(value)
    if kind is dict:
        children: Iterable[Any] = value.values()
    elif kind is list:
        children = value
    else:
        return 0
    deepest = 0
    for child in children:
        child_kind = type_of(child)
        if (child_kind is dict or child_kind is list) and (below := depth(child)) > deepest:
            deepest = below
    return deepest + 1
