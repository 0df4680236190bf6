"""How much memory does a value take once it is decoded?

A text of JSON becomes up to forty times as large: `[[],[]]` has three bytes a piece as text, and each is a
list with its place in another one as a value. Where decoded values stay in memory, this is what is counted,
not the length of the text. The constants are measured with `tracemalloc` (`tests/values/test_weight.py`).
"""

from __future__ import annotations

# An item of its own and its place in a container; the name of a field and its place.
_ITEM_SIZE_BYTES = 56
_LIST_SIZE_BYTES = 72
_DICT_SIZE_BYTES = 64
_FIELD_SIZE_BYTES = 120


def decoded_size_bytes(text: bytes | str) -> int:
    """About what the value of a JSON text takes in memory, the text included; rarely less. O(length).

    Punctuation inside of strings counts as well, so prose is taken for a little more than it is.
    """
    if isinstance(text, str):
        text = text.encode("utf-8", "surrogatepass")
    count = text.count
    return (
        (1 + _width(text)) * len(text)
        + _ITEM_SIZE_BYTES * (count(b",") + 1)
        + _LIST_SIZE_BYTES * count(b"[")
        + _DICT_SIZE_BYTES * count(b"{")
        + _FIELD_SIZE_BYTES * count(b":")
    )


def _width(text: bytes) -> int:
    """How many bytes a character of the widest string may take; Python gives all of a string the same."""
    if b"\\u" in text:
        return 4
    if text.isascii():
        return 1
    return 4 if any(first in text for first in (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4")) else 2
