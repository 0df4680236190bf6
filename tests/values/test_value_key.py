"""Do keys sort as values do, and can they be cut into prefixes?"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from naive_values import compare, compare_sequences, exact, order_key, sign, values, values_or_unset

from reactivedb.errors import ValidationError
from reactivedb.values import UNSET, Int64, decode_key, encode_key, key_parts

# One of each kind and the neighbours between which order is easily lost, in ascending order.
ASCENDING: list[Any] = [
    UNSET, None, Int64(-(2**63)), Int64(-1), Int64(0), Int64(1), Int64(2**63 - 1),
    math.copysign(math.nan, -1), -math.inf, -1e300, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, 1.5, math.inf,
    math.nan,
    False, True,
    "", "\x00", "\x00\x00", "\x00\x01", "\x01", "\x01\x00", "\x02", "a", "a\x00", "a\x00b", "a\x01", "ab",
    "\uffff", "\U0001f600",
    b"", b"\x00", b"\x00\xff", b"\x01", b"a", b"a\x00", b"\xff", b"\xff\xff",
    [], [None], [None, None], [1.0], ["a"], ["a", None], ["a\x00"], [[]], [[], None], [{}],
    {}, {"": None}, {"a": None}, {"a": None, "b": None}, {"a": 1.0}, {"b": None}, {"b": []},
]  # fmt: skip


def key(*items: Any) -> bytes:
    return encode_key(items)


def test_one_of_each_kind_sorts_as_the_specification_says() -> None:
    assert sorted(ASCENDING, key=key) == sorted(ASCENDING, key=order_key)
    keys = [key(value) for value in ASCENDING]
    assert keys == sorted(set(keys))


@given(values_or_unset, values_or_unset)
def test_two_keys_compare_as_their_values(left: Any, right: Any) -> None:
    assert sign((key(left) > key(right)) - (key(left) < key(right))) == compare(left, right)


@given(st.lists(values_or_unset, max_size=4), st.lists(values_or_unset, max_size=4))
def test_keys_of_several_values_compare_value_by_value(left: list[Any], right: list[Any]) -> None:
    left_key, right_key = encode_key(left), encode_key(right)
    assert (left_key > right_key) - (left_key < right_key) == compare_sequences(left, right)


@given(values_or_unset, values_or_unset)
@example("a", "a\x00b")
@example(b"\x00", b"\x00\x00")
@example(["a"], ["a", "b"])
def test_no_value_is_a_proper_prefix_of_another(left: Any, right: Any) -> None:
    if key(left) != key(right):
        assert not key(left).startswith(key(right))
        assert not key(right).startswith(key(left))


@given(st.lists(values_or_unset, max_size=3), st.lists(values_or_unset, max_size=3))
def test_a_prefix_and_its_upper_bound_enclose_exactly_the_keys_that_begin_with_it(
    prefix: list[Any], other: list[Any]
) -> None:
    low, high = encode_key(prefix), encode_key(prefix) + b"\xff"
    assert low <= encode_key(prefix + other) < high
    begins = compare_sequences(other[: len(prefix)], prefix) == 0
    assert (low <= encode_key(other) < high) == begins


@given(st.lists(values_or_unset, max_size=4))
def test_a_key_gives_its_values_back(items: list[Any]) -> None:
    assert b"".join(key_parts(items)) == encode_key(items)
    assert [key(item) for item in items] == list(key_parts(items))
    ascending = [sorted_fields(item) for item in items]
    assert exact(decode_key(encode_key(items))) == exact(ascending)


def sorted_fields(value: Any) -> Any:
    if isinstance(value, list):
        return [sorted_fields(item) for item in value]
    if isinstance(value, dict):
        return {name: sorted_fields(value[name]) for name in sorted(value)}
    return value


@given(values)
def test_tags_leave_room_below_and_above(value: Any) -> None:
    assert 0x01 <= key(value)[0] <= 0xFE


@given(st.binary(max_size=12))
@example(key("a")[:-1])
@example(key(1.0)[:-1])
@example(key([1.0])[:-1])
@example(key({"a": 1.0}).replace(b"a\x00", b"a\x00\x08"))
@example(b"\x30\x01\x03\x00")
@example(b"\x30\xff\x00")
@example(b"\x48\x10\x10\x00")
@example(b"\x40" * 100_000)
def test_other_bytes_are_refused_or_are_a_key(data: bytes) -> None:
    try:
        items = decode_key(data)
    except ValidationError as error:
        if error.code != "InvalidKey":
            raise
    else:
        assert encode_key(items) == data


def test_an_id_sorts_as_its_text() -> None:
    class Ident(str):
        __slots__ = ()

    assert key(Ident("a\x00")) == key("a\x00")
    assert key([Ident("a")]) == key(["a"])


@pytest.mark.parametrize(
    ("value", "code"), [("\ud800", "LoneSurrogate"), (object(), "UnsupportedValue"), (7, "UnsupportedValue")]
)
def test_what_is_not_in_stored_form_has_no_key(value: Any, code: str) -> None:
    with pytest.raises(ValidationError) as caught:
        encode_key([[value]])
    assert caught.value.code == code
