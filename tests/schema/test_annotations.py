"""Which validator does each annotation become, and what does it say of itself?"""

from __future__ import annotations

import datetime
import decimal
import typing
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NotRequired, TypedDict, TypeVar

import pydantic
import pytest

from reactivedb.errors import SchemaError, ValidationError
from reactivedb.schema import Document, Id, Model, v, validator_for
from reactivedb.values import UNSET, Int64, Unset, Value

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(int, Enum):
    LOW = 1
    HIGH = 2


class Channel(Document, table="annotated_channels"):
    display_name: str


class Author(Model):
    display_name: str
    avatar_url: str | None = None


class Plain(pydantic.BaseModel):
    first_name: str
    last_name: str = pydantic.Field(alias="familyName")


@dataclass(frozen=True)
class Point:
    x_axis: int
    y_axis: float = 0.0
    label: str | None = None


class Options(TypedDict):
    page_size: int
    after_id: NotRequired[str | None]


class Page(Model, Generic[T]):
    items: list[T]
    is_done: bool


@dataclass
class Pair(Generic[T]):
    first: T
    rest: list[T]


class Text(Model):
    kind: Literal["text"]
    body: str


class Image(Model):
    kind: Literal["image"] = "image"
    width: int


SCALARS = [
    (None, "v.null()"),
    (bool, "v.boolean()"),
    (int, "v.number()"),
    (float, "v.number()"),
    (str, "v.string()"),
    (bytes, "v.bytes()"),
    (Int64, "v.int64()"),
    (Any, "v.any()"),
    (Value, "v.any()"),
    (list, "v.array(v.any())"),
    (dict, "v.record(v.string(), v.any())"),
    (list[int], "v.array(v.number())"),
    (dict[str, bool], "v.record(v.string(), v.boolean())"),
    (Id[Channel], 'v.id("annotated_channels")'),
    (Literal["b", "a"], 'v.union(v.literal("b"), v.literal("a"))'),
    (Literal[1], "v.literal(1)"),
    (Literal[True], "v.literal(True)"),
    (Literal[1, True], "v.union(v.literal(1), v.literal(True))"),
    (Colour, 'v.union(v.literal("red"), v.literal("blue"))'),
    (str | None, "v.union(v.string(), v.null())"),
    (int | float, "v.number()"),
    (list[Value], "v.array(v.any())"),
    (Author, 'v.object({"displayName": v.string(), "avatarUrl": v.optional(v.string())})'),
    (Plain, 'v.object({"first_name": v.string(), "familyName": v.string()})'),
    (
        Point,
        'v.object({"x_axis": v.number(), "y_axis": v.optional(v.number()), "label": v.optional(v.string())})',
    ),
    (
        Options,
        'v.object({"page_size": v.number(), "after_id": v.optional(v.union(v.string(), v.null()))})',
    ),
    (Page[int], 'v.object({"items": v.array(v.number()), "isDone": v.boolean()})'),
    (Pair[int], 'v.object({"first": v.number(), "rest": v.array(v.number())})'),
    (
        Channel,
        'v.object({"_id": v.id("annotated_channels"), "_creationTime": v.number(),'
        ' "displayName": v.string()})',
    ),
]


@pytest.mark.parametrize(("annotation", "text"), SCALARS, ids=[text for _, text in SCALARS])
def test_a_validator_prints_itself_as_its_constructor_call(annotation: Any, text: str) -> None:
    assert str(validator_for(annotation)) == text


@pytest.mark.parametrize(("annotation", "text"), SCALARS, ids=[text for _, text in SCALARS])
def test_what_a_validator_prints_makes_an_equal_export(annotation: Any, text: str) -> None:
    assert eval(text, {"v": v}).export() == validator_for(annotation).export()


def test_the_validator_json_is_convexs() -> None:
    class Everything(Model):
        maybe_count: int | None = None
        nullable: str | None
        tags: dict[str, Int64]
        kind: Literal["a", 2]

    assert validator_for(Everything).export() == {
        "type": "object",
        "value": {
            "maybeCount": {"fieldType": {"type": "number"}, "optional": True},
            "nullable": {
                "fieldType": {"type": "union", "value": [{"type": "string"}, {"type": "null"}]},
                "optional": False,
            },
            "tags": {
                "fieldType": {
                    "type": "record",
                    "keys": {"type": "string"},
                    "values": {"fieldType": {"type": "bigint"}, "optional": False},
                },
                "optional": False,
            },
            "kind": {
                "fieldType": {
                    "type": "union",
                    "value": [{"type": "literal", "value": "a"}, {"type": "literal", "value": 2}],
                },
                "optional": False,
            },
        },
    }


class Maybe(Enum):
    YES = "yes"
    UNKNOWN = None


class Nobody(Enum):
    pass


@dataclass
class Scaled:
    size: float
    factor: InitVar[float]


@pytest.mark.parametrize("annotation", [list, typing.List, Sequence, typing.Sequence])  # noqa: UP006
def test_a_list_of_which_nothing_more_is_said_holds_anything(annotation: Any) -> None:
    assert str(validator_for(annotation)) == "v.array(v.any())"


@pytest.mark.parametrize("annotation", [dict, typing.Dict, Mapping, typing.Mapping])  # noqa: UP006
def test_a_dict_of_which_nothing_more_is_said_holds_anything(annotation: Any) -> None:
    assert str(validator_for(annotation)) == "v.record(v.string(), v.any())"


@pytest.mark.parametrize(
    ("annotation", "way_out"),
    [
        (tuple[int, str], "list"),
        (set[str], "list"),
        (datetime.datetime, "milliseconds"),
        (datetime.timedelta, "seconds"),
        (decimal.Decimal, "str"),
        (uuid.UUID, "str"),
        (complex, "float"),
        (type, "name"),
        (Literal[b"x"], "bytes"),
        (dict[int, str], "dict[str, ...]"),
        (Id[Author], "table"),
        (object().__class__.__subclasses__, "rdb.Model"),
        (Maybe, "Maybe | None"),
        (Nobody, "at least one"),
        (Scaled, "a field"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_the_way_out(annotation: Any, way_out: str) -> None:
    with pytest.raises(SchemaError) as caught:
        validator_for(annotation)
    assert caught.value.code == "UnsupportedAnnotation"
    assert way_out in caught.value.message


class Tree(Model):
    children: list[Tree]


def test_a_type_within_itself_is_refused() -> None:
    with pytest.raises(SchemaError) as caught:
        validator_for(Tree)
    assert caught.value.code == "RecursiveType"


def test_two_fields_that_are_equal_on_the_wire_are_refused_and_named() -> None:
    with pytest.raises(SchemaError) as caught:

        class Twice(Model):
            user_id: str
            userId: str  # noqa: N815

    assert caught.value.code == "AmbiguousWireName"
    assert "Twice.user_id" in caught.value.message
    assert "Twice.userId" in caught.value.message


class SchemaReference(pydantic.BaseModel):
    ref: str = pydantic.Field(alias="$ref")


@pytest.mark.parametrize("name", ["$ref", "$bytes", "na\u00efve", "line\nbreak", "x" * 1_025])
def test_a_field_whose_name_no_value_can_have_is_refused_where_it_is_declared(name: str) -> None:
    for declare in (
        lambda: v.object({name: v.string()}),
        lambda: v.object({"nested": v.object({"a": v.string()}).extend({name: v.string()})}),
        lambda: validator_for(TypedDict("Named", {name: str})),  # type: ignore[misc]
    ):
        with pytest.raises(SchemaError) as caught:
            declare()
        assert caught.value.code == "InvalidFieldName"


def test_an_alias_that_no_value_can_have_is_refused_with_the_field() -> None:
    # It would be written, and its database could not be read any more.
    with pytest.raises(SchemaError) as caught:
        validator_for(list[SchemaReference])
    assert (caught.value.code, caught.value.fields["field"]) == ("InvalidFieldName", "ref")
    assert "`SchemaReference.ref`" in caught.value.message
    assert "$ref" in caught.value.message


def test_a_default_that_does_not_fit_is_refused() -> None:
    @dataclass
    class Wrong:
        count: int = "three"  # type: ignore[assignment]

    Wrong.__annotations__["count"] = int
    with pytest.raises(SchemaError) as caught:
        validator_for(Wrong)
    assert caught.value.code == "DefaultDoesNotFit"
    assert "Wrong.count" in caught.value.message


def test_an_open_model_is_refused() -> None:
    class Open(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")

    with pytest.raises(SchemaError, match="closed"):
        validator_for(Open)


@pytest.mark.parametrize(
    ("annotation", "wire", "python"),
    [
        (int, 3.0, 3),
        (float, 3.0, 3.0),
        (Int64, Int64(3), Int64(3)),
        (str | None, None, None),
        (Colour, "blue", Colour.BLUE),
        (Level, 2.0, Level.HIGH),
        (Literal["a", 2], 2.0, 2),
        (list[int], [1.0, 2.0], [1, 2]),
        (dict[str, int], {"snake_case key": 1.0}, {"snake_case key": 1}),
        (Author, {"displayName": "Ada"}, Author(display_name="Ada")),
        (Plain, {"first_name": "A", "familyName": "B"}, Plain(first_name="A", familyName="B")),
        (Point, {"x_axis": 1.0, "y_axis": 2.5}, Point(1, 2.5)),
        (Options, {"page_size": 3.0}, {"page_size": 3}),
        (Options, {"page_size": 3.0, "after_id": None}, {"page_size": 3, "after_id": None}),
        (Page[int], {"items": [1.0], "isDone": True}, Page[int](items=[1], is_done=True)),
        (Pair[int], {"first": 1.0, "rest": [2.0]}, Pair(1, [2])),
        (Text | Image, {"kind": "image", "width": 3.0}, Image(width=3)),
        (int | str | list[int], [1.0], [1]),
        (Author | None, {"displayName": "Ada"}, Author(display_name="Ada")),
    ],
)
def test_parse_dump_and_load_agree(annotation: Any, wire: Value, python: Any) -> None:
    validator = validator_for(annotation)
    parsed = validator.parse(wire)
    assert parsed == python
    assert type(parsed) is type(python)
    assert validator.dump(python) == wire
    assert (validator.load(wire) if validator.load else wire) == python


@pytest.mark.parametrize(
    ("annotation", "wire", "path"),
    [
        (int, 1.5, ""),
        (int, True, ""),
        (int, 2.0**60, ""),
        (float, True, ""),
        (float, Int64(1), ""),
        (Int64, 1.0, ""),
        (bool, 1.0, ""),
        (str, None, ""),
        (list[int], [1.0, "x"], "[1]"),
        (dict[str, int], {"a": "x"}, ".a"),
        (Literal["a"], "b", ""),
        (Literal[1], True, ""),
        (Author, {}, ".displayName"),
        (Author, {"displayName": "a", "display_name": "b"}, ".display_name"),
        (list[Author], [{"displayName": 3.0}], "[0].displayName"),
        (Options, {"page_size": 1.0, "after_id": 2.0}, ".after_id"),
        (Text | Image, {"kind": "image", "width": "x"}, ".width"),
        (Text | Image, {"kind": "sound"}, ".kind"),
        (Text | Image, {"body": "x"}, ".kind"),
        (Id[Channel], "nonsense", ""),
        (Author | None, {"displayName": 1.0}, ".displayName"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(annotation: Any, wire: Value, path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        validator_for(annotation).parse(wire)
    assert caught.value.path == path
    assert caught.value.fields["expected"]
    assert caught.value.fields["got"]


def test_the_error_of_a_discriminated_union_names_the_branch() -> None:
    with pytest.raises(ValidationError) as caught:
        validator_for(Text | Image).parse({"kind": "image", "width": "wide"})
    assert caught.value.fields["branch"] == "kind: 'image'"


def test_the_error_of_a_plain_union_names_its_branches() -> None:
    with pytest.raises(ValidationError) as caught:
        validator_for(Author | Point).parse({"displayName": 3.0})
    assert caught.value.fields["reason"] == "union"
    assert "Author" in caught.value.message
    assert "Point" in caught.value.message


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 2**60),
        (int, Int64(1)),
        (int, True),
        (str, "\ud800"),
        (Int64, 2**63),
        (Author, Point(1)),
        (list[str], "abc"),
        (dict[str, int], {"$a": 1}),
        (Literal[1], True),
        (str, UNSET),
        (Any, object()),
    ],
)
def test_a_python_value_that_does_not_fit_is_not_sent(annotation: Any, value: Any) -> None:
    with pytest.raises(ValidationError):
        validator_for(annotation).dump(value)


def test_models_within_untyped_values_go_out_as_their_class_says_and_dicts_as_they_are() -> None:
    value = {"snake_case": [Author(display_name="Ada"), Point(1)], "gone": UNSET}
    assert validator_for(Any).dump(value) == {
        "snake_case": [{"displayName": "Ada"}, {"x_axis": 1.0, "y_axis": 0.0}]
    }


def test_constraints_hold_where_there_is_no_model() -> None:
    validator = validator_for(Annotated[int, pydantic.Field(ge=1)])
    assert validator.parse(1.0) == 1
    for refused in (lambda: validator.parse(0.0, ".n"), lambda: validator.dump(0, ".n")):
        with pytest.raises(ValidationError) as caught:
            refused()
        assert caught.value.path == ".n"
        assert caught.value.fields["reason"] == "constraint"


def test_constraints_of_models_and_dataclasses_are_reported_in_wire_names() -> None:
    class Strict(Model):
        display_name: str = pydantic.Field(min_length=2)

    @dataclass
    class Positive:
        count: int

        def __post_init__(self) -> None:
            if self.count < 0:
                raise ValueError("a count is not negative")

    with pytest.raises(ValidationError) as caught:
        validator_for(list[Strict]).parse([{"displayName": "x"}])
    assert caught.value.path == "[0].displayName"
    with pytest.raises(ValidationError) as caught:
        validator_for(list[Positive]).parse([{"count": -1.0}])
    assert caught.value.path == "[0]"


def test_unset_is_absent_and_never_null() -> None:
    class Sparse(Model):
        note: str | Unset = UNSET

    validator = validator_for(Sparse)
    assert validator.parse({}).note is UNSET
    assert validator.dump(Sparse()) == {}
    with pytest.raises(ValidationError):
        validator.parse({"note": None})


def test_an_int64_in_an_untyped_field_stays_one() -> None:
    class Loose(Model):
        one: Value
        many: list[Value] = []  # noqa: RUF012 - pydantic copies it
        maybe: Value | None = None

    loose = Loose(one=Int64(1), many=[Int64(2), 3])
    assert validator_for(Loose).dump(loose) == {"one": Int64(1), "many": [Int64(2), 3.0]}
    assert type(loose.one) is Int64


def test_objects_can_be_derived_from_each_other() -> None:
    base = v.object({"a": v.string(), "b": v.optional(v.number())})
    assert str(base.extend({"c": v.null()}).pick("a", "c")) == 'v.object({"a": v.string(), "c": v.null()})'
    assert str(base.omit("a")) == 'v.object({"b": v.optional(v.number())})'
    assert base.partial().parse({}) == {}
    with pytest.raises(SchemaError):
        base.pick("nothing")


def test_ids_within_a_value_are_found_with_their_tables(channel_id: str) -> None:
    validator = validator_for(dict[str, list[Id[Channel]]])
    assert list(validator.find_ids({"x": [channel_id]})) == [(".x[0]", "annotated_channels", channel_id)]
