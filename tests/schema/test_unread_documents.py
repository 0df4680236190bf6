"""Is a document that has not read its fields yet like any other, to whatever looks at it first?"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import pydantic
import pytest

from reactivedb.errors import ValidationError
from reactivedb.schema import Document, Index, table_definition
from reactivedb.schema.document import is_unread
from reactivedb.values import decode, encode

ID = "j57000820c20a1g7104gm2rc1m70ynr8"


class Task(Document, table="tasks"):
    channel_name: str
    number: int
    note: str | None = None

    by_number = Index("number")

    def label(self) -> str:
        return f"{self.channel_name}/{self.number}"


class Tagged(Document, table="tagged"):
    tags: list[str]


class Empty(Document, table="empty"):
    pass


class WithDefault(Document, table="with_default"):
    state: str = "open"


class WithCode(Document, table="with_code"):
    name: str
    seen: ClassVar[list[str]] = []

    def model_post_init(self, context: Any) -> None:
        self.seen.append(self.name)


class Named:
    """Where Python would find `name` before any document's own."""

    name = "of the class"


with pytest.warns(UserWarning, match="shadows an attribute"):

    class Shadowing(Named, Document, table="shadowing"):
        name: str  # pyright: ignore[reportGeneralTypeIssues]


def json_of(**fields: Any) -> bytes:
    return encode({"_id": ID, "_creationTime": 5.5, **fields})


JSON = json_of(channelName="lobby", number=7)


def unread() -> Task:
    make = table_definition(Task).unread
    assert make is not None
    task: Task = make(ID, JSON)
    assert is_unread(task)
    return task


def read() -> Task:
    fields: Any = decode(JSON)
    task: Task = table_definition(Task).load(fields, JSON)
    assert not is_unread(task)
    return task


LOOKS: dict[str, Callable[[Task], object]] = {
    "a field": lambda task: (task.channel_name, task.number, task.note),
    "a method": lambda task: task.label(),
    "the creation time": lambda task: task.creation_time,
    "vars": lambda task: dict(vars(task)),
    "repr": repr,
    "str": str,
    "hash": hash,
    "equality": lambda task: (task == read(), read() == task, task == unread(), task != read()),
    "iteration": list,
    "dump": lambda task: task.model_dump(),
    "dump by alias": lambda task: task.model_dump_json(by_alias=True),
    "the set of fields": lambda task: task.model_fields_set,
    "extra fields": lambda task: task.model_extra,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda task: task.model_copy(),
    "a changed copy": lambda task: task.model_copy(update={"number": 8}),
    "pickle": lambda task: pickle.loads(pickle.dumps(task)),
    "validation": lambda task: pydantic.TypeAdapter(list[Task]).validate_python([task]),
    "a missing attribute": lambda task: hasattr(task, "missing"),
    "a stored dump": lambda task: table_definition(Task).dump(task),
    "a match": lambda task: matched(task),
}


def matched(task: Task) -> int:
    match task:
        case Task(number=number):
            return number


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_whatever_looks_first_sees_what_it_would_see_of_a_read_one(look: Callable[[Task], object]) -> None:
    task = unread()
    assert look(task) == look(read())
    assert not is_unread(task)
    assert look(task) == look(read())


def test_its_id_and_its_text_are_there_without_reading() -> None:
    task = unread()
    assert (task.id, task.stored_json()) == (ID, JSON)
    assert is_unread(task)


def test_a_document_without_fields_has_nothing_to_read_but_its_time() -> None:
    make = table_definition(Empty).unread
    assert make is not None
    empty = make(ID, json_of())
    assert (empty.creation_time, vars(empty), hasattr(empty, "missing")) == (5.5, {}, False)


def test_each_of_two_readers_gets_lists_of_their_own() -> None:
    make = table_definition(Tagged).unread
    assert make is not None
    text = json_of(tags=["a"])
    first, second = make(ID, text), make(ID, text)
    first.tags.append("b")
    assert second.tags == ["a"]


def test_a_copy_is_not_stored() -> None:
    copied = copy.copy(unread())
    with pytest.raises(ValidationError) as failure:
        _ = copied.id
    assert failure.value.code == "DocumentNotStored"
    assert copied.stored_json() is None


@pytest.mark.parametrize("document_class", [WithDefault, WithCode, Shadowing])
def test_where_reading_late_could_be_seen_documents_are_read_at_once(document_class: type[Document]) -> None:
    assert table_definition(document_class).unread is None


def test_a_field_that_shadows_an_attribute_is_the_field() -> None:
    text = json_of(name="own")
    fields: Any = decode(text)
    assert table_definition(Shadowing).load(fields, text).name == "own"
