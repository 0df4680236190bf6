"""Does what is counted for a decoded value cover what it takes?"""

from __future__ import annotations

import gc
import json
import tracemalloc
from typing import Any

import pytest

from reactivedb.values import decode, decoded_size_bytes

SHAPES: dict[str, Any] = {
    "empty lists": [[] for _ in range(2000)],
    "lists in lists": [[[[]]] for _ in range(1000)],
    "empty objects": [{} for _ in range(2000)],
    "numbers": [number / 7 for number in range(2000)],
    "letters": ["a" for _ in range(2000)],
    "words": [f"word {number}" for number in range(2000)],
    "one long text": "x" * 50_000,
    "wide characters": "雪" * 20_000,
    "the widest character among narrow ones": "😀" + "x" * 50_000,
    "records": [{"n": number, "name": f"name {number}", "on": True} for number in range(1000)],
    "objects of one field": [{"a": 1} for _ in range(1000)],
    "names that never come twice": [{f"k{number}": 1} for number in range(1000)],
    "one wide object": {f"field{number}": [] for number in range(1000)},
}


def taken_bytes(text: bytes) -> int:
    gc.collect()
    tracemalloc.start()
    value = decode(text)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert value is not None
    return taken + len(text)


@pytest.mark.parametrize("escaped", [False, True], ids=["as it is", "escaped"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_counted_is_hardly_less_and_not_much_more(shape: str, escaped: bool) -> None:
    text = json.dumps(SHAPES[shape], separators=(",", ":"), ensure_ascii=escaped).encode()
    taken = taken_bytes(text)
    assert 0.85 * taken < decoded_size_bytes(text) < 4 * taken


def test_text_and_bytes_count_alike() -> None:
    text = json.dumps(SHAPES["records"], ensure_ascii=False) + "雪\udc00"
    assert decoded_size_bytes(text) == decoded_size_bytes(text.encode("utf-8", "surrogatepass"))
