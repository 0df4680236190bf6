"""Are the values of a text counted rightly, before any of them is made?"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactivedb.errors import ValueLimitError
from reactivedb.limits import DEFAULT_LIMITS, Limits
from reactivedb.values import check_shape
from reactivedb.values.shape import measured

STEP_BYTES = 256 * 1024

names = st.text('[,"\\k', max_size=3)
trees: Any = st.recursive(
    st.none() | st.integers(0, 99) | st.text('[]{},"\\x', max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)


def containers_of(tree: Any) -> int:
    if isinstance(tree, dict):
        return 1 + sum(map(containers_of, tree.values()))
    return 1 + sum(map(containers_of, tree)) if isinstance(tree, list) else 0


def refused_for(text: bytes, **limits: int) -> str | None:
    try:
        check_shape(text, Limits(**limits))
    except ValueLimitError as error:
        return f"{error.limit}" if error.code == "TooManyValues" else error.code
    return None


@given(trees)
def test_containers_are_counted_exactly_whatever_strings_hold(tree: Any) -> None:
    count, text = containers_of(tree), json.dumps(tree).encode()
    assert refused_for(text, value_containers_max=count) is None
    if count:
        assert refused_for(text, value_containers_max=count - 1) == "value_containers_max"


def test_a_text_of_nothing_but_structure_is_one_value() -> None:
    text = b'{"a":"' + b"[{,}]," * 500_000 + b'"}'
    check_shape(text, DEFAULT_LIMITS)


@pytest.mark.parametrize("before", [b"", b"x"])
def test_an_escape_across_two_steps_is_one(before: bytes) -> None:
    # The backslash is the last byte of a step, and the quote that it escapes the first of the next.
    start = b'["' + before
    text = start + b"y" * (STEP_BYTES - len(start) - 1) + b'\\"' + b"[" * 100 + b'"]'
    assert refused_for(text, value_containers_max=1) is None
    text = start + b"y" * (STEP_BYTES - len(start) - 2) + b'\\\\",' + b"[" * 100 + b"]" * 101
    assert refused_for(text, value_containers_max=1) == "value_containers_max"


def test_sixteen_mebibytes_of_numbers_are_within_the_budget_and_of_empty_lists_are_not() -> None:
    numbers = 16 * 1024 * 1024 // 9
    assert refused_for(b"[" + b"1," * numbers + b"1]") is None
    assert refused_for(b"[" + b"1," * (2 * 1024 * 1024) + b"1]") == "value_nodes_max"
    assert refused_for(b"[" + b"[]," * 65_536 + b"[]]") == "value_containers_max"


def test_counting_ends_as_soon_as_it_is_too_much() -> None:
    text = b"[" + b"[]," * 5_000_000 + b"[]]"
    steps = measured(text, DEFAULT_LIMITS)
    # One count of all of it in C; then the first step without its strings is over.
    assert sum(1 for _ in zip(range(len(text) // STEP_BYTES + 1), steps, strict=False)) > 50
    with pytest.raises(ValueLimitError, match="65536 arrays"):
        next(steps)


def test_a_small_text_is_not_counted_at_all() -> None:
    assert list(measured(b"[" * 65_536, DEFAULT_LIMITS)) == []
