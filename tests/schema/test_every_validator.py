"""For each kind of validator: what does it take, refuse, export and print, from `v` and from an annotation?

The same table drives arguments (`parse`), documents of a table of dicts (`dump`) and the two descriptions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from reactivedb.errors import SchemaError, ValidationError
from reactivedb.schema import Document, Id, Table, Validator, v, validator_for
from reactivedb.values import Int64, Value, encode_id

ID = encode_id(10_001, b"c" * 16)


class Room(Document, table="table_rooms"):
    name: str


class Size(TypedDict):
    width: float
    height: NotRequired[float]


class Int64Flag(Int64, Enum):
    ON = 1


class Circle(TypedDict):
    kind: Literal["circle"]
    radius: float


class Square(TypedDict):
    kind: Literal["square", "box"]
    side: float


@dataclass(frozen=True)
class Row:
    validator: Validator
    annotation: Any
    export: dict[str, Any]
    text: str
    accepts: list[Any]
    # What is refused, and where in it.
    refuses: list[tuple[Any, str]] = field(default_factory=list[tuple[Any, str]])

    def __str__(self) -> str:
        return self.text


CIRCLE = v.object({"kind": v.literal("circle"), "radius": v.number()})
SQUARE = v.object({"kind": v.union(v.literal("square"), v.literal("box")), "side": v.number()})

ROWS = [
    Row(v.null(), None, {"type": "null"}, "v.null()", [None], [(0.0, ""), (False, ""), ("", "")]),
    Row(
        v.number(),
        float,
        {"type": "number"},
        "v.number()",
        [0.0, -0.0, 1.5, float("inf"), 2.0**60],
        [(True, ""), (Int64(1), ""), ("1", ""), (None, "")],
    ),
    Row(
        v.int64(),
        Int64,
        {"type": "bigint"},
        "v.int64()",
        [Int64(0), Int64(2**63 - 1), Int64(-(2**63))],
        [(1.0, ""), (True, ""), ("1", "")],
    ),
    Row(v.boolean(), bool, {"type": "boolean"}, "v.boolean()", [True, False], [(1.0, ""), (None, "")]),
    Row(v.string(), str, {"type": "string"}, "v.string()", ["", "ä\U0001f600"], [(1.0, ""), (b"", "")]),
    Row(v.bytes(), bytes, {"type": "bytes"}, "v.bytes()", [b"", b"\x00\xff"], [("", ""), ([], "")]),
    Row(v.any(), Value, {"type": "any"}, "v.any()", [None, 1.0, Int64(1), "a", [{"a": [None]}], b""]),
    Row(
        v.literal("a"),
        Literal["a"],
        {"type": "literal", "value": "a"},
        'v.literal("a")',
        ["a"],
        [("b", ""), (None, ""), (["a"], "")],
    ),
    Row(
        v.literal(1),
        Literal[1],
        {"type": "literal", "value": 1},
        "v.literal(1)",
        [1.0],
        [(True, ""), (Int64(1), ""), (2.0, "")],
    ),
    Row(
        v.literal(Int64(1)),
        Int64Flag,
        {"type": "literal", "value": {"$integer": "AQAAAAAAAAA="}},
        "v.literal(Int64(1))",
        [Int64(1)],
        [(1.0, ""), (True, ""), (Int64(2), "")],
    ),
    Row(
        v.literal('a"\\\n'),
        Literal['a"\\\n'],
        {"type": "literal", "value": 'a"\\\n'},
        """v.literal('a"\\\\\\n')""",
        ['a"\\\n'],
        [("a", "")],
    ),
    Row(
        v.literal(True),
        Literal[True],
        {"type": "literal", "value": True},
        "v.literal(True)",
        [True],
        [(1.0, ""), (False, "")],
    ),
    Row(
        v.id("table_rooms"),
        Id[Room],
        {"type": "id", "tableName": "table_rooms"},
        'v.id("table_rooms")',
        [ID],
        [("", ""), (ID.upper(), ""), (1.0, "")],
    ),
    Row(
        v.array(v.number()),
        list[float],
        {"type": "array", "value": {"type": "number"}},
        "v.array(v.number())",
        [[], [1.0, 2.0]],
        [([1.0, "x"], "[1]"), ({}, ""), (None, "")],
    ),
    Row(
        v.record(v.string(), v.array(v.boolean())),
        dict[str, list[bool]],
        {
            "type": "record",
            "keys": {"type": "string"},
            "values": {"fieldType": {"type": "array", "value": {"type": "boolean"}}, "optional": False},
        },
        "v.record(v.string(), v.array(v.boolean()))",
        [{}, {"a b": [True]}],
        [({"x": [True, 1.0]}, ".x[1]"), ([], "")],
    ),
    Row(
        v.record(v.id("table_rooms"), v.number()),
        dict[Id[Room], float],
        {
            "type": "record",
            "keys": {"type": "id", "tableName": "table_rooms"},
            "values": {"fieldType": {"type": "number"}, "optional": False},
        },
        'v.record(v.id("table_rooms"), v.number())',
        [{ID: 1.0}],
        [({"x": 1.0}, ".x")],
    ),
    Row(
        v.object({"width": v.number(), "height": v.optional(v.number())}),
        Size,
        {
            "type": "object",
            "value": {
                "width": {"fieldType": {"type": "number"}, "optional": False},
                "height": {"fieldType": {"type": "number"}, "optional": True},
            },
        },
        'v.object({"width": v.number(), "height": v.optional(v.number())})',
        [{"width": 1.0}, {"width": 1.0, "height": 2.0}],
        [
            ({}, ".width"),
            ({"width": 1.0, "height": None}, ".height"),
            ({"width": 1.0, "depth": 1.0}, ".depth"),
            ([], ""),
        ],
    ),
    Row(
        v.union(v.string(), v.number(), v.null()),
        str | float | None,
        {"type": "union", "value": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
        "v.union(v.string(), v.number(), v.null())",
        ["", 1.0, None],
        [(True, ""), ([], "")],
    ),
    Row(
        v.union(v.array(v.string()), v.array(v.number())),
        list[str] | list[float],
        {
            "type": "union",
            "value": [
                {"type": "array", "value": {"type": "string"}},
                {"type": "array", "value": {"type": "number"}},
            ],
        },
        "v.union(v.array(v.string()), v.array(v.number()))",
        [[], ["a"], [1.0]],
        [(["a", 1.0], "")],
    ),
    Row(
        v.union(CIRCLE, SQUARE),
        Circle | Square,
        {"type": "union", "value": [CIRCLE.export(), SQUARE.export()]},
        f"v.union({CIRCLE}, {SQUARE})",
        [{"kind": "circle", "radius": 1.0}, {"kind": "box", "side": 1.0}],
        [
            ({"kind": "circle"}, ".radius"),
            ({"kind": "circle", "radius": 1.0, "side": 1.0}, ".side"),
            ({"kind": "square", "side": "1"}, ".side"),
            ({"kind": "line"}, ".kind"),
            ({"kind": []}, ".kind"),
            ({"radius": 1.0}, ".kind"),
        ],
    ),
]


@pytest.fixture(params=ROWS, ids=str)
def row(request: pytest.FixtureRequest) -> Row:
    return request.param


@pytest.fixture(params=["v", "annotation"])
def validator(row: Row, request: pytest.FixtureRequest) -> Validator:
    return row.validator if request.param == "v" else validator_for(row.annotation)


def test_it_exports_convexs_validator_json(row: Row, validator: Validator) -> None:
    assert validator.export() == row.export


def test_it_prints_the_call_that_makes_it(row: Row, validator: Validator) -> None:
    assert str(validator) == row.text
    made = eval(row.text, {"v": v, "Int64": Int64})
    assert (made.export(), str(made)) == (row.export, row.text)


def test_what_it_accepts_comes_back_the_same(row: Row, validator: Validator) -> None:
    for value in row.accepts:
        parsed = validator.parse(value)
        dumped = validator.dump(parsed)
        assert (dumped, type(dumped)) == (value, type(value))
        loaded = value if validator.load is None else validator.load(value)
        assert loaded == parsed


def test_what_it_refuses_is_refused_both_ways_at_its_path(row: Row, validator: Validator) -> None:
    for value, path in row.refuses:
        for check in (validator.parse, validator.dump):
            with pytest.raises(ValidationError) as caught:
                check(value)
            assert caught.value.path == path, (value, caught.value)
            assert {"expected", "got", "reason"} <= caught.value.fields.keys()


def test_a_table_of_dicts_holds_to_it_on_insert_patch_and_replace(row: Row) -> None:
    definition = Table("rows", v.object({"x": row.validator, "y": v.optional(row.validator)})).definition
    good = row.accepts[0]
    for value in row.accepts:
        assert definition.dump({"x": value}) == {"x": value}
        assert definition.dump_patch({"x": good}, {"y": value}) == {"x": good, "y": value}
    for value, path in row.refuses:
        for write in (
            lambda wrong: definition.dump({"x": good, "y": wrong}),
            lambda wrong: definition.dump_patch({"x": good}, {"y": wrong}),
        ):
            with pytest.raises(ValidationError) as caught:
                write(value)
            assert caught.value.path == f".y{path}"


def test_the_error_of_a_branch_names_it() -> None:
    shape = v.union(CIRCLE, SQUARE)
    with pytest.raises(ValidationError) as caught:
        shape.parse({"kind": "box", "side": "wide"})
    assert caught.value.fields["branch"] == "kind: 'box'"
    assert caught.value.message == "expected `v.number()` at `.side`, got `'wide'` (branch `kind: 'box'`)"
    with pytest.raises(ValidationError) as caught:
        shape.parse({"kind": "line"})
    assert caught.value.message == "expected `'circle' | 'square' | 'box'` at `.kind`, got `'line'`"


def test_objects_are_derived_and_keep_their_nature() -> None:
    base = v.object({"kind": v.literal("circle"), "radius": v.number(), "note": v.optional(v.string())})
    rows: list[tuple[Validator, str]] = [
        (base.pick("radius"), 'v.object({"radius": v.number()})'),
        (
            base.omit("kind").extend({"radius": v.optional(v.number())}),
            'v.object({"note": v.optional(v.string()), "radius": v.optional(v.number())})',
        ),
        (
            base.pick("radius", "note").partial(),
            'v.object({"radius": v.optional(v.number()), "note": v.optional(v.string())})',
        ),
        (
            v.union(base.omit("note"), SQUARE),
            f'v.union(v.object({{"kind": v.literal("circle"), "radius": v.number()}}), {SQUARE})',
        ),
    ]
    for validator, text in rows:
        assert str(validator) == text
    assert base.partial().parse({}) == {}
    assert str(base) == str(base.extend({}))
    for wrong in (lambda: base.pick("x"), lambda: base.omit("x")):
        with pytest.raises(SchemaError) as caught:
            wrong()
        assert caught.value.code == "UnknownField"


@pytest.mark.parametrize(
    ("declare", "code"),
    [
        (lambda: v.array(v.optional(v.string())), "NotAValidator"),
        (lambda: v.union(v.optional(v.string()), v.null()), "NotAValidator"),
        (lambda: v.record(v.string(), v.optional(v.number())), "NotAValidator"),
        (lambda: v.optional(v.optional(v.string())), "NotAValidator"),
        (lambda: v.array(str), "NotAValidator"),
        (lambda: v.object({"name": str}), "NotAValidator"),
        (lambda: v.object({}).extend({"name": "string"}), "NotAValidator"),
        (lambda: v.id(Table("notes")), "NotATable"),
        (lambda: v.id("no table"), "InvalidIdentifier"),
        (lambda: v.literal(2**53 + 1), "NumberNotExact"),
        (lambda: v.literal("\ud800"), "LoneSurrogate"),
        (lambda: Table("notes", v.string()), "NotAnObject"),
        (lambda: Table("notes", v.union(v.object({}), v.null())), "NotAnObject"),
        (lambda: Table("notes", v.optional(v.object({}))), "NotAValidator"),
        (lambda: Table("notes", v.object({"_id": v.id("notes")})), "ReservedName"),
        (lambda: Table("notes", v.object({"_private": v.string()})), "InvalidFieldName"),
        (lambda: Table("notes", v.object({"two words": v.string()})), "InvalidFieldName"),
        (lambda: Table("notes", v.object({"x" * 65: v.string()})), "InvalidFieldName"),
    ],
)
def test_what_no_value_or_document_fits_is_refused_where_it_is_declared(
    declare: Callable[[], object], code: str
) -> None:
    with pytest.raises(SchemaError) as caught:
        declare()
    assert caught.value.code == code


def test_the_documents_of_a_dict_table_may_be_a_union_a_record_or_anything() -> None:
    for validator in (v.union(CIRCLE, SQUARE), v.record(v.string(), v.number()), v.any()):
        assert Table("notes", validator).validator is validator


def nested(levels: int, inner: Any = 1.0) -> Any:
    for _ in range(levels):
        inner = [inner]
    return inner


@dataclass(frozen=True)
class Leaf:
    x: float = 1.0


@pytest.mark.parametrize(
    ("annotation", "wrap"),
    [
        (Any, lambda value: value),
        (dict[str, Any], lambda value: {"a": value[0]}),
        (list[dict[str, Any]], lambda value: [{"a": value[0][0]}]),
    ],
)
@pytest.mark.parametrize("inner", [1.0, None, Leaf()])
def test_depth_is_counted_from_the_outside_whatever_is_said_of_the_outer_levels(
    annotation: Any, wrap: Callable[[Any], Any], inner: Any
) -> None:
    own = isinstance(inner, Leaf)
    validator = validator_for(annotation)
    validator.dump(wrap(nested(64 - own, inner)))
    if not own:
        with pytest.raises(ValidationError) as caught:
            validator.dump(wrap(nested(65, inner)))
        assert caught.value.code == "ValueTooDeep"


def test_a_value_within_itself_is_too_deep() -> None:
    mine: dict[str, Any] = {"name": "a"}
    mine["children"] = [{"parent": mine, "other": mine}, {"parent": mine}]
    for annotation in (Any, dict[str, Any]):
        with pytest.raises(ValidationError) as caught:
            validator_for(annotation).dump(mine)
        assert caught.value.code == "ValueTooDeep"
    with pytest.raises(ValidationError) as caught:
        validator_for(Any).dump(nested(100_000))
    assert caught.value.code == "ValueTooDeep"


def test_a_long_list_of_objects_is_as_long_as_any_other() -> None:
    with pytest.raises(ValidationError) as caught:
        validator_for(Any).dump([Leaf()] * 8_193)
    assert caught.value.code == "ArrayTooLong"
    assert len(validator_for(Any).dump([Leaf()] * 8_192)) == 8_192
