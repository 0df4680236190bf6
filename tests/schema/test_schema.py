"""Which tables and ranges does an application name?"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Annotated, Any

import pydantic
import pytest

from reactivedb.errors import SchemaError, ValidationError
from reactivedb.schema import (
    Document,
    Id,
    Index,
    Model,
    Schema,
    StoredFile,
    Table,
    source_bounds,
    table_definition,
)
from reactivedb.values import UNSET, Int64


class Author(Model):
    display_name: str
    extra: dict[str, str]


class Task(Document, table="range_tasks"):
    owner_id: Id[Task] | None = None
    state: str | None
    sequence: int
    big: Int64 = Int64(0)
    author: Author | None = None

    by_owner = Index("owner_id", "sequence")
    by_state = Index("state", unique=True)
    by_author = Index("author.display_name")
    by_extra = Index("author.extra.free_name", "big")


class Reviewer(Author):
    nick: str | None


class Review(Document, table="range_reviews"):
    author: Reviewer | None = None
    second: Reviewer | None
    lead: Reviewer
    stars: int
    few_stars: Annotated[int, pydantic.Field(le=5)] | None = None
    state: str

    by_author = Index("author.display_name")
    by_second = Index("second.display_name")
    by_word = Index("lead.extra.free_name")
    by_nick = Index("author.nick")
    by_lead = Index("lead.display_name")
    by_stars = Index("stars")
    by_few_stars = Index("few_stars")
    by_state = Index("state")


NOTES = Table("range_notes", indexes={"by_x": ["x"]})


def module_of(**names: object) -> ModuleType:
    module = ModuleType("some_module")
    vars(module).update(names)
    return module


def test_index_fields_are_wire_paths() -> None:
    indexes = table_definition(Task).indexes
    assert {name: index.fields for name, index in indexes.items()} == {
        "by_creation_time": ("_creationTime",),
        "by_id": ("_id",),
        "by_owner": ("ownerId", "sequence"),
        "by_state": ("state",),
        "by_author": ("author.displayName",),
        "by_extra": ("author.extra.free_name", "big"),
    }
    assert indexes["by_state"].unique


def test_a_class_alone_means_all_its_documents_by_creation_time() -> None:
    bounds = source_bounds(Task)
    assert bounds.table is table_definition(Task)
    assert bounds.index.name == "by_creation_time"
    assert (bounds.equal, bounds.lower, bounds.upper) == ((), None, None)
    assert source_bounds(NOTES).index.fields == ("_creationTime",)
    assert source_bounds(Task.by_creation_time.gte(5)).lower == (5.0, True)


def test_python_values_become_stored_bounds(channel_id: str) -> None:
    bounds = source_bounds(Task.by_owner.eq(Id(channel_id)).gt(3).lte(5))
    assert bounds.equal == (channel_id,)
    assert type(bounds.equal[0]) is str
    assert bounds.lower == (3.0, False)
    assert bounds.upper == (5.0, True)
    assert source_bounds(Task.by_extra.eq("x", 4)).equal == ("x", Int64(4))
    assert source_bounds(NOTES.index("by_x").eq(1)).equal == (1.0,)


def test_none_finds_the_absent_ones_of_an_optional_field_and_null_of_a_nullable_one() -> None:
    assert source_bounds(Task.by_owner.eq(None)).equal == (UNSET,)
    assert source_bounds(Task.by_owner.gt(None)).lower == (UNSET, False)
    assert source_bounds(Task.by_state.eq(None)).equal == (None,)
    assert source_bounds(NOTES.index("by_x").eq(None)).equal == (None,)
    assert source_bounds(NOTES.index("by_x").eq(UNSET)).equal == (UNSET,)


def test_none_finds_the_documents_whose_path_leads_nowhere() -> None:
    assert source_bounds(Review.by_author.eq(None)).equal == (UNSET,)
    assert source_bounds(Review.by_author.gt(None)).lower == (UNSET, False)
    assert source_bounds(Review.by_second.eq(None)).equal == (UNSET,)
    assert source_bounds(Review.by_word.eq(None)).equal == (UNSET,)
    # A null that can be stored there is meant itself.
    assert source_bounds(Review.by_nick.eq(None)).equal == (None,)
    with pytest.raises(ValidationError):
        source_bounds(Review.by_lead.eq(None))


def test_a_bound_on_whole_numbers_may_lie_between_them() -> None:
    bounds = source_bounds(Review.by_stars.gt(1.5).lt(math.inf))
    assert (bounds.lower, bounds.upper) == ((1.5, False), (math.inf, False))
    assert source_bounds(Review.by_few_stars.lte(9.5)).upper == (9.5, True)
    with pytest.raises(ValidationError):
        source_bounds(Review.by_stars.eq(1.5))
    with pytest.raises(ValidationError):
        source_bounds(Review.by_state.gt(1.5))


def test_creation_time_may_follow_the_fields_of_an_index() -> None:
    assert source_bounds(Task.by_state.eq("open").gte(7)).lower == (7.0, True)


def test_ranges_that_break_the_rules_are_refused(channel_id: str) -> None:
    owner = Id[Any](channel_id)
    for code, build in [
        ("AlreadyDefinedLowerBound", lambda: Task.by_owner.gt(owner).gte(owner)),
        ("AlreadyDefinedLowerBound", lambda: Task.by_owner.gt(owner).lt(owner).gt(owner)),
        ("AlreadyDefinedUpperBound", lambda: Task.by_owner.lt(owner).lte(owner)),
        ("EqualityNotFirst", lambda: Task.by_state.eq("a").eq(1)),
        ("EqualityNotFirst", lambda: Task.by_state.gt("a").eq(1)),
        ("IndexPrefixTooLong", lambda: source_bounds(Task.by_state.eq("a", 1, 2))),
        ("FieldNotInIndex", lambda: source_bounds(Task.by_state.eq("a", 1).gt(2))),
        ("ValidationError", lambda: source_bounds(Task.by_owner.eq(3))),
        ("ValidationError", lambda: source_bounds(Task.by_owner.eq(owner).gt("x"))),
    ]:
        with pytest.raises(ValidationError) as caught:
            build()
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("index", "code"),
    [
        (Index("nothing"), "UnknownIndexField"),
        (Index("author.nothing"), "UnknownIndexField"),
        (Index("sequence.deeper"), "UnknownIndexField"),
        (Index("state", "state"), "DuplicateIndexField"),
        (Index(*(f"author.extra.f{n}" for n in range(17))), "TooManyIndexFields"),
    ],
)
def test_an_index_that_cannot_be_built_is_refused(index: Index, code: str) -> None:
    class Base(Document):
        state: str
        sequence: int
        author: Author

    broken = type("Broken", (Base,), {"by_it": index, "__module__": __name__}, table="broken")
    with pytest.raises(SchemaError) as caught:
        table_definition(broken)
    assert caught.value.code == code


def test_an_index_without_fields_is_refused() -> None:
    with pytest.raises(SchemaError):
        Index()


def test_a_table_has_32_indexes_at_most() -> None:
    with pytest.raises(SchemaError) as caught:
        Table("many", indexes={f"by_{n}": ["x"] for n in range(33)}).index("by_1")
    assert caught.value.code == "TooManyIndexes"


def test_an_index_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SchemaError) as caught:
        NOTES.index("by_y")
    assert caught.value.code == "UnknownIndex"


def test_a_schema_is_what_the_modules_can_see() -> None:
    schema = Schema.from_modules([module_of(Task=Task, NOTES=NOTES, File=StoredFile, n=3), module_of(T=Task)])
    assert set(schema.tables) == {"range_tasks", "range_notes"}
    assert schema.table_of(Task.by_owner) is schema.table_of(Task) is table_definition(Task)
    assert schema.table_of(NOTES) is NOTES.definition
    with pytest.raises(SchemaError) as caught:
        schema.table_of(Table("elsewhere"))
    assert caught.value.code == "UnknownTable"


def test_two_definitions_of_one_table_are_refused() -> None:
    with pytest.raises(SchemaError) as caught:
        Schema.from_modules([module_of(a=NOTES, b=Table("range_notes"))])
    assert caught.value.code == "DuplicateTable"
    assert "some_module.a" in caught.value.message
    assert "some_module.b" in caught.value.message


def test_names_of_system_tables_are_refused() -> None:
    with pytest.raises(SchemaError) as caught:
        Schema.from_modules([module_of(a=Table("_mine"))])
    assert caught.value.code == "ReservedName"
