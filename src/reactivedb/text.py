"""Cut of a text whose length somebody else decides.

Error texts, lines of a log and whatever quotes a caller go through here, so that what is shown, sent or kept
of a caller's text has a bounded length. Each function costs time in proportion to what it returns, not to
what it is given: a large argument is not written out for the sake of its beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

# Stands behind a text that was longer.
CUT_MARK: Final = " (truncated)"
# Python refuses to print very long integers, and nobody wants to read them.
_INTEGER_BITS_MAX: Final = 256


def cut(text: str, length_max: int) -> str:
    """`text` itself, or its first characters and a mark."""
    return text if len(text) <= length_max else text[:length_max] + CUT_MARK


def quoted(value: object, length_max: int) -> str:
    """The first characters of what came where something else should; of a text without quotation marks."""
    text = value if isinstance(value, str) else beginning(value, length_max)
    return text[:length_max]


def beginning(value: object, length_max: int) -> str:
    """`ascii(value)`; of a longer one at least `length_max + 1` of its characters, and not many more."""
    pieces: list[str] = []
    room = length_max + 1
    for piece in _pieces(value, room):
        pieces.append(piece)
        room -= len(piece)
        if room <= 0:
            break
    return "".join(pieces)


def _pieces(value: Any, room: int) -> Iterator[str]:
    """`ascii(value)` bit by bit. No nesting is too deep: each level gives a bracket before it goes deeper."""
    kind = cast("type[object]", type(value))
    if kind is str or kind is bytes:
        # A longer one is cut before its closing quote.
        yield ascii(value[:room])
    elif kind is dict:
        separator = "{"
        for key, item in cast("dict[object, object]", value).items():
            yield separator
            yield from _pieces(key, room)
            yield ": "
            yield from _pieces(item, room)
            separator = ", "
        yield "}" if value else "{}"
    elif kind is list:
        separator = "["
        for item in cast("list[object]", value):
            yield separator
            yield from _pieces(item, room)
            separator = ", "
        yield "]" if value else "[]"
    elif kind is int and value.bit_length() > _INTEGER_BITS_MAX:
        yield f"an integer of {value.bit_length()} bits"
    elif isinstance(value, str) and kind.__repr__ is str.__repr__:
        yield ascii(str.__str__(value)[:room])
    else:
        yield ascii(value)
