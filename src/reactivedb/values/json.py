"""How is a value written as JSON, and read back?

Three forms: the lossless one of the wire and of storage (section a.2: `{"$integer": ...}`, `{"$bytes": ...}`,
`{"$float": ...}`), the lossy one for people and other languages (`encode_plain`), and plain JSON for the
envelopes around values (`loads`, `dumps`).

Only this module calls msgspec's JSON encoder: it writes NaN and infinity as null without a word, and knows
no subclass of `str`. A number has one text: integral and below 2**53 without a fraction, else the shortest
text that reads back as the same float. Text without any `"$` in it needs no walk in Python to be decoded.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from math import copysign, isfinite
from struct import Struct
from typing import Any, NoReturn, cast

import msgspec

from reactivedb.errors import ValidationError
from reactivedb.limits import Limits, active_limits
from reactivedb.values.sensitive import unshown
from reactivedb.values.value import (
    EXACT_INT_MAX,
    Int64,
    MisfitError,
    Value,
    abbreviated,
    check_container,
    check_field_names,
    check_text,
    type_of,
)

_DOLLAR = ord("$")
_BACKSLASH = ord("\\")
# From here on it pays to ask for the kinds of an array's elements before they are looked at.
_MANY = 16
_INT64 = Struct("<q")
_FLOAT64 = Struct("<d")

# Text that `encode` made was checked when it was made, perhaps under other limits.
_NO_LIMITS = Limits(
    value_depth_max=2**31, array_length_max=2**31, object_field_count_max=2**31, field_name_length_max=2**31
)


class MalformedJson(ValidationError):  # noqa: N818 - named after its code
    """The text is no JSON."""

    default_code = "MalformedJson"


def encode(value: Value) -> bytes:
    """The lossless text of a value in stored form; `msgspec.Raw` pieces in it are copied as they are.

    Keys stay in the order given. Raises: `ValidationError` for a lone surrogate or endless nesting.
    """
    return _write(_to_tree, value)


def encode_plain(value: Value) -> bytes:
    """The lossy text (format `json`): int64 and NaN become strings, bytes base64, -0 is 0."""
    return _write(_to_plain_tree, value)


def to_jsonable(value: Value) -> Any:
    """The tree whose plain JSON is `encode(value)`; shares with `value` what needs no change."""
    return _to_tree(value)


def decode(data: bytes | str) -> Value:
    """The value of a lossless text; limits are not checked again.

    Raises: `ValidationError`; `MalformedJson` if it is no JSON at all.
    """
    if not _may_hold_special(data):
        try:
            return _FLOATS_DECODER.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            pass  # Nested deeper than `_FLOATS_LEVELS`, or malformed: the way below finds out which.
    return from_jsonable(loads(data), limits=_NO_LIMITS)


def _may_hold_special(data: bytes | str) -> bool:
    """False if no field name begins with `$`, be it written as an escape."""
    if isinstance(data, str):
        return ("$" in data and '"$' in data) or ("\\" in data and "\\u0024" in data)
    # An int is looked for with memchr, which makes this check ten times quicker for most texts.
    return (_DOLLAR in data and b'"$' in data) or (_BACKSLASH in data and b"\\u0024" in data)


def from_jsonable(tree: Any, *, path: str = "", limits: Limits | None = None) -> Value:
    """The value that a parsed lossless text stands for, checked against the limits on values.

    Shares with `tree` what needs no change. Raises: `ValidationError` with path.
    """
    limits = limits or active_limits()
    try:
        return from_tree(tree, limits.value_depth_max, limits)
    except MisfitError as misfit:
        raise misfit.located(path) from None
    except RecursionError:
        raise _too_deep(path) from None


def loads(text: bytes | str) -> Any:
    """Parse plain JSON. A lone surrogate, which browsers do send, is handed on for the caller to refuse.

    Raises: `MalformedJson`.
    """
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeError, ValueError) as error:
        return _loads_with_surrogates(text, error)
    except RecursionError:
        raise MalformedJson("expected JSON, got too many nested containers - nest less") from None


def dumps(tree: Any) -> bytes:
    """Write plain JSON, for envelopes; `msgspec.Raw` pieces are copied as they are.

    Raises: `ValidationError` for NaN, infinity, and whatever JSON does not know.
    """
    try:
        text = _ENCODER.encode(tree)
    except UnicodeEncodeError:
        raise ValidationError(
            "expected Unicode text, got a lone surrogate - encode it otherwise", code="LoneSurrogate"
        ) from None
    # NaN and infinity come out as null, so only a text with a null in it has to be looked at again.
    if b"null" in text:
        _refuse_special_floats(tree)
    return text


# --- values to trees


def _write(to_tree: Callable[[Any], Any], value: Value) -> bytes:
    try:
        return _ENCODER.encode(to_tree(value))
    except UnicodeEncodeError:
        raise _surrogate_misfit(value).located("") from None
    except RecursionError:
        raise _too_deep("") from None


def _to_tree(value: Any) -> Any:
    kind = type_of(value)
    if kind is dict:
        return _map_object(value, _to_tree)
    if kind is list:
        return _map_array(value, _to_tree)
    if kind is float:
        # Not integral is most frequent here (creation times), and NaN is not integral either.
        if value.is_integer() and -EXACT_INT_MAX < value < EXACT_INT_MAX:
            return (
                int(value) if value or copysign(1.0, value) > 0 else {"$float": _base64(_FLOAT64.pack(value))}
            )
        return value if isfinite(value) else {"$float": _base64(_FLOAT64.pack(value))}
    if kind is Int64:
        return {"$integer": _base64(_INT64.pack(value))}
    if kind is bytes:
        return {"$bytes": _base64(value)}
    return _to_leaf(value)


def _to_plain_tree(value: Any) -> Any:
    kind = type_of(value)
    if kind is dict:
        return _map_object(value, _to_plain_tree)
    if kind is list:
        return _map_array(value, _to_plain_tree)
    if kind is float:
        if value.is_integer() and -EXACT_INT_MAX < value < EXACT_INT_MAX:
            return int(value)
        return value if isfinite(value) else _SPECIAL_NAMES.get(value, "NaN")
    if kind is Int64:
        return str(value)
    if kind is bytes:
        return _base64(value)
    if kind is msgspec.Raw:
        return _to_plain_tree(decode(bytes(value)))
    return _to_leaf(value)


_SPECIAL_NAMES = {float("inf"): "Infinity", float("-inf"): "-Infinity"}


def _to_leaf(value: Any) -> Any:
    kind = type_of(value)
    if kind is str or value is None or kind is bool or kind is msgspec.Raw:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if kind is int and -EXACT_INT_MAX < value < EXACT_INT_MAX:
        return value
    raise MisfitError(
        "UnsupportedValue", "a value in stored form", abbreviated(value), "pass it through `normalize` first"
    ).located("")


def _map_object(value: dict[str, Any], convert: Callable[[Any], Any]) -> dict[str, Any]:
    """`value` itself if `convert` changes no field, else a copy in the same order."""
    changed: dict[str, Any] | None = None
    for key, item in value.items():
        if type(item) is str or item is None:
            continue
        new = convert(item)
        if new is not item:
            if changed is None:
                changed = value.copy()
            changed[key] = new
    return value if changed is None else changed


def _map_array(value: list[Any], convert: Callable[[Any], Any]) -> list[Any]:
    # Most long arrays hold one kind of scalar; texts and numbers with a fraction need no change.
    if len(value) >= _MANY:
        kinds = set(map(type_of, value))
        if kinds == {str}:
            return value
        if kinds == {float} and not any(map(float.is_integer, value)) and all(map(isfinite, value)):
            return value
    return [item if type(item) is str else convert(item) for item in value]


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _surrogate_misfit(value: Any) -> MisfitError:
    """Which text could not be written? Walks again, with a path, because only an error needs one."""
    found = _find_surrogate(value)
    assert found is not None, "msgspec refused a text that has a UTF-8 form"
    return found


def _find_surrogate(value: Any) -> MisfitError | None:
    if isinstance(value, str):
        try:
            check_text(value)
        except MisfitError as misfit:
            return misfit
        return None
    steps: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        steps = [*((f".{key}", key) for key in fields), *((f".{key}", item) for key, item in fields.items())]
    elif isinstance(value, list):
        steps = [(f"[{index}]", item) for index, item in enumerate(cast("list[Any]", value))]
    for step, item in steps:
        if (misfit := _find_surrogate(item)) is not None:
            misfit.trail.append(step)
            return misfit
    return None


# --- trees to values


def from_tree(tree: Any, depth_left: int, limits: Limits) -> Any:
    """The value that a parsed text stands for. Raises: `MisfitError`."""
    kind = type_of(tree)
    if kind is str:
        check_text(tree)
        return tree
    if tree is None or kind is bool or kind is float:
        return tree
    if kind is int:
        return _to_float(tree)
    if kind is dict:
        return _from_object(tree, depth_left, limits)
    if kind is list:
        return _from_array(tree, depth_left, limits)
    raise MisfitError("UnsupportedValue", "parsed JSON", abbreviated(tree), "pass what `loads` returned")


def _from_object(tree: dict[str, Any], depth_left: int, limits: Limits) -> Any:
    if len(tree) == 1:
        [key] = tree
        if key.startswith("$"):
            return _from_special(key, tree[key])
    check_container(len(tree), depth_left, limits, "fields")
    check_field_names(tree, limits)
    changed: dict[str, Any] | None = None
    for key, item in tree.items():
        kind = type_of(item)
        if item is None or kind is float or kind is bool or (kind is str and item.isascii()):
            continue
        try:
            new = from_tree(item, depth_left - 1, limits)
        except MisfitError as misfit:
            misfit.trail.append(f".{key}")
            raise
        if new is not item:
            if changed is None:
                changed = tree.copy()
            changed[key] = new
    return tree if changed is None else changed


def _from_array(tree: list[Any], depth_left: int, limits: Limits) -> list[Any]:
    check_container(len(tree), depth_left, limits, "elements")
    if len(tree) >= _MANY and (scalars := _scalars(tree)) is not None:
        return scalars
    items: list[Any] = []
    for item in tree:
        try:
            items.append(from_tree(item, depth_left - 1, limits))
        except MisfitError as misfit:
            misfit.trail.append(f"[{len(items)}]")
            raise
    return items


def _scalars(tree: list[Any]) -> list[Any] | None:
    """What a long array of one kind of scalar stands for; None: its elements have to be looked at."""
    kinds = set(map(type_of, tree))
    if kinds == {float} or (kinds == {str} and all(map(str.isascii, tree))):
        return tree
    if kinds <= {int, float}:
        try:
            return list(map(float, tree))
        except OverflowError:
            return None  # The walk says which of them it is.
    return None


def _from_special(key: str, body: Any) -> Value:
    if key == "$bytes":
        return _special_bytes(key, body)
    if key == "$integer":
        return Int64(_INT64.unpack(_special_bytes(key, body, 8))[0])
    if key == "$float":
        return _FLOAT64.unpack(_special_bytes(key, body, 8))[0]
    raise MisfitError(
        "UnknownSpecialObject",
        "`$bytes`, `$integer` or `$float`",
        abbreviated(key),
        "no field name may begin with `$`",
    )


def _special_bytes(key: str, body: Any, length: int | None = None) -> bytes:
    data: bytes | None = None
    if type(body) is str:
        try:
            data = b64decode(body, validate=True)
        except (Base64Error, ValueError):
            data = None  # not base64, or not ASCII: refused below
    if data is None or (length is not None and len(data) != length):
        expected = "base64 text" if length is None else f"the base64 text of {length} bytes"
        # What is no base64 may be anything, such as a password of the wrong type.
        misfit = MisfitError(
            "InvalidSpecialObject", expected, unshown(body), "use standard base64 with padding"
        )
        misfit.trail.append(f".{key}")
        raise misfit
    return data


def _to_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        raise MisfitError(
            "NumberOutOfRange", "a number that a float64 can hold", abbreviated(number), "send it as a string"
        ) from None


def _too_deep(path: str) -> ValidationError:
    return MisfitError("ValueTooDeep", "less nesting", "endless levels", "nest less").located(path)


# --- plain JSON


def _loads_with_surrogates(text: bytes | str, refusal: Exception) -> Any:
    try:
        decoded = text if isinstance(text, str) else str(text, "utf-8")
        # Only text with surrogates gets a second chance: Python's parser also takes what is no JSON.
        if "\\u" not in decoded and not _has_surrogate(decoded):
            raise ValueError(str(refusal))
        return json.loads(decoded, parse_constant=_refuse_constant, parse_float=_finite_float)
    except (ValueError, RecursionError) as error:
        raise MalformedJson(f"expected JSON, got text that is none ({error}) - check the sender") from None


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"`{name}` is no JSON")


def _finite_float(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"`{text}` is out of range")
    return number


def _refuse_special_floats(tree: Any) -> None:
    if isinstance(tree, float):
        if not isfinite(tree):
            raise ValidationError(
                f"expected a finite number, got `{tree}` - JSON has no word for it", code="NumberNotFinite"
            )
    elif isinstance(tree, dict):
        for item in cast("dict[Any, Any]", tree).values():
            _refuse_special_floats(item)
    elif isinstance(tree, (list, tuple)):
        for item in cast("list[Any]", tree):
            _refuse_special_floats(item)


def _encode_other(value: object) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    raise ValidationError(
        f"expected plain JSON data, got `{type(value).__qualname__}` - turn it into a value first",
        code="UnsupportedValue",
    )


def _floats_type(levels: int) -> Any:
    """JSON nested up to `levels` deep in which each number, integral or not, is read as a float.

    msgspec has no recursive type without a class of its own, and unfolds this one: making the decoder takes
    twice as long for each further level (16 of them 0.7 s), using it costs nothing for levels not there.
    """
    scalar: Any = None | bool | float | str
    tree = scalar
    for _ in range(levels):
        tree = scalar | list[tree] | dict[str, tree]
    return tree


_ENCODER = msgspec.json.Encoder(enc_hook=_encode_other)
_DECODER = msgspec.json.Decoder()
# Deeper documents are rare, and are read by a walk in Python.
_FLOATS_LEVELS = 6
_FLOATS_DECODER = msgspec.json.Decoder(_floats_type(_FLOATS_LEVELS))
