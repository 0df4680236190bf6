"""What is a value, and how do two compare? Said as plainly as possible, to judge the quick code by."""

from __future__ import annotations

import struct
from functools import cmp_to_key
from typing import Any

from hypothesis import strategies as st

from reactivedb.values import UNSET, Int64

names = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=6).filter(
    lambda name: not name.startswith("$")
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.text(
    '\x00\x01\x02a$"\\', max_size=4
)
binaries = st.binary(max_size=8) | st.lists(st.sampled_from([0, 1, 2, 254, 255]), max_size=5).map(bytes)
bit_patterns = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
floats = st.floats() | bit_patterns | st.integers(-(2**54), 2**54).map(float)
int64s = st.integers(-(2**63), 2**63 - 1).map(Int64) | st.integers(-3, 3).map(Int64)
scalars = st.none() | st.booleans() | floats | int64s | texts | binaries
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
values_or_unset = values | st.just(UNSET)


def exact(value: Any) -> Any:
    """A form in which two values are equal only if they are the same to the last bit and field."""
    if isinstance(value, float):
        return ("float", struct.pack(">d", value))
    if isinstance(value, list):
        return ("list", [exact(item) for item in value])
    if isinstance(value, dict):
        return ("dict", [(key, exact(item)) for key, item in value.items()])
    return (type(value).__name__, value)


def compare(left: Any, right: Any) -> int:
    """-1, 0 or 1 by the total order of section a.4."""
    if rank(left) != rank(right):
        return sign(rank(left) - rank(right))
    if left is None or left is UNSET:
        return 0
    if isinstance(left, float):
        return compare_ordered(total_order(left), total_order(right))
    if isinstance(left, list):
        return compare_sequences(left, right)
    if isinstance(left, dict):
        return compare_sequences(pairs(left), pairs(right))
    if isinstance(left, str):
        return compare_ordered(left.encode(), right.encode())
    return compare_ordered(left, right)


def rank(value: Any) -> int:
    if value is UNSET:
        return 0
    if value is None:
        return 1
    return 2 + [Int64, float, bool, str, bytes, list, dict].index(type(value))


def total_order(number: float) -> int:
    [bits] = struct.unpack(">q", struct.pack(">d", number))
    return bits if bits >= 0 else -(2**63) - bits - 1


def pairs(value: dict[str, Any]) -> list[Any]:
    return [[key, value[key]] for key in sorted(value)]


def compare_sequences(left: list[Any], right: list[Any]) -> int:
    for one, other in zip(left, right, strict=False):
        if (order := compare(one, other)) != 0:
            return order
    return sign(len(left) - len(right))


def compare_ordered(left: Any, right: Any) -> int:
    return (left > right) - (left < right)


def sign(number: int) -> int:
    return (number > 0) - (number < 0)


order_key = cmp_to_key(compare)
