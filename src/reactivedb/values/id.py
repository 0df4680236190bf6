"""How is a document id written?

`varint(table number) + 16 random bytes + a checksum of both`, as lower-case base32 (section a.5 of the
protocol): 31 to 37 characters, 32 for tables numbered 128 to 16383. Decoding is strict, so that one document
has exactly one id text and ids can be compared as text.
"""

from __future__ import annotations

from base64 import b32encode
from itertools import accumulate
from typing import NoReturn

from reactivedb.errors import ValidationError
from reactivedb.values.value import abbreviated

RANDOM_SIZE_BYTES = 16
TABLE_NUMBER_MAX = 2**32 - 1
_FOOTER_SIZE_BYTES = 2
_LENGTH_MIN = 31
ID_LENGTH_MAX = 37

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_STANDARD_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
# The digits of Python's `int(text, 32)`, which reads base32 at the speed of C.
_INT_DIGITS = "0123456789abcdefghijklmnopqrstuv"

_FROM_STANDARD = bytes.maketrans(_STANDARD_ALPHABET.encode(), _ALPHABET.encode())
# What is not in the alphabet becomes a character that `int` refuses, `_` and blanks (which it takes) too.
_TO_DIGITS = bytes(
    ord(_INT_DIGITS[_ALPHABET.index(chr(byte))]) if chr(byte) in _ALPHABET else ord("!")
    for byte in range(256)
)


def encode_id(table_number: int, random_bytes: bytes) -> str:
    """The id text of 16 random bytes in a table numbered 1 to 2**32 - 1."""
    assert 1 <= table_number <= TABLE_NUMBER_MAX, table_number
    assert len(random_bytes) == RANDOM_SIZE_BYTES, len(random_bytes)
    body = _varint(table_number) + random_bytes
    data = body + _footer(body)
    return b32encode(data).translate(_FROM_STANDARD, b"=").decode("ascii")


def decode_id(text: str) -> tuple[int, bytes]:
    """The table number and the random bytes of an id.

    Raises: `ValidationError` (`InvalidId`) unless `encode_id` of the result gives `text` again.
    """
    # Ids come from user code, where a document may be given in the place of its id.
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        _refuse_other(text)
    if not (_LENGTH_MIN <= len(text) <= ID_LENGTH_MAX and text.isascii()):
        _refuse(text)
    try:
        number = int(text.encode().translate(_TO_DIGITS), 32)
    except ValueError:
        _refuse(text)
    size_bytes, padding_bits = divmod(len(text) * 5, 8)
    # A text of this length whose last characters could be spared, or whose spare bits are set, has a twin.
    if padding_bits >= 5 or number & ((1 << padding_bits) - 1):
        _refuse(text)
    data = (number >> padding_bits).to_bytes(size_bytes, "big")
    body = data[:-_FOOTER_SIZE_BYTES]
    varint = body[:-RANDOM_SIZE_BYTES]
    table_number = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(varint))
    canonical = 1 <= table_number <= TABLE_NUMBER_MAX and _varint(table_number) == varint
    if not canonical or data[-_FOOTER_SIZE_BYTES:] != _footer(body):
        _refuse(text)
    return table_number, body[-RANDOM_SIZE_BYTES:]


def _varint(number: int) -> bytes:
    """Unsigned LEB128."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _footer(body: bytes) -> bytes:
    """A Fletcher-16 with accumulators modulo 256 instead of 255, little endian; the format's version is 0."""
    return bytes((sum(body) & 0xFF, sum(accumulate(body)) & 0xFF))


def _refuse(text: str) -> NoReturn:
    raise ValidationError(
        f"expected a document id, got {abbreviated(text)} - pass an id that the database gave out",
        code="InvalidId",
        got=text,
    )


def _refuse_other(value: object) -> NoReturn:
    kind = "null" if value is None else f"an object of type `{type(value).__name__}`"
    raise ValidationError(
        f"expected a document id, got {kind} - pass what `insert` gave, or the `id` of a document",
        code="InvalidId",
        got=kind,
    )
