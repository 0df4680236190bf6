"""Which bytes sort as values do?

Comparing two keys byte by byte compares their values by the total order (section a.4 of the protocol): by
type first, then within the type. One value is a tag byte and a body:

    unset, null, false, true    the tag alone
    int64                       8 bytes, big endian, sign bit flipped
    float64                     8 bytes, big endian; sign bit flipped if positive, all bits if negative
    string, bytes               content, then 00; in it 00 is written 01 01, and 01 is written 01 02
    array                       its elements, then 00
    object                      name (as a string) and value of each field, names ascending, then 00

A body's end is fixed or marked by a byte that cannot occur inside, so no value's encoding is a proper prefix
of another's, and a key can be cut into its values. Tags lie in 01..FE, so `prefix + b"\\xff"` is above every
key that begins with `prefix`, and 00 is below every tag.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Any

from reactivedb.errors import ValidationError
from reactivedb.values.value import UNSET, Int64, MisfitError, Unset, Value, abbreviated, check_text, type_of

# Gaps leave room for a type to come.
_UNSET = 0x08
_NULL = 0x10
_INT64 = 0x18
_FLOAT64 = 0x20
_FALSE = 0x28
_TRUE = 0x29
_STRING = 0x30
_BYTES = 0x38
_ARRAY = 0x40
_OBJECT = 0x48

_UNSET_KEY = bytes([_UNSET])
_NULL_KEY = bytes([_NULL])
_FALSE_KEY = bytes([_FALSE])
_TRUE_KEY = bytes([_TRUE])
_STRING_MARK = chr(_STRING)
_BYTES_MARK = bytes([_BYTES])
_ARRAY_MARK = bytes([_ARRAY])
_OBJECT_MARK = bytes([_OBJECT])
_END = b"\x00"

_TAGGED_FLOAT = Struct(">Bd")
_TAGGED_INTEGER = Struct(">BQ")
_FLOAT = Struct(">d")
_INTEGER = Struct(">Q")
_SIGN = 1 << 63
_ALL_BITS = (1 << 64) - 1


def encode_key(values: Iterable[Value | Unset]) -> bytes:
    """The keys of all values, one after another. O(bytes)."""
    return b"".join(key_parts(values))


def key_parts(values: Iterable[Value | Unset]) -> tuple[bytes, ...]:
    """The key of each value by itself.

    Raises: `ValidationError` for a lone surrogate, or for what is not in stored form.
    """
    try:
        return tuple([_encode(value) for value in values])
    except MisfitError as misfit:
        raise misfit.located("") from None
    except RecursionError:
        raise MisfitError("ValueTooDeep", "less nesting", "endless levels", "nest less").located("") from None


def decode_key(key: bytes) -> list[Value | Unset]:
    """The values of a key.

    Raises: `ValidationError` (`InvalidKey`) for bytes that `encode_key` did not make.
    """
    values: list[Value | Unset] = []
    position = 0
    try:
        while position < len(key):
            value, position = _decode(key, position)
            values.append(value)
        sound = encode_key(values) == key
    except (IndexError, ValueError, RecursionError, ValidationError):
        sound = False  # cut short, an unknown tag, or no UTF-8: refused below
    if not sound:
        raise ValidationError(
            f"expected bytes made by `encode_key`, got {abbreviated(key)} - rebuild the index",
            code="InvalidKey",
        )
    return values


def end_of_values(key: bytes, count: int) -> int:
    """Where the first `count` values of a key end, whatever bytes come after them."""
    position = 0
    for _ in range(count):
        _, position = _decode(key, position)
    return position


def _encode(value: Any) -> bytes:
    kind = type_of(value)
    if kind is str:
        if "\x00" in value or "\x01" in value:
            value = value.replace("\x01", "\x01\x02").replace("\x00", "\x01\x01")
        try:
            return f"{_STRING_MARK}{value}\x00".encode()
        except UnicodeEncodeError:
            check_text(value)
            raise
    if kind is float:
        if value > 0.0:
            return _TAGGED_FLOAT.pack(_FLOAT64, -value)  # Negating it flips the sign bit.
        [bits] = _INTEGER.unpack(_FLOAT.pack(value))
        return _TAGGED_INTEGER.pack(_FLOAT64, bits ^ _ALL_BITS if bits & _SIGN else bits | _SIGN)
    if value is None:
        return _NULL_KEY
    if kind is bool:
        return _TRUE_KEY if value else _FALSE_KEY
    if value is UNSET:
        return _UNSET_KEY
    if kind is Int64:
        return _TAGGED_INTEGER.pack(_INT64, value + _SIGN)
    if kind is bytes:
        return _BYTES_MARK + value.replace(b"\x01", b"\x01\x02").replace(b"\x00", b"\x01\x01") + _END
    if kind is list:
        return b"".join([_ARRAY_MARK, *map(_encode, value), _END])
    if kind is dict:
        pieces = [_OBJECT_MARK]
        for name in sorted(value):
            pieces += (_encode(name), _encode(value[name]))
        pieces.append(_END)
        return b"".join(pieces)
    if isinstance(value, str):
        return _encode(str.__str__(value))
    raise MisfitError(
        "UnsupportedValue", "a value in stored form", abbreviated(value), "pass it through `normalize` first"
    )


def _decode(key: bytes, position: int) -> tuple[Any, int]:
    """The value that begins at `position`, and where the next one begins."""
    tag = key[position]
    position += 1
    match tag:
        case 0x08:
            return UNSET, position
        case 0x10:
            return None, position
        case 0x18:
            return Int64(_word(key, position) - _SIGN), position + 8
        case 0x20:
            word = _word(key, position)
            bits = word ^ _SIGN if word & _SIGN else word ^ _ALL_BITS
            return _FLOAT.unpack(_INTEGER.pack(bits))[0], position + 8
        case 0x28 | 0x29:
            return tag == _TRUE, position
        case 0x30:
            content, position = _content(key, position)
            return content.decode(), position
        case 0x38:
            return _content(key, position)
        case 0x40:
            return _decode_array(key, position)
        case 0x48:
            items, position = _decode_array(key, position)
            return dict(zip(items[::2], items[1::2], strict=True)), position
        case _:
            raise ValueError(f"unknown tag {tag:#04x}")


def _decode_array(key: bytes, position: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    while key[position]:
        item, position = _decode(key, position)
        items.append(item)
    return items, position + 1


def _word(key: bytes, position: int) -> int:
    if position + 8 > len(key):
        raise IndexError(position)
    return int.from_bytes(key[position : position + 8], "big")


def _content(key: bytes, position: int) -> tuple[bytes, int]:
    end = key.index(_END, position)
    return key[position:end].replace(b"\x01\x01", _END).replace(b"\x01\x02", b"\x01"), end + 1
