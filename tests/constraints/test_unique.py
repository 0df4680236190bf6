"""Does a unique index refuse a second document with the same values, and nothing else?"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inline_app import app_of

import reactivedb as rdb
from reactivedb.errors import RequestError
from reactivedb.values import encode_key

from .conftest import Face

FaceOf = Callable[..., Face]


class User(rdb.Document, table="users"):
    email: str | None = None
    team: str | None
    seat: int = 0
    name: str = ""

    by_email = rdb.Index("email", unique=True)
    by_seat = rdb.Index("team", "seat", unique=True)


def user(email: str | None, seat: int) -> User:
    return User(email=email, team="blue", seat=seat)


def test_a_second_document_with_the_same_values_is_refused_and_the_first_named(face_of: FaceOf) -> None:
    face = face_of(User)
    ada = face.db.insert(user("ada@x", 1))
    with pytest.raises(RequestError) as caught:
        face.db.insert(user("ada@x", 2))
    assert caught.value.code == "UniqueViolation"
    assert caught.value.fields == {
        "table": "users",
        "index": "by_email",
        "values": {"email": "ada@x"},
        "id": ada,
    }
    assert face.db.query(User).count() == 1
    face.commit()
    with pytest.raises(RequestError, match=ada):
        face.db.insert(user("ada@x", 2))


def test_all_fields_of_the_index_count_together(face_of: FaceOf) -> None:
    face = face_of(User)
    face.db.insert(User(team="blue", seat=1))
    face.db.insert(User(team="blue", seat=2))
    face.db.insert(User(team="red", seat=1))
    with pytest.raises(RequestError) as caught:
        face.db.insert(User(team="red", seat=1))
    assert caught.value.fields["values"] == {"team": "red", "seat": 1.0}


def test_documents_that_lack_a_field_are_exempt_and_null_is_a_value(face_of: FaceOf) -> None:
    face = face_of(User)
    face.db.insert(User(team=None, seat=1))
    face.db.insert(User(team=None, seat=2))
    with pytest.raises(RequestError) as caught:
        face.db.insert(User(team=None, seat=2))
    assert caught.value.fields["values"] == {"team": None, "seat": 2.0}


def test_a_default_that_older_documents_read_with_counts_as_their_value(face_of: FaceOf) -> None:
    face = face_of(User)
    face.db.insert(User(team="blue"))
    with pytest.raises(RequestError):
        face.db.insert(User(team="blue", seat=0))


def test_a_document_may_keep_its_own_values(face_of: FaceOf) -> None:
    face = face_of(User)
    ada = face.db.insert(user("ada@x", 1))
    face.db.patch(ada, name="Ada")
    face.db.patch(ada, email="ada@x", seat=1)
    face.db.replace(ada, user("ada@x", 1))
    face.commit()
    face.db.replace(ada, user("ada@x", 1))
    face.db.patch(ada, seat=1.0)
    face.db.patch(ada, email=None)
    face.db.insert(user("ada@x", 2))


def test_patch_and_replace_onto_taken_values_are_refused_and_change_nothing(face_of: FaceOf) -> None:
    face = face_of(User)
    ada, bob = face.db.insert(user("ada@x", 1)), face.db.insert(user("bob@x", 2))
    for write in (
        lambda: face.db.patch(bob, email="ada@x"),
        lambda: face.db.replace(bob, user("bob@x", 1)),
        lambda: face.db.replace(bob, user("ada@x", 2)),
    ):
        with pytest.raises(RequestError) as caught:
            write()
        assert (caught.value.code, caught.value.fields["id"]) == ("UniqueViolation", ada)
    assert face.db.get(bob) == face.db.query(User.by_email.eq("bob@x")).unique()


def test_values_are_free_again_after_a_change_or_a_deletion_in_the_same_transaction(face_of: FaceOf) -> None:
    face = face_of(User)
    ada = face.db.insert(user("ada@x", 1))
    face.commit()
    face.db.patch(ada, email="ada@y")
    eve = face.db.insert(user("ada@x", 2))
    face.db.delete(eve)
    face.db.patch(ada, email="ada@x")
    face.db.delete(ada)
    face.db.insert(user("ada@x", 1))


def test_two_values_are_swapped_by_moving_one_away_first(face_of: FaceOf) -> None:
    face = face_of(User)
    ada, bob = face.db.insert(user("ada@x", 1)), face.db.insert(user("bob@x", 2))
    with pytest.raises(RequestError, match="move one away first"):
        face.db.patch(ada, seat=2)
    face.db.patch(ada, seat=-1)
    face.db.patch(bob, seat=1)
    face.db.patch(ada, seat=2)


def test_a_table_of_dicts_and_a_nested_path_can_be_unique(face_of: FaceOf) -> None:
    notes = rdb.Table("notes", indexes={"by_slug": rdb.Index("meta.slug", unique=True)})
    face = face_of(notes)
    first = face.db.insert(notes, {"meta": {"slug": "a"}})
    face.db.insert(notes, {"meta": {}})
    face.db.insert(notes, {"meta": 1})
    with pytest.raises(RequestError) as caught:
        face.db.insert(notes, {"meta": {"slug": "a"}})
    assert caught.value.fields["id"] == first
    face.db.patch(first, {"meta": {"slug": "b"}})
    face.db.insert(notes, {"meta": {"slug": "a"}})


def test_many_inserts_in_one_run_do_not_use_up_its_ranges(face_of: FaceOf) -> None:
    face = face_of(User, limits=rdb.Limits(ranges_read_max=10))
    for seat in range(50):
        face.db.insert(user(f"{seat}@x", seat))
    assert face.db.query(User).count() == 50


VALUES = [rdb.UNSET, None, 0.0, -0.0, 1.0, True, "a", "", b"a", rdb.Int64(1), [1.0], {"a": 1.0}]
KEYS = st.sampled_from(VALUES)
ACTIONS = st.sampled_from(["insert", "patch", "replace", "delete", "commit"])
STEPS = st.lists(st.tuples(ACTIONS, st.integers(0, 5), KEYS, KEYS), max_size=30)
KEPT = rdb.Table("kept", indexes={"by_pair": rdb.Index("x", "y", unique=True), "by_x": ["x"]})


@given(steps=STEPS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.slow
def test_unique_agrees_with_a_dict(face_of: FaceOf, steps: list[tuple[str, int, Any, Any]]) -> None:
    face = face_of(KEPT)
    model: dict[str, dict[str, Any]] = {}
    for action, which, x, y in steps:
        fields = {name: value for name, value in (("x", x), ("y", y)) if value is not rdb.UNSET}
        id = sorted(model)[which % len(model)] if model and action != "insert" else None
        match action:
            case "commit":
                face.commit()
            case "delete":
                if id is not None:
                    face.db.delete(rdb.Id(id))
                    del model[id]
            case _:
                new = {**model[id], **fields} if action == "patch" and id is not None else fields
                taken = [other for other in model if other != id and key_of(model[other]) == key_of(new)]
                refused_for, id = written(face, action, id, fields)
                assert refused_for == (taken if key_of(new) else [])
                if not refused_for:
                    model[id] = new
    stored = {document["_id"]: document for document in face.db.query(KEPT)}
    assert {id: {k: v for k, v in d.items() if k[0] != "_"} for id, d in stored.items()} == model


def key_of(fields: dict[str, Any]) -> bytes | None:
    return encode_key((fields["x"], fields["y"])) if len(fields) == 2 else None


def written(face: Face, action: str, id: str | None, fields: dict[str, Any]) -> tuple[list[str], str]:
    """Who is in the way of the write, and the id of what was written."""
    try:
        if id is None:
            return [], face.db.insert(KEPT, fields)
        write = face.db.patch if action == "patch" else face.db.replace
        write(rdb.Id(id), fields)
    except RequestError as error:
        return [error.fields["id"]], ""
    return [], id


# Whole applications


@rdb.mutation
def register(ctx: rdb.MutationCtx, email: str, seat: int) -> rdb.Id[User]:
    return ctx.db.insert(user(email, seat))


@rdb.mutation
def register_or_find(ctx: rdb.MutationCtx, email: str, seat: int) -> bool:
    try:
        ctx.run_mutation(register, email, seat)
    except RequestError as error:
        return error.code != "UniqueViolation"
    return True


@rdb.mutation
def register_twice(ctx: rdb.MutationCtx, email: str, seat: int) -> None:
    ctx.run_mutation(register, email, seat)
    ctx.run_mutation(register, f"{email}2", seat)


@rdb.query
def emails(ctx: rdb.QueryCtx) -> list[str | None]:
    return [found.email for found in ctx.db.query(User.by_email)]


FUNCTIONS = (User, register, register_or_find, register_twice, emails)


def test_one_of_ten_threads_registers_and_the_others_are_told() -> None:
    results: list[str] = []
    start = threading.Barrier(10)

    with app_of(*FUNCTIONS).open() as db:

        def client(seat: int) -> None:
            start.wait()
            try:
                results.append(db.mutation(register, "ada@x", seat))
            except RequestError as error:
                results.append(error.code)

        clients = [threading.Thread(target=client, args=(seat,)) for seat in range(10)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        assert sorted(results).count("UniqueViolation") == 9
        assert db.query(emails) == ["ada@x"]


async def _registrations(path: Path) -> tuple[list[bool], list[str | None]]:
    async with app_of(*FUNCTIONS).open_async(path) as db:
        calls = [db.mutation(register_or_find, f"{n % 5}@x", n) for n in range(50)]
        return list(await asyncio.gather(*calls)), await db.query(emails)


def test_fifty_calls_for_five_addresses_make_five_documents(tmp_path: Path) -> None:
    created, found = asyncio.run(_registrations(tmp_path / "data.db"))
    assert created.count(True) == 5
    assert found == [f"{n}@x" for n in range(5)]


def test_a_refused_mutation_leaves_nothing_and_its_values_free() -> None:
    with app_of(*FUNCTIONS).open() as db:
        with pytest.raises(RequestError):
            db.mutation(register_twice, "ada@x", 1)
        assert db.query(emails) == []
        db.mutation(register, "ada@x", 1)


class LooseUser(rdb.Document, table="users"):
    email: str

    by_email = rdb.Index("email")


class StrictUser(rdb.Document, table="users"):
    email: str

    by_email = rdb.Index("email", unique=True)


@rdb.mutation
def add(ctx: rdb.MutationCtx, email: str) -> str:
    return ctx.db.insert(LooseUser(email=email))


def test_an_index_becomes_unique_only_if_what_is_stored_allows_it(tmp_path: Path) -> None:
    loose, strict = app_of(LooseUser, add), app_of(StrictUser)
    with loose.open(tmp_path / "data.db") as db:
        first, second = db.mutation(add, "ada@x"), db.mutation(add, "ada@x")
        db.mutation(add, "bob@x")
    with pytest.raises(rdb.SchemaError) as caught:
        strict.open(tmp_path / "data.db")
    assert caught.value.code == "SchemaMismatch"
    assert caught.value.fields["count"] == 1
    assert first in caught.value.message
    assert second in caught.value.message


def test_an_index_that_was_unique_is_checked_again_when_it_comes_back(tmp_path: Path) -> None:
    loose, strict = app_of(LooseUser, add), app_of(StrictUser)
    strict.open(tmp_path / "data.db").close()
    with loose.open(tmp_path / "data.db") as db:
        db.mutation(add, "ada@x")
        db.mutation(add, "ada@x")
    with pytest.raises(rdb.SchemaError):
        strict.open(tmp_path / "data.db")


def test_two_writers_on_one_log_cannot_both_take_a_value(face_of: FaceOf) -> None:
    face = face_of(User)
    late = Face(face.engine, face.clock)
    face.db.insert(user("ada@x", 1))
    late.db.insert(user("ada@x", 2))
    face.commit()
    with pytest.raises(rdb.ConflictError):
        late.commit()


def test_a_writer_of_other_values_does_not_conflict(face_of: FaceOf) -> None:
    face = face_of(User)
    late = Face(face.engine, face.clock)
    face.db.insert(user("ada@x", 1))
    late.db.insert(user("ada@y", 2))
    face.commit()
    late.commit()
    assert late.db.query(User).count() == 2


def test_a_refusal_that_was_caught_is_part_of_what_the_writer_read(face_of: FaceOf) -> None:
    face = face_of(User)
    ada = face.db.insert(user("ada@x", 1))
    face.commit()
    late = Face(face.engine, face.clock)
    with pytest.raises(RequestError):
        late.db.insert(user("ada@x", 2))
    late.db.insert(user("eve@x", 3))
    face.db.delete(ada)
    face.commit()
    with pytest.raises(rdb.ConflictError):
        late.commit()


@pytest.mark.parametrize(("first", "second"), [(0.0, -0.0), (1.0, True), (1.0, rdb.Int64(1))])
def test_values_that_python_takes_for_equal_are_told_apart(face_of: FaceOf, first: Any, second: Any) -> None:
    face = face_of(KEPT)
    one = face.db.insert(KEPT, {"x": first, "y": "y"})
    other = face.db.insert(KEPT, {"x": second, "y": "y"})
    with pytest.raises(RequestError) as caught:
        face.db.patch(one, {"x": second})
    assert caught.value.fields["id"] == other


class OldPage(rdb.Document, table="pages"):
    slug: str


class NewPage(rdb.Document, table="pages"):
    slug: str
    language: str = "en"

    by_slug = rdb.Index("slug", "language", unique=True)


@rdb.mutation
def add_old_page(ctx: rdb.MutationCtx) -> str:
    return ctx.db.insert(OldPage(slug="home"))


@rdb.mutation
def add_page(ctx: rdb.MutationCtx, language: str) -> str:
    return ctx.db.insert(NewPage(slug="home", language=language))


def test_a_document_older_than_a_field_has_the_value_it_reads_with(tmp_path: Path) -> None:
    with app_of(OldPage, add_old_page).open(tmp_path / "data.db") as db:
        old = db.mutation(add_old_page)
    with app_of(NewPage, add_page).open(tmp_path / "data.db") as db:
        db.mutation(add_page, "de")
        with pytest.raises(RequestError) as caught:
            db.mutation(add_page, "en")
        assert caught.value.fields["id"] == old
