"""Generic dataclasses, TypedDicts and aliases, and what is derived from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypedDict, TypeVar

import pydantic
import pytest
from typing_extensions import TypeAliasType

from reactivedb.errors import SchemaError, ValidationError
from reactivedb.schema import Document, Model, table_definition, validator_for

T = TypeVar("T")
S = TypeVar("S")


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class NamedBox(Box[int]):
    name: str


@dataclass
class PairBox(Box[list[S]], Generic[S]):
    second: S


class Cell(TypedDict, Generic[T]):
    content: T


class NamedCell(Cell[int]):
    name: str


class Page(Model, Generic[T]):
    items: list[T]


@pydantic.dataclasses.dataclass
class Checked:
    count: int = pydantic.Field(ge=1)
    names: list[str] = pydantic.Field(default_factory=list)
    label: str = pydantic.Field(default="none", max_length=5)


class Cabinet(Document, table="generic_cabinets"):
    cell: NamedCell
    row: list[Cell[str]] = []  # noqa: RUF012
    box: PairBox[str] | None = None


Named = TypeAliasType("Named", dict[str, T], type_params=(T,))


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Box[str], 'v.object({"content": v.string()})'),
        (NamedBox, 'v.object({"content": v.number(), "name": v.string()})'),
        (PairBox[str], 'v.object({"content": v.array(v.string()), "second": v.string()})'),
        (list[NamedCell], 'v.array(v.object({"content": v.number(), "name": v.string()}))'),
        (Named[int], "v.record(v.string(), v.number())"),
        (
            Checked,
            'v.object({"count": v.number(), "names": v.optional(v.array(v.string())),'
            ' "label": v.optional(v.string())})',
        ),
    ],
)
def test_a_field_has_the_type_that_its_class_was_given(annotation: Any, text: str) -> None:
    assert str(validator_for(annotation)) == text


def test_generic_parts_of_a_document_are_stored_and_read() -> None:
    definition = table_definition(Cabinet)
    cabinet = Cabinet(
        cell={"content": 1, "name": "a"}, row=[{"content": "b"}], box=PairBox(content=["c"], second="d")
    )
    stored = definition.dump(cabinet)
    assert stored["cell"] == {"content": 1.0, "name": "a"}
    assert definition.load({"_id": "x", "_creationTime": 1.0, **stored}, None).box == cabinet.box
    with pytest.raises(pydantic.ValidationError):
        Cabinet(cell={"content": "no number", "name": "a"})  # type: ignore[typeddict-item]


def test_the_fields_of_a_pydantic_dataclass_keep_their_defaults_and_constraints() -> None:
    validator = validator_for(Checked)
    assert validator.parse({"count": 1.0}) == Checked(count=1)
    with pytest.raises(ValidationError) as caught:
        validator.parse({"count": 0.0}, ".checked")
    assert caught.value.path == ".checked.count"


@pytest.mark.parametrize("annotation", [Page, Box, Cell, list[T]])  # type: ignore[valid-type]
def test_a_generic_class_without_its_arguments_is_told_to_take_them(annotation: Any) -> None:
    with pytest.raises(SchemaError) as caught:
        validator_for(annotation)
    assert "Page[int]" in caught.value.message


def test_a_field_that_is_computed_is_not_stored() -> None:
    @dataclass
    class Doubled(Box[int]):
        twice: int = field(init=False)

        def __post_init__(self) -> None:
            self.twice = 2 * self.content

    validator = validator_for(Doubled)
    assert validator.dump(Doubled(2)) == {"content": 2.0}
    assert validator.parse({"content": 3.0}).twice == 6
