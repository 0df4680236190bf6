"""Does pydantic read an annotation as our validators do?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, TypedDict

import pydantic
import pytest
from pydantic import Field

from reactivedb.errors import SchemaError, ValidationError
from reactivedb.schema import Document, Model, table_definition, v, validator_for
from reactivedb.values import UNSET, Int64, Unset, Value


class Size(TypedDict):
    in_pixels: Int64


class Picture(TypedDict, total=False):
    size: Size
    alt_text: NotRequired[str]


class Post(Document, table="pydantic_posts"):
    picture: Picture
    more: list[Picture] = Field(default=[], max_length=2)


def test_a_typed_dict_of_the_standard_library_is_a_field_of_a_document() -> None:
    definition = table_definition(Post)
    post = Post(picture={"size": {"in_pixels": Int64(5)}}, more=[{"alt_text": "a cat"}])
    stored = definition.dump(post)
    assert stored == {"picture": {"size": {"in_pixels": Int64(5)}}, "more": [{"alt_text": "a cat"}]}
    assert str(definition.validator).startswith(
        'v.object({"picture": v.object({"size": v.optional(v.object({"in_pixels": v.int64()})),'
    )
    with pytest.raises(ValidationError):
        definition.dump_patch(stored, {"more": [{}] * 3})


@pytest.mark.parametrize(
    ("picture", "path"),
    [
        ({"size": {}}, ("picture", "size", "in_pixels")),
        ({"size": {"inPixels": Int64(1)}}, ("picture", "size", "in_pixels")),
        ({"title": "x"}, ("picture", "title")),
    ],
)
def test_the_keys_of_a_typed_dict_are_verbatim_also_for_the_constructor(
    picture: Any, path: tuple[str, ...]
) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Post(picture=picture)
    assert caught.value.errors()[0]["loc"] == path


class Chapter(TypedDict):
    parts: list[Chapter]


@dataclass
class Frame:
    size: Size


def test_a_typed_dict_that_pydantic_cannot_read_is_a_schema_error() -> None:
    with pytest.raises(SchemaError) as caught:

        class Book(Model):
            first: Chapter

    assert caught.value.code == "RecursiveType"
    with pytest.raises(SchemaError) as caught:

        class Wall(Model):
            frame: Frame

    assert "typing_extensions" in caught.value.message


@pytest.mark.parametrize(
    ("annotation", "fits", "too_much"),
    [
        (Annotated[Int64, Field(le=3)], Int64(3), Int64(4)),
        (list[Annotated[Int64, Field(le=3)]], [Int64(3)], [Int64(4)]),
        (Annotated[list[Value], Field(max_length=1)], [Int64(3)], [1.0, 2.0]),
        (Annotated[dict[str, Value], Field(max_length=1)], {"a": [Int64(3)]}, {"a": 1.0, "b": 2.0}),
        (
            Annotated[list[Size], Field(max_length=1)],
            [{"in_pixels": Int64(1)}],
            [{"in_pixels": Int64(1)}] * 2,
        ),
        (Annotated[str | Unset, Field(max_length=2)], "ab", "abc"),
    ],
)
def test_constraints_beside_our_own_types_hold_and_change_no_value(
    annotation: Any, fits: Any, too_much: Any
) -> None:
    validator = validator_for(annotation)
    assert repr(validator.parse(validator.dump(fits))) == repr(fits)
    with pytest.raises(ValidationError) as caught:
        validator.dump(too_much)
    assert caught.value.fields["reason"] == "constraint"


def test_a_constraint_that_cannot_be_checked_is_told_in_one_line() -> None:
    @dataclass
    class Holder:
        value: Int64

    with pytest.raises(SchemaError) as caught:
        validator_for(Annotated[Holder, pydantic.AfterValidator(lambda held: held)])
    assert "\n" not in caught.value.message
    assert "rdb.Model" in caught.value.message


def test_unset_stays_absent_beside_a_constraint() -> None:
    class Note(Model):
        text: Annotated[str | Unset, Field(min_length=1)] = UNSET

    assert validator_for(Note).dump(Note()) == {}
    assert str(v.object({"text": v.optional(v.string())})) == str(validator_for(Note))
