"""Are document ids the ones of the specification, and is there only one text for each?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactivedb.errors import ValidationError
from reactivedb.values import decode_id, encode_id

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
table_numbers = st.integers(1, 2**32 - 1) | st.sampled_from(
    [1, 127, 128, 16383, 16384, 2**21, 2**28, 2**32 - 1]
)
randoms = st.binary(min_size=16, max_size=16)


def is_id(text: str) -> bool:
    try:
        decoded = decode_id(text)
    except ValidationError as error:
        if error.code != "InvalidId":
            raise
        return False
    assert encode_id(*decoded) == text
    return True


@pytest.mark.parametrize(
    ("table_number", "random_hex", "text"),
    [
        (1, "00" * 16, "0400000000000000000000000000248"),
        (10001, bytes(range(16)).hex(), "j57000820c20a1g7104gm2rc1m70ynr8"),
        (10001, "ff" * 16, "j57fzzzzzzzzzzzzzzzzzzzzzzzzzkyr"),
        (16383, "ab" * 16, "zxztqaxbnentqaxbnentqaxbnentpbhn"),
        (16384, bytes(range(16)).hex(), "g2002001081g81860w40j2gb1g6gw3vs74"),
        (2**32 - 1, "01" * 16, "zzzzzzrf040g2081040g2081040g208104dkj"),
    ],
)
def test_the_vectors_of_the_specification_hold(table_number: int, random_hex: str, text: str) -> None:
    assert encode_id(table_number, bytes.fromhex(random_hex)) == text
    assert decode_id(text) == (table_number, bytes.fromhex(random_hex))


@given(table_numbers, randoms)
def test_an_id_gives_its_parts_back(table_number: int, random_bytes: bytes) -> None:
    text = encode_id(table_number, random_bytes)
    assert decode_id(text) == (table_number, random_bytes)
    assert 31 <= len(text) <= 37
    assert set(text) <= set(ALPHABET)


@given(table_numbers, randoms, st.integers(0, 36), st.sampled_from(ALPHABET))
def test_one_changed_character_makes_another_id_or_none(
    table_number: int, random_bytes: bytes, position: int, character: str
) -> None:
    text = encode_id(table_number, random_bytes)
    changed = text[:position] + character + text[position + 1 :]
    assert is_id(changed) == (changed == text) or decode_id(changed) != decode_id(text)


GOOD = "j57000820c20a1g7104gm2rc1m70ynr8"


@pytest.mark.parametrize(
    "text",
    ["", "x", GOOD.upper(), GOOD + "0", GOOD[:-1], GOOD[:-1] + "9", GOOD.replace("1", "l"),
     GOOD.replace("0", "o"), "_" + GOOD[1:], GOOD[:4] + "_" + GOOD[5:], " " + GOOD[:-1],
     GOOD[:-1] + "\n", "+" + GOOD[1:], "é" + GOOD[1:],
     "0" * 31, "0" * 32, "z" * 37, "0" * 33, "0" * 36, "\ud800" * 32, "٣" * 32],
)  # fmt: skip
def test_a_text_that_is_no_id_is_refused(text: str) -> None:
    assert not is_id(text)


@given(st.text(ALPHABET, min_size=30, max_size=38))
def test_any_text_is_refused_or_is_the_only_text_of_its_id(text: str) -> None:
    is_id(text)


def test_a_table_number_written_in_more_bytes_than_needed_is_refused() -> None:
    body = bytes([0x81, 0x00]) + bytes(16)  # table 1 in two bytes
    a = b = 0
    for byte in body:
        a = (a + byte) % 256
        b = (b + a) % 256
    number = int.from_bytes(body + bytes([a, b]), "big")
    assert not is_id("".join(ALPHABET[(number >> shift) & 31] for shift in range(155, -5, -5)))


@pytest.mark.parametrize("other", [None, 5, b"x" * 32, ["x"], {"_id": "x"}])
def test_what_is_no_text_is_no_id(other: Any) -> None:
    assert not is_id(other)
