"""Is what is quoted as it is, as far as it goes, and never long or dear?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import reactivedb as rdb
from reactivedb.errors import ValidationError
from reactivedb.functions import CallError
from reactivedb.limits import DEFAULT_LIMITS, ERROR_TEXT_LENGTH_MAX, MIB
from reactivedb.text import CUT_MARK, beginning, cut, quoted

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
trees = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@pytest.mark.slow
@given(trees, st.integers(0, 100))
def test_a_beginning_is_that_of_the_whole_and_reaches_past_the_bound(value: Any, length_max: int) -> None:
    whole, got = ascii(value), beginning(value, length_max)
    if len(whole) <= length_max:
        assert got == whole
    else:
        assert len(got) > length_max
        # Which quotation marks a text gets depends on all of it.
        assert got[:length_max].replace('"', "'") == whole[:length_max].replace('"', "'") or "'" in whole


def test_a_beginning_costs_what_it_shows() -> None:
    looked_at = 0

    class Item:
        def __repr__(self) -> str:
            nonlocal looked_at
            looked_at += 1
            return "item"

    assert beginning([Item() for _ in range(1_000)], 40).startswith("[item, item")
    assert looked_at < 20
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert beginning(deep, 80)[:80] == "[" * 80


def test_a_text_is_quoted_without_marks_and_other_things_as_python_writes_them() -> None:
    assert quoted("abc", 2) == "ab"
    assert quoted(None, 10) == "None"
    assert quoted({"a": [1, "b"]}, 8) == "{'a': [1"
    assert quoted(10**5_000, 100) == "an integer of 16610 bits"


def test_a_cut_text_says_so() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "abc" + CUT_MARK


def test_the_texts_of_an_error_are_cut_but_for_what_the_application_says_itself() -> None:
    text = "x" * MIB
    length_max = ERROR_TEXT_LENGTH_MAX + len(CUT_MARK)
    error = ValidationError(text, path=text, got=text)
    for kept in (str(error), error.path, error.args[0], *error.fields.values()):
        assert len(kept) == length_max
    told = rdb.ApplicationError(text)
    assert (str(told), told.data) == (text, text)
    # On the wire and in the log the data is whole, and what is said of it is not.
    assert len(CallError(told.wire_text).message) == DEFAULT_LIMITS.log_line_length_max + len(CUT_MARK)
