"""Is JSON lossless, canonical, and strict about what it takes?"""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_values import exact, floats, values

from reactivedb.errors import ValidationError
from reactivedb.limits import Limits
from reactivedb.values import (
    Int64,
    MalformedJson,
    decode,
    dumps,
    encode,
    encode_plain,
    from_jsonable,
    loads,
    to_jsonable,
)


class Ident(str):
    __slots__ = ()


def refusal(call: Any, *args: Any, **options: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        call(*args, **options)
    return caught.value


def naive_tree(value: Any) -> Any:
    """The lossless tree by the table of section a.2."""
    if isinstance(value, Int64):
        return {"$integer": base64.b64encode(struct.pack("<q", value)).decode()}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, float):
        if not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0):
            return {"$float": base64.b64encode(struct.pack("<d", value)).decode()}
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, list):
        return [naive_tree(item) for item in value]
    if isinstance(value, dict):
        return {key: naive_tree(item) for key, item in value.items()}
    return value


@given(values)
def test_every_way_back_gives_the_same_value_to_the_last_bit(value: Any) -> None:
    text = encode(value)
    assert exact(decode(text)) == exact(value)
    assert exact(decode(text.decode())) == exact(value)
    assert exact(from_jsonable(loads(text))) == exact(value)
    assert exact(from_jsonable(to_jsonable(value))) == exact(value)
    assert encode(decode(text)) == text


@given(values)
def test_the_tree_is_the_one_of_the_table(value: Any) -> None:
    assert exact(to_jsonable(value)) == exact(naive_tree(value))
    assert exact(json.loads(encode(value))) == exact(naive_tree(value))


@given(values)
def test_writing_changes_nothing_in_the_value(value: Any) -> None:
    before = exact(value)
    tree = to_jsonable(value)
    tree_before = exact(tree)
    encode(value)
    encode_plain(value)
    from_jsonable(tree)
    assert exact(value) == before
    assert exact(tree) == tree_before


@given(floats)
def test_a_number_reads_back_the_same_and_integral_ones_have_no_fraction(number: float) -> None:
    text = encode(number)
    assert exact(decode(text)) == exact(number)
    if number.is_integer() and abs(number) < 2**53 and math.copysign(1, number or 1) > 0:
        assert b"." not in text
        assert b"e" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Int64(-5), '{"$integer":"+/////////8="}'),
        (Int64(42), '{"$integer":"KgAAAAAAAAA="}'),
        (Int64(2**63 - 1), '{"$integer":"/////////38="}'),
        (Int64(-(2**63)), '{"$integer":"AAAAAAAAAIA="}'),
        (math.nan, '{"$float":"AAAAAAAA+H8="}'),
        (math.inf, '{"$float":"AAAAAAAA8H8="}'),
        (-math.inf, '{"$float":"AAAAAAAA8P8="}'),
        (-0.0, '{"$float":"AAAAAAAAAIA="}'),
        (b"\x00\xff\x10", '{"$bytes":"AP8Q"}'),
        (3.0, "3"),
        (0.0, "0"),
        (-2.0, "-2"),
        (2.0**53 - 1, "9007199254740991"),
        (2.0**53, "9007199254740992.0"),
        (1e300, "1e300"),
        (0.1, "0.1"),
        ({"b": 1.0, "a": [None, True, "é"]}, '{"b":1,"a":[null,true,"é"]}'),
    ],
)
def test_the_vectors_of_the_specification_hold(value: Any, text: str) -> None:
    assert encode(value).decode() == text
    assert exact(decode(text)) == exact(value)


def test_an_ordinary_number_in_float_form_is_taken() -> None:
    assert decode('{"$float":"AAAAAAAA+D8="}') == 1.5
    assert exact(decode("[3, 3.0, 1E2, -7]")) == exact([3.0, 3.0, 100.0, -7.0])
    assert exact(decode("123456789012345678901234567890")) == exact(1.2345678901234568e29)


def test_a_subclass_of_str_is_written_as_its_text() -> None:
    document: Any = {"_id": Ident("abc"), "list": [Ident("d")]}
    assert encode(document) == b'{"_id":"abc","list":["d"]}'
    assert encode_plain(document) == encode(document)
    assert dumps(document) == encode(document)
    assert encode(Ident("é")) == '"é"'.encode()


def test_ready_made_json_is_spliced_in_verbatim() -> None:
    piece: Any = msgspec.Raw(b'{ "x" : {"$integer":"KgAAAAAAAAA="} }')
    assert encode([piece, 1.0]) == b'[{ "x" : {"$integer":"KgAAAAAAAAA="} },1]'
    assert dumps({"value": piece}) == b'{"value":{ "x" : {"$integer":"KgAAAAAAAAA="} }}'
    assert encode_plain([piece]) == b'[{"x":"42"}]'


def test_the_lossy_form_follows_the_table() -> None:
    value: Any = [Int64(-5), math.nan, math.inf, -math.inf, -0.0, 3.0, 0.5, b"\x00\xff\x10", {"a": None}]
    assert encode_plain(value) == b'["-5","NaN","Infinity","-Infinity",0,3,0.5,"AP8Q",{"a":null}]'


@pytest.mark.parametrize(
    ("text", "code", "path"),
    [
        ('{"a":[{"$set":[]}]}', "UnknownSpecialObject", ".a[0]"),
        ('{"a":{"$undefined":null}}', "UnknownSpecialObject", ".a"),
        ('{"a":{"\\u0024set":[]}}', "UnknownSpecialObject", ".a"),
        ('{"a":{"$bytes":"AP8Q","b":1}}', "InvalidFieldName", ".a"),
        ('{"$integer":"AAAA"}', "InvalidSpecialObject", ".$integer"),
        ('{"$float":1.5}', "InvalidSpecialObject", ".$float"),
        ('[{"$bytes":"AP8"}]', "InvalidSpecialObject", "[0].$bytes"),
        ('[{"$bytes":"AP 8Q"}]', "InvalidSpecialObject", "[0].$bytes"),
        ('[{"$bytes":"\u00e9"}]', "InvalidSpecialObject", "[0].$bytes"),
    ],
)
def test_a_bad_special_object_is_refused_with_its_path(text: str, code: str, path: str) -> None:
    for error in (refusal(decode, text), refusal(from_jsonable, loads(text))):
        assert (error.code, error.path) == (code, path)


def test_a_dollar_in_text_is_only_text() -> None:
    for text in ('{"a":"$set"}', '["\\"$set\\":"]', '"\\u0024x"'):
        assert decode(text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    ["", "{", "nul", "NaN", "[Infinity]", "-Infinity", "1 2", '"\x01"', "1e400", "[1,]", "'a'", "\ufeff1",
     '{"a"}', '["\\ud800", NaN]', '["\\ud800", 1e400]', '["\\ud800"', "9" * 5000, "[" * 200_000, b'"\xff"',
     b'"\xed\xa0\x80"'],
)  # fmt: skip
def test_text_that_is_no_json_is_malformed(text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    assert refusal(loads, data).code == "MalformedJson"
    assert isinstance(refusal(decode, data), MalformedJson)
    if isinstance(text, str):
        assert refusal(loads, text).code == "MalformedJson"


def test_a_lone_surrogate_is_parsed_and_then_refused_as_a_value() -> None:
    tree = loads(b'{"requestId":7,"args":[{"body":"\\ud83d"}]}')
    assert tree == {"requestId": 7, "args": [{"body": "\ud83d"}]}
    error = refusal(from_jsonable, tree["args"], path=".args")
    assert (error.code, error.path) == ("LoneSurrogate", ".args[0].body")
    assert refusal(decode, '["\\udfff"]').code == "LoneSurrogate"
    assert loads('"\ud800"') == "\ud800"
    assert loads(b'"\\ud83d\\ude00"') == "\U0001f600"


def test_a_lone_surrogate_cannot_be_written() -> None:
    for value, path in (({"a": ["x", "\ud800"]}, ".a[1]"), ({"a": Ident("\ud800")}, ".a"), ("\ud800", "")):
        error = refusal(encode, value)
        assert (error.code, error.path) == ("LoneSurrogate", path)
    assert refusal(dumps, ["\ud800"]).code == "LoneSurrogate"


def test_what_comes_in_is_held_to_the_limits() -> None:
    limits = Limits(array_length_max=2, object_field_count_max=2, value_depth_max=2)
    assert from_jsonable({"a": [1, 2]}, limits=limits) == {"a": [1.0, 2.0]}
    assert refusal(from_jsonable, {"a": [1, 2, 3]}, limits=limits).code == "ArrayTooLong"
    assert refusal(from_jsonable, {"a": 1, "b": 1, "c": 1}, limits=limits).code == "TooManyFields"
    assert refusal(from_jsonable, {"a": [[]]}, limits=limits).path == ".a[0]"
    assert refusal(from_jsonable, {"a": {"é": 1}}).code == "InvalidFieldName"
    assert refusal(from_jsonable, [10**400]).code == "NumberOutOfRange"


def test_text_of_our_own_is_read_whatever_the_limits_were() -> None:
    deep: Any = Int64(1)
    for _ in range(80):
        deep = [deep]
    assert decode(encode(deep)) == deep
    long: Any = [1.0] * 10_000
    assert decode(encode([long, b"x"])) == [long, b"x"]


def test_endless_nesting_is_an_error_and_not_a_crash() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    assert refusal(encode, cycle).code == "ValueTooDeep"
    assert refusal(encode_plain, cycle).code == "ValueTooDeep"


@given(st.lists(st.none() | st.floats() | st.text("ab"), max_size=4))
def test_envelopes_refuse_the_numbers_that_json_has_no_word_for(items: list[Any]) -> None:
    tree = {"outer": [items]}
    if all(math.isfinite(item) for item in items if isinstance(item, float)):
        assert json.loads(dumps(tree)) == tree
    else:
        assert refusal(dumps, tree).code == "NumberNotFinite"


def test_envelopes_refuse_what_is_not_plain_json() -> None:
    assert refusal(dumps, [Int64(1)]).code == "UnsupportedValue"
    assert refusal(encode, [object()]).code == "UnsupportedValue"
    assert refusal(from_jsonable, [b"x"]).code == "UnsupportedValue"
