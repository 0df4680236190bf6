"""What may be written over a document: what was read of it, and nothing in the place of its id?"""

from __future__ import annotations

from typing import Any

import pytest
from inline_app import app_of

import reactivedb as rdb

loose = rdb.Table("loose")


@rdb.mutation
def create(ctx: rdb.MutationCtx, fields: dict[str, rdb.Value]) -> str:
    return ctx.db.insert(loose, fields)


@rdb.query
def read(ctx: rdb.QueryCtx, id: rdb.Id[Any]) -> dict[str, rdb.Value]:
    return ctx.db.get(id)


@rdb.mutation
def replace(ctx: rdb.MutationCtx, id: rdb.Id[Any], fields: dict[str, rdb.Value]) -> None:
    ctx.db.replace(id, fields)


@rdb.mutation
def patch(ctx: rdb.MutationCtx, id: rdb.Id[Any], fields: dict[str, rdb.Value]) -> None:
    ctx.db.patch(id, fields)


APP = app_of(create, read, replace, patch, loose)


@pytest.mark.parametrize("write", [replace, patch])
def test_a_document_that_was_read_can_be_written_back_with_a_change(write: Any) -> None:
    with APP.open() as db:
        id = rdb.Id[Any](db.mutation(create, {"text": "a"}))
        document = db.query(read, id)
        db.mutation(write, id, document | {"text": "b"})
        assert db.query(read, id) == document | {"text": "b"}


@pytest.mark.parametrize("write", [replace, patch])
@pytest.mark.parametrize("field", ["_id", "_creationTime"])
def test_another_id_or_creation_time_is_refused(write: Any, field: str) -> None:
    with APP.open() as db:
        ids = [rdb.Id[Any](db.mutation(create, {"text": text})) for text in "ab"]
        one, other = (db.query(read, id) for id in ids)
        with pytest.raises(rdb.ValidationError) as caught:
            db.mutation(write, ids[0], one | {field: other[field]})
        assert caught.value.code == "InvalidFieldName"
        assert caught.value.path == f".{field}"
        assert f"`{field}` of a document stays as it is" in caught.value.message
        assert db.query(read, ids[0]) == one
