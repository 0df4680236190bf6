"""Members of enums, what they stand for, and unions told apart by them."""

from __future__ import annotations

from enum import Enum, IntEnum, StrEnum
from typing import Any, Literal, TypedDict

import pytest

from reactivedb.errors import ValidationError
from reactivedb.schema import Document, table_definition, validator_for
from reactivedb.values import Int64, Value


class Kind(Enum):
    CIRCLE = "circle"
    SQUARE = "square"


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Mood(StrEnum):
    CALM = "calm"


class Circle(TypedDict):
    kind: Literal[Kind.CIRCLE]
    radius: float


class Square(TypedDict):
    kind: Literal[Kind.SQUARE]
    side: float


class Shape(Document, table="enum_shapes"):
    kind: Kind
    size: Size | None = None


@pytest.mark.parametrize(
    ("annotation", "value", "member", "stored"),
    [
        (Kind, "circle", Kind.CIRCLE, "circle"),
        (Size, 2, Size.LARGE, 2.0),
        (Size, 2.0, Size.LARGE, 2.0),
        (Mood, "calm", Mood.CALM, "calm"),
        (Kind | None, "square", Kind.SQUARE, "square"),
        (list[Kind], ["square"], [Kind.SQUARE], ["square"]),
    ],
)
def test_what_a_member_stands_for_will_do_in_its_place(
    annotation: Any, value: Any, member: Any, stored: Value
) -> None:
    validator = validator_for(annotation)
    assert validator.dump(value) == validator.dump(member) == stored
    assert validator.parse(stored) == member


@pytest.mark.parametrize("wrong", [True, Int64(1), 3, "1", None])
def test_another_type_of_number_is_no_member(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        validator_for(Size).dump(wrong)


def test_a_patch_takes_what_a_client_sends_for_a_member() -> None:
    definition = table_definition(Shape)
    stored = definition.dump(Shape(kind=Kind.CIRCLE))
    assert definition.dump_patch(stored, {"kind": "square", "size": 2.0}) == {"kind": "square", "size": 2.0}


@pytest.mark.parametrize("kind", [Kind.SQUARE, "square"])
def test_dicts_are_told_apart_by_members_of_an_enum(kind: Any) -> None:
    validator = validator_for(Circle | Square)
    assert validator.dump({"kind": kind, "side": 2}) == {"kind": "square", "side": 2.0}
    with pytest.raises(ValidationError) as caught:
        validator.dump({"kind": kind, "radius": 2})
    assert caught.value.path == ".radius"
    assert "`Square`" in caught.value.message


@pytest.mark.parametrize("kind", ["oval", ["circle"], None, 1])
def test_a_dict_of_no_branch_names_the_kinds_there_are(kind: Any) -> None:
    for refuse in (validator_for(Circle | Square).dump, validator_for(Circle | Square).parse):
        with pytest.raises(ValidationError) as caught:
            refuse({"kind": kind, "radius": 2.0})
        assert caught.value.fields["expected"] == "'circle' | 'square'"


@pytest.mark.parametrize("wrong", [2.0, "z", False, None])
def test_a_value_beside_literals_of_several_types_is_told_all_of_them(wrong: Any) -> None:
    validator = validator_for(Literal["a", 1, True])
    for refuse in (validator.parse, validator.dump):
        with pytest.raises(ValidationError) as caught:
            refuse(wrong)
        assert caught.value.fields["expected"] == str(validator)
