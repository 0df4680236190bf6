"""What is a document, and how does it get into a table and out again?"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec
import pydantic
import pytest

from reactivedb.errors import SchemaError, ValidationError
from reactivedb.schema import (
    Document,
    Id,
    Index,
    Model,
    Table,
    TableDefinition,
    table_definition,
    v,
    validator_for,
)
from reactivedb.values import UNSET, Int64, Unset, Value, encode


class Channel(Document, table="channels"):
    name: str


class Author(Model):
    display_name: str
    badge: str = "none"


class Message(Document, table="messages"):
    channel_id: Id[Channel]
    body: str
    sequence: int = 0
    reply_to: Id[Message] | None = None
    edited_by: str | None
    author: Author | None = None

    by_channel = Index("channel_id")


class Strict(Document, table="strict"):
    title: str = pydantic.Field(min_length=1)
    low: int = 0
    high: int = 10

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Strict:
        if self.low > self.high:
            raise ValueError("low is not above high")
        return self


class Tagged(Document, table="tagged"):
    tags: list[str] = pydantic.Field(default_factory=list)
    note: str | Unset = UNSET


MESSAGES = table_definition(Message)


def stored(definition: TableDefinition, document: Document, id: str) -> dict[str, Value]:
    return {"_id": id, "_creationTime": 12.5, **definition.dump(document)}


@pytest.fixture
def message(channel_id: str) -> Message:
    return Message(
        channel_id=Id(channel_id), body="hi", sequence=3, edited_by=None, author=Author(display_name="Ada")
    )


def test_a_document_is_stored_in_camel_case_with_defaults_and_without_absent_fields(
    message: Message, channel_id: str
) -> None:
    assert MESSAGES.dump(message) == {
        "channelId": channel_id,
        "body": "hi",
        "sequence": 3.0,
        "editedBy": None,
        "author": {"displayName": "Ada", "badge": "none"},
    }
    assert type(MESSAGES.dump(message)["channelId"]) is str


def test_a_loaded_document_is_the_one_that_was_stored(message: Message, message_id: str) -> None:
    fields = stored(MESSAGES, message, message_id)
    loaded = MESSAGES.load(fields, encode(fields))
    assert loaded.id == message_id
    assert loaded.creation_time == 12.5
    assert loaded.stored_json() == encode(fields)
    assert loaded.model_dump() == message.model_dump()
    assert type(loaded.sequence) is int
    assert type(loaded.channel_id) is Id
    assert isinstance(loaded.author, Author)
    assert loaded != message  # It has an id.
    assert loaded == MESSAGES.load(fields, None)
    assert f"id='{message_id}'" in repr(loaded)


def test_system_fields_of_an_unstored_document_are_a_clear_error(message: Message) -> None:
    for name in ("id", "creation_time"):
        with pytest.raises(ValidationError) as caught:
            getattr(message, name)
        assert caught.value.code == "DocumentNotStored"
    assert message.stored_json() is None


def test_a_copy_of_a_stored_document_is_not_stored(message: Message, message_id: str) -> None:
    fields = stored(MESSAGES, message, message_id)
    loaded = MESSAGES.load(fields, encode(fields))
    copies = [
        loaded.model_copy(),
        loaded.model_copy(deep=True),
        loaded.model_copy(update={"body": "x"}),
        copy.copy(loaded),
        copy.deepcopy(loaded),
    ]
    for made in copies:
        with pytest.raises(ValidationError):
            _ = made.id
        assert made.stored_json() is None


def test_a_document_cannot_be_changed(message: Message) -> None:
    with pytest.raises(pydantic.ValidationError):
        message.body = "other"  # type: ignore[misc]


def test_constraints_hold_for_copies_with_changes() -> None:
    strict = Strict(title="a")
    assert strict.model_copy(update={"low": 3}).low == 3
    with pytest.raises(pydantic.ValidationError):
        strict.model_copy(update={"title": ""})
    with pytest.raises(pydantic.ValidationError):
        strict.model_copy(update={"low": 11})


def test_a_document_older_than_a_field_reads_with_its_default_and_is_not_spliced(
    channel_id: str, message_id: str
) -> None:
    old: dict[str, Value] = {
        "_id": message_id,
        "_creationTime": 1.0,
        "channelId": channel_id,
        "body": "hi",
        "editedBy": None,
        "author": {"displayName": "Ada"},
    }
    assert not MESSAGES.complete(old)
    filled = MESSAGES.read_form(old)
    assert filled["sequence"] == 0.0
    assert filled["author"] == {"displayName": "Ada", "badge": "none"}
    assert MESSAGES.read_form(filled) is filled
    loaded = MESSAGES.load(old, encode(old))
    assert loaded.sequence == 0
    assert loaded.author.badge == "none"
    assert loaded.stored_json() is None
    assert validator_for(Message).dump(loaded, splice=True) == filled


def test_a_complete_document_is_spliced_as_its_stored_text(message: Message, message_id: str) -> None:
    fields = stored(MESSAGES, message, message_id)
    text = encode(fields)
    loaded = MESSAGES.load(fields, text)
    validator = validator_for(dict[str, list[Message]])
    spliced: Any = validator.dump({"page": [loaded]}, splice=True)
    assert isinstance(spliced["page"][0], msgspec.Raw)
    assert encode(spliced) == b'{"page":[' + text + b"]}"
    assert validator.dump({"page": [loaded]}) == {"page": [fields]}
    assert validator.parse({"page": [fields]})["page"][0] == loaded


def test_an_unstored_document_cannot_be_sent_whole(message: Message) -> None:
    with pytest.raises(ValidationError) as caught:
        validator_for(list[Message]).dump([message], splice=True)
    assert caught.value.path == "[0]"


def test_a_default_factory_never_fills_an_older_document() -> None:
    tagged = table_definition(Tagged)
    assert tagged.dump(Tagged()) == {"tags": []}
    with pytest.raises(ValidationError) as caught:
        tagged.check({"_id": "x", "_creationTime": 1.0})
    assert caught.value.path == ".tags"
    tagged.check({"tags": []})


def test_only_documents_that_cannot_change_are_shareable() -> None:
    @dataclass
    class Loose:
        x: int

    class Holder(Document, table="holders"):
        loose: Loose

    assert MESSAGES.shareable
    assert not table_definition(Tagged).shareable
    assert not TableDefinition(
        "holders", validator=validator_for(Holder).inner, document_class=Holder
    ).shareable


def test_a_dict_in_wire_names_can_be_inserted_into_a_table_of_a_class(channel_id: str) -> None:
    fields = MESSAGES.dump({"channelId": channel_id, "body": "hi", "editedBy": None, "author": None})
    assert fields == {"channelId": channel_id, "body": "hi", "sequence": 0.0, "editedBy": None}
    for wrong in ({"body": 3.0}, {"_id": "x"}):
        with pytest.raises(ValidationError):
            MESSAGES.dump(fields | wrong)


def test_a_document_of_another_table_is_refused() -> None:
    with pytest.raises(ValidationError):
        MESSAGES.dump(Channel(name="x"))


class Entry(Document, table="derived_entries"):
    title: str


class Pinned(Entry, table="derived_pinned"):
    place: int


class Draft(Entry):
    due: float


@pytest.mark.parametrize("document", [Pinned(title="a", place=1), Draft(title="a", due=1.0)])
def test_a_document_of_a_derived_class_is_refused_and_not_cut_down(document: Document) -> None:
    with pytest.raises(ValidationError) as caught:
        table_definition(Entry).dump(document)
    assert type(document).__name__ in caught.value.message


def test_a_patch_takes_both_spellings_and_removes_what_is_unset(message: Message, message_id: str) -> None:
    fields = stored(MESSAGES, message, message_id)
    patched = MESSAGES.dump_patch(fields, {"editedBy": "bob", "sequence": 4, "author": None})
    assert patched == {
        "channelId": message.channel_id,
        "body": "hi",
        "sequence": 4.0,
        "editedBy": "bob",
    }
    assert MESSAGES.dump_patch(fields, {"edited_by": None})["editedBy"] is None
    assert MESSAGES.dump_patch(fields, {"sequence": UNSET})["sequence"] == 0.0
    assert "author" not in MESSAGES.dump_patch(fields, {"author": UNSET})


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"body": 3}, ".body"),
        ({"body": UNSET}, ".body"),
        ({"channel_id": "nonsense"}, ".channelId"),
        ({"author": {"displayName": 3}}, ".author.displayName"),
        ({"nothing": 1}, ".nothing"),
        ({"_id": "x"}, "._id"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused_with_its_path(
    message: Message, message_id: str, changes: dict[str, Any], path: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        MESSAGES.dump_patch(stored(MESSAGES, message, message_id), changes)
    assert caught.value.path == path


def test_a_patch_is_validated_as_a_whole() -> None:
    strict = table_definition(Strict)
    fields = strict.dump(Strict(title="a", low=1, high=5))
    assert strict.dump_patch(fields, {"low": 5})["low"] == 5.0
    with pytest.raises(ValidationError) as caught:
        strict.dump_patch(fields, {"low": 6})
    assert caught.value.fields["reason"] == "constraint"
    with pytest.raises(ValidationError) as caught:
        strict.dump_patch(fields, {"title": ""})
    assert caught.value.path == ".title"


@pytest.mark.filterwarnings("ignore:Field name")  # Pydantic's, before ours.
@pytest.mark.parametrize(
    "body",
    [
        {"__annotations__": {"id": str}},
        {"__annotations__": {"creation_time": float}},
        {"__annotations__": {"x": str}, "x": pydantic.Field(alias="_x")},
        {"by_id": Index("x")},
    ],
)
def test_names_that_every_document_has_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(SchemaError) as caught:
        type(Document)("Bad", (Document,), {"__module__": __name__, **body}, table="bad")
    assert caught.value.code == "ReservedName"


@pytest.mark.parametrize("name", ["", "1x", "__", "a-b", "a b", "x" * 65, "ä"])
def test_a_table_has_to_have_a_plain_name(name: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Table(name)
    assert caught.value.code == "InvalidIdentifier"


def test_a_mixin_hands_on_its_fields_and_indexes() -> None:
    class Timed(Document):
        updated_at: float

        by_update = Index("updated_at")

    class Note(Timed, table="timed_notes"):
        text: str

    definition = table_definition(Note)
    assert definition.indexes["by_update"].fields == ("updatedAt",)
    assert repr(Note.by_update) == "Note.by_update"
    with pytest.raises(SchemaError) as caught:
        table_definition(Timed)
    assert caught.value.code == "NoTable"


def test_a_schemaless_table_takes_any_dict_and_keeps_names(message_id: str) -> None:
    notes = Table("notes", indexes={"by_x": ["snake_x", "deep.er"]}).definition
    assert notes.dump({"snake_x": 1, "y": [Int64(2)]}) == {"snake_x": 1.0, "y": [Int64(2)]}
    assert notes.indexes["by_x"].fields == ("snake_x", "deep.er")
    fields: dict[str, Value] = {"_id": message_id, "_creationTime": 1.0, "snake_x": 1.0}
    assert notes.load(fields, None) == fields
    assert notes.dump_patch(fields, {"snake_x": UNSET, "z": None}) == {"z": None}
    assert not notes.shareable
    for wrong in ({"_id": "x"}, {"a-b": 1}, {"": 1}, {1: 1}, {"$x": 1}):
        with pytest.raises(ValidationError):
            notes.dump(wrong)
    with pytest.raises(ValidationError):
        notes.dump("no dict")


def test_a_dict_table_with_a_validator_refuses_what_does_not_fit(channel_id: str, message_id: str) -> None:
    notes = Table(
        "typed_notes",
        v.object({"title": v.string(), "channel": v.optional(v.id("channels"))}),
        indexes={"by_title": Index("title", unique=True)},
    ).definition
    assert notes.indexes["by_title"].unique
    assert notes.dump({"title": "x"}) == {"title": "x"}
    fields: dict[str, Value] = {"_id": message_id, "_creationTime": 1.0, "title": "x", "channel": channel_id}
    assert type(notes.load(fields, None)["channel"]) is Id
    assert notes.dump_patch(fields, {"channel": UNSET}) == {"title": "x"}
    for wrong in ({}, {"title": 3}, {"title": "x", "more": 1}, {"title": None}):
        with pytest.raises(ValidationError):
            notes.dump(wrong)
    with pytest.raises(ValidationError):
        notes.dump_patch(fields, {"title": UNSET})
    with pytest.raises(SchemaError):
        Table("typed_notes", v.object({"a": v.null()}), indexes={"by_b": ["b"]}).index("by_b")


def test_a_union_of_documents_is_told_apart_by_its_literal() -> None:
    class Text(Model):
        kind: Literal["text"] = "text"
        body: str

    class Image(Model):
        kind: Literal["image"] = "image"
        width: int

    class Post(Document, table="posts"):
        content: Text | Image

    posts = table_definition(Post)
    assert posts.dump(Post(content=Image(width=2))) == {"content": {"kind": "image", "width": 2.0}}
    with pytest.raises(ValidationError) as caught:
        posts.dump({"content": {"kind": "image", "width": "x"}})
    assert caught.value.path == ".content.width"


def test_an_index_is_declared_by_names_alone() -> None:
    with pytest.raises(SchemaError) as caught:
        Index(cast(Any, ["author"]))
    assert caught.value.code == "IndexFieldNotName"
    with pytest.raises(SchemaError) as caught:
        Table("notes", indexes=cast(Any, {"by_author": "author"}))
    assert caught.value.code == "IndexFieldNotName"
    assert "write `['author']`" in caught.value.message
