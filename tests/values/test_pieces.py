"""Does reading in pieces give what reading at once gives?"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_values import exact, values

from reactivedb.errors import ValidationError
from reactivedb.limits import DEFAULT_LIMITS, Limits
from reactivedb.values import (
    Int64,
    Steps,
    decode,
    encode,
    encode_plain,
    from_jsonable,
    loads,
    pieces,
    read_value,
    rewrite,
)


def run(steps: Steps) -> tuple[Any, int]:
    """What the steps come to, and how many there were."""
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, count
        count += 1


def outcome(read: Any) -> Any:
    try:
        return exact(read())
    except ValidationError as error:
        return error.code, error.message


@pytest.fixture(scope="module", autouse=True)
def _tiny_steps() -> Any:
    """Even small values are read in many steps here."""
    kept = pieces._STEP_BYTES, pieces._TINY_BYTES, pieces._STEP_BYTES_MAX
    pieces._STEP_BYTES, pieces._TINY_BYTES, pieces._STEP_BYTES_MAX = 4, 6, 0
    yield
    pieces._STEP_BYTES, pieces._TINY_BYTES, pieces._STEP_BYTES_MAX = kept


@given(values)
def test_a_value_read_in_pieces_is_the_same(value: Any) -> None:
    text = encode(value)
    assert exact(run(read_value(text, DEFAULT_LIMITS))[0]) == exact(decode(text))


@given(values)
def test_a_value_written_anew_in_pieces_is_the_same(value: Any) -> None:
    text = encode(value)
    plain = run(rewrite(text, lambda piece: encode_plain(decode(piece))))[0]
    assert loads(plain) == loads(encode_plain(value))


@pytest.mark.parametrize(
    "tree",
    [
        {"a": [1, {"b": {"$integer": "AAAA"}}]},
        {"a": [1, 2, [3, {"$what": "is this thing"}]]},
        {"a": {"bc": {"de": {"fg": [[1, 2, 3], [4, 5, 6]]}}}},
        {"a": [1, 2, 3, 4, 5, 6, 7]},
        {"a": {f"k{n}": n for n in range(6)}},
        {"a": {"b\u00e9": 1, "cc": 2}},
        {"a": [10**400, 1, 2, 3]},
        {"$bytes": "no base64 at all"},
    ],
)
def test_what_is_wrong_is_refused_in_the_same_words(tree: Any) -> None:
    limits = Limits(value_depth_max=5, array_length_max=6, object_field_count_max=5)
    text = json.dumps(tree, separators=(",", ":"))
    assert outcome(lambda: run(read_value(text.encode(), limits))[0]) == outcome(
        lambda: from_jsonable(loads(text), limits=limits)
    )


@given(st.integers(2, 60))
def test_no_step_reads_more_than_a_few_elements(count: int) -> None:
    text = json.dumps([[number, "a text"] for number in range(count)], separators=(",", ":")).encode()
    assert run(read_value(text, DEFAULT_LIMITS))[1] >= count


@pytest.mark.parametrize(
    ("elements", "kept"),
    [
        ([1.5] * 20, True),
        (["x"] * 20, True),
        ([1.0] * 20, False),
        ([float("nan")] + [1.5] * 20, False),
        ([-0.0] + [1.5] * 20, False),
        ([Int64(1)] * 20, False),
        (["\u00e9"] * 20, True),
        ([True] * 20, True),
    ],
)
def test_long_arrays_of_one_kind_keep_their_values(elements: list[Any], kept: bool) -> None:
    text = encode(elements)
    assert exact(from_jsonable(loads(text))) == exact(elements)
    assert (loads(text) == elements) or not kept
