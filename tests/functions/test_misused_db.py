"""What does `ctx.db` say when it is given something of the wrong kind?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pydantic
import pytest
from inline_app import app_of

import reactivedb as rdb


class Note(rdb.Document, table="misused_notes"):
    tags: list[str] = pydantic.Field(default_factory=list)


loose = rdb.Table("misused_loose")


@rdb.mutation
def create(ctx: rdb.MutationCtx) -> rdb.Id[Note]:
    return ctx.db.insert(Note())


def refused(misuse: Callable[[Any, Note], object]) -> rdb.ReactiveDBError:
    """The error of a mutation that does `misuse` to its `ctx.db`, with a stored note at hand."""

    def run(ctx: rdb.MutationCtx, id: rdb.Id[Note]) -> None:
        note = ctx.db.get(id)
        assert note is not None
        misuse(ctx.db, note)

    mutation = rdb.mutation(run)
    with app_of(create, mutation, Note, loose).open() as db:
        with pytest.raises(rdb.ReactiveDBError) as caught:
            db.mutation(mutation, db.mutation(create))
        return caught.value


@pytest.mark.parametrize(
    "misuse",
    [
        lambda db, note: db.get(None),
        lambda db, note: db.get(5),
        lambda db, note: db.get(note),
        lambda db, note: db.get({"_id": note.id}),
        lambda db, note: db.get_many([None]),
        lambda db, note: db.patch(None, tags=[]),
        lambda db, note: db.replace(note, note),
        lambda db, note: db.delete(note),
    ],
)
def test_what_is_no_id_is_refused_as_one(misuse: Callable[[Any, Note], object]) -> None:
    assert refused(misuse).code == "InvalidId"


@pytest.mark.parametrize(
    "misuse",
    [
        lambda db, note: db.insert(loose),
        lambda db, note: db.insert(Note),
        lambda db, note: db.insert({"tags": []}),
        lambda db, note: db.insert("misused_loose", {}),
    ],
)
def test_an_insert_that_names_no_table_or_no_fields_is_told_how_to_write_it(
    misuse: Callable[[Any, Note], object],
) -> None:
    error = refused(misuse)
    assert error.code == "NotATable"
    assert "expected a" in error.message


def test_normalize_id_gives_none_for_what_is_no_text() -> None:
    def run(ctx: rdb.MutationCtx) -> bool:
        untyped: Any = ctx.db
        return untyped.normalize_id(Note, None) is None

    mutation = rdb.mutation(run)
    with app_of(mutation, Note).open() as db:
        assert db.mutation(mutation)
