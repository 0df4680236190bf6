"""Does `normalize` take what is a value, and nothing else?"""

from __future__ import annotations

import copy
import math
import pickle
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from naive_values import exact, values

from reactivedb.errors import ValidationError
from reactivedb.limits import Limits
from reactivedb.values import UNSET, Int64, Unset, depth, normalize, size_bytes


class Ident(str):
    __slots__ = ()


class Color(IntEnum):
    RED = 3


def refusal(value: Any, **options: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        normalize(value, **options)
    return caught.value


@given(values)
def test_a_stored_value_stays_as_it_is(value: Any) -> None:
    assert exact(normalize(value)) == exact(value)


def test_containers_are_copied_at_every_level() -> None:
    inner: list[Any] = [1.0]
    outer: dict[str, Any] = {"a": {"b": inner}}
    result: Any = normalize(outer)
    inner.append(2.0)
    outer["a"]["c"] = 1.0
    assert result == {"a": {"b": [1.0]}}


def test_plain_ints_become_floats_while_exact() -> None:
    result: Any = normalize([0, -7, 2**53, -(2**53), Color.RED, True])
    assert [type(item) for item in result] == [float] * 5 + [bool]
    assert result == [0.0, -7.0, 2.0**53, -(2.0**53), 3.0, True]


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**53 + 2, 1 << 10_000])
def test_an_int_that_no_float_is_sure_to_hold_is_refused_naming_int64(number: int) -> None:
    error = refusal({"count": [number]})
    assert (error.code, error.path) == ("NumberNotExact", ".count[0]")
    assert "rdb.Int64" in error.message


def test_tuples_buffers_and_subclasses_are_taken() -> None:
    class Number(float):
        pass

    result: Any = normalize(
        {"t": (1, "x"), "b": bytearray(b"\x01"), "m": memoryview(b"ab"), "f": Number(2.5)}
    )
    assert result == {"t": [1.0, "x"], "b": b"\x01", "m": b"ab", "f": 2.5}
    assert [type(item) for item in result.values()] == [list, bytes, bytes, float]
    ident = Ident("abc")
    assert normalize([ident]) == ["abc"]
    assert type(normalize(ident)) is Ident


def test_an_unset_field_is_left_out_and_an_unset_element_refused() -> None:
    assert normalize({"a": UNSET, "b": {"c": UNSET, "d": None}}) == {"b": {"d": None}}
    assert refusal({"a": [UNSET]}).path == ".a[0]"
    assert refusal(UNSET).code == "UnsupportedValue"


@pytest.mark.parametrize("value", [{1, 2}, object(), 1j, range(3), Exception("no")])
def test_what_is_no_value_is_refused_with_its_path(value: object) -> None:
    error = refusal({"rows": [None, {"x": value}]}, path=".args")
    assert (error.code, error.path) == ("UnsupportedValue", ".args.rows[1].x")
    assert f"`{type(value).__qualname__}`" in error.message


@pytest.mark.parametrize("name", ["$x", "", "a" * 1024])
def test_field_names_follow_the_rules(name: str) -> None:
    if name.startswith("$"):
        assert refusal({"ok": {name: 1.0}}).code == "InvalidFieldName"
    else:
        assert normalize({name: 1.0}) == {name: 1.0}


@pytest.mark.parametrize("name", ["é", "a\n", "\x7f", "\ud800", "a" * 1025, 3, None])
def test_a_bad_field_name_is_refused_at_its_object(name: Any) -> None:
    for _ in range(2):  # the second time past whatever was remembered of the first
        error = refusal({"ok": {"fine": 1.0, name: 1.0}})
        assert (error.code, error.path) == ("InvalidFieldName", ".ok")


def test_limits_on_length_and_depth_hold_to_the_last_one() -> None:
    limits = Limits(array_length_max=2, object_field_count_max=2, value_depth_max=3)
    assert normalize([1.0, 2.0], limits=limits) == [1.0, 2.0]
    assert refusal({"a": [1.0] * 3}, limits=limits).code == "ArrayTooLong"
    assert normalize({"a": 1.0, "b": 1.0}, limits=limits) == {"a": 1.0, "b": 1.0}
    assert refusal(dict.fromkeys("abc"), limits=limits).code == "TooManyFields"
    assert normalize([[{"a": 1.0}]], limits=limits) == [[{"a": 1.0}]]
    error = refusal([[{"a": []}]], limits=limits)
    assert (error.code, error.path) == ("ValueTooDeep", "[0][0].a")


def test_a_cycle_is_too_deep() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    assert refusal(cycle).code == "ValueTooDeep"


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", Ident("\ud800")])
def test_a_lone_surrogate_is_refused(text: str) -> None:
    error = refusal({"body": [text]})
    assert (error.code, error.path) == ("LoneSurrogate", ".body[0]")
    error.message.encode()


def test_an_int64_holds_64_bits_and_looks_like_its_number() -> None:
    assert (Int64(-5), str(Int64(-5)), repr(Int64(7)), f"{Int64(7)}") == (-5, "-5", "Int64(7)", "7")
    assert [Int64(2**63 - 1), Int64(-(2**63))] == [2**63 - 1, -(2**63)]
    for number in (2**63, -(2**63) - 1, 10**5000):
        with pytest.raises(ValidationError) as caught:
            Int64(number)
        assert caught.value.code == "Int64OutOfRange"
    with pytest.raises(TypeError):
        Int64(1.5)  # type: ignore[arg-type]


def test_unset_is_one_object_even_after_copying() -> None:
    assert Unset() is UNSET
    assert copy.deepcopy(UNSET) is UNSET
    assert pickle.loads(pickle.dumps(UNSET)) is UNSET
    assert (repr(UNSET), bool(UNSET)) == ("UNSET", False)


@given(values)
def test_sizes_and_depths_agree_with_the_formula(value: Any) -> None:
    def size(node: Any) -> int:
        if node is None or isinstance(node, bool):
            return 1
        if isinstance(node, (int, float)):
            return 9
        if isinstance(node, (str, bytes)):
            return 2 + len(node.encode() if isinstance(node, str) else node)
        if isinstance(node, list):
            return 2 + sum(map(size, node))
        return 2 + sum(len(key) + 1 + size(item) for key, item in node.items())

    def levels(node: Any) -> int:
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else None
        return 0 if children is None else 1 + max(map(levels, children), default=0)

    assert size_bytes(value) == size(value)
    assert depth(value) == levels(value)


def test_an_id_counts_as_its_text() -> None:
    assert size_bytes({"_id": Ident("é" * 4)}) == 2 + 4 + 2 + 8
    assert math.isclose(size_bytes([1.0, Int64(1), True, None, b"abc"]), 2 + 9 + 9 + 1 + 1 + 5)
