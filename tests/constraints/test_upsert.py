"""Does an upsert insert what is missing and patch what is there?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.errors import RequestError, ValidationError

from .conftest import Face

FaceOf = Callable[..., Face]


class Setting(rdb.Document, table="settings"):
    owner_name: str
    key: str | None = None
    value: float = 0
    note: str | None = None
    kind: Annotated[Literal["a", "b"], rdb.Transitions({"a": ["b"]})] = "a"
    slug: str | None = None

    by_owner = rdb.Index("owner_name", "key", unique=True)
    by_slug = rdb.Index("slug", unique=True)
    by_value = rdb.Index("value")


AT = Setting.by_owner.eq("ada", "volume")


def test_the_first_upsert_inserts_with_the_fields_of_the_key_and_the_second_patches(face_of: FaceOf) -> None:
    face = face_of(Setting)
    first = face.db.upsert(AT, value=3, note="loud")
    id, created = face.db.upsert(AT, value=4)
    assert (first.created, id, created) == (True, first.id, False)
    found = face.db.query(Setting).collect()
    assert [(s.owner_name, s.key, s.value, s.note) for s in found] == [("ada", "volume", 4, "loud")]
    face.commit()
    assert not face.db.upsert(AT).created


def test_of_a_document_only_what_was_given_is_changed(face_of: FaceOf) -> None:
    face = face_of(Setting)
    setting = Setting(owner_name="ada", key="volume", value=3, note="loud")
    assert face.db.upsert(AT, setting).created
    face.db.upsert(AT, Setting(owner_name="ada", key="volume", note=None))
    found = face.db.query(AT).unique()
    assert found is not None
    assert (found.value, found.note) == (3, None)


def test_wire_names_are_taken_too_and_a_table_of_dicts_is_upserted(face_of: FaceOf) -> None:
    counters = rdb.Table("counters", indexes={"by_name": rdb.Index("name", unique=True)})
    face = face_of(Setting, counters)
    face.db.upsert(Setting.by_owner.eq("bob", "k"), {"ownerName": "bob", "value": 1})
    at = counters.index("by_name").eq("hits")
    assert face.db.upsert(at, {"count": 1}).created
    assert not face.db.upsert(at, {"count": 2}).created
    (only,) = face.db.query(counters).collect()
    assert (only["name"], only["count"]) == ("hits", 2)


class Place(rdb.Model):
    city: str
    zip_code: str | None = None


class Shop(rdb.Document, table="shops"):
    place: Place
    name: str = ""

    by_place = rdb.Index("place.city", "place.zip_code", unique=True)
    by_city = rdb.Index("place", "place.city", unique=True)


@pytest.mark.parametrize(
    "at", [Shop.by_place.eq("Oslo", "1"), Shop.by_city.eq(Place(city="Oslo", zip_code="1"), "Oslo")]
)
def test_a_key_within_an_object_need_not_be_given_again_either(face_of: FaceOf, at: Any) -> None:
    face = face_of(Shop)
    assert face.db.upsert(at, name="first").created
    assert not face.db.upsert(at, name="second").created
    found = face.db.query(Shop).unique()
    assert found is not None
    assert (found.place, found.name) == (Place(city="Oslo", zip_code="1"), "second")
    with pytest.raises(ValidationError) as caught:
        face.db.upsert(at, place=Place(city="Oslo"))
    assert caught.value.code == "UpsertKeyMismatch"


def test_a_dict_that_was_read_can_be_upserted_with_a_change(face_of: FaceOf) -> None:
    counters = rdb.Table("counters", indexes={"by_name": rdb.Index("name", unique=True)})
    face = face_of(counters)
    at = counters.index("by_name").eq("hits")
    id = face.db.upsert(at, {"count": 1}).id
    face.db.upsert(at, face.db.get(id) | {"count": 2})
    assert face.db.get(id)["count"] == 2
    with pytest.raises(ValidationError):
        face.db.upsert(at, face.db.get(id) | {"_creationTime": 1.0})


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ({"value": 2}, {"note": "lost"}),
        (Setting(owner_name="ada", key="volume"), {"note": "lost"}),
        ("volume", {}),
    ],
)
def test_an_upsert_takes_one_thing_and_drops_nothing(
    face_of: FaceOf, document: Any, fields: dict[str, Any]
) -> None:
    face = face_of(Setting)
    with pytest.raises(ValidationError) as caught:
        face.db.upsert(AT, document, **fields)
    assert caught.value.code == "InvalidUpsert"


@pytest.mark.parametrize(
    ("code", "key", "fields"),
    [
        ("UpsertNeedsUnique", Setting.by_owner.eq("ada"), {}),
        ("UpsertNeedsUnique", Setting.by_owner.eq("ada").gt("a"), {}),
        ("UpsertNeedsUnique", Setting.by_owner.eq("ada", None), {}),
        ("UpsertNeedsUnique", Setting.by_value.eq(1), {}),
        ("UpsertNeedsUnique", Setting, {}),
        ("UpsertKeyMismatch", AT, {"key": "other"}),
        ("UpsertKeyMismatch", AT, {"owner_name": "bob", "key": "volume"}),
        ("ValidationError", AT, {"valu": 3}),
        ("ValidationError", AT, {"value": "3"}),
    ],
)
def test_what_is_no_key_or_does_not_agree_with_it_is_refused(
    face_of: FaceOf, code: str, key: Any, fields: dict[str, Any]
) -> None:
    face = face_of(Setting)
    face.db.upsert(AT, value=1)
    with pytest.raises(ValidationError) as caught:
        face.db.upsert(key, **fields)
    assert caught.value.code == code


def test_the_other_rules_of_the_table_hold(face_of: FaceOf) -> None:
    face = face_of(Setting)
    other = face.db.insert(Setting(owner_name="bob", slug="x"))
    with pytest.raises(RequestError) as caught:
        face.db.upsert(AT, slug="x")
    assert caught.value.fields["id"] == other
    face.db.upsert(AT, kind="b")
    with pytest.raises(RequestError) as caught:
        face.db.upsert(AT, kind="a")
    assert caught.value.code == "TransitionNotAllowed"


def test_a_document_of_another_table_is_refused(face_of: FaceOf) -> None:
    class Other(rdb.Document, table="others"):
        value: float = 0

    face = face_of(Setting, Other)
    for _ in range(2):
        with pytest.raises(ValidationError):
            face.db.upsert(AT, Other(value=1))  # pyright: ignore[reportArgumentType, reportCallIssue]
        face.db.upsert(AT)


@rdb.mutation
def hit(ctx: rdb.MutationCtx, name: str) -> bool:
    at = Setting.by_owner.eq(name, "hits")
    found = ctx.db.query(at).unique()
    return ctx.db.upsert(at, value=found.value + 1 if found else 1).created


@rdb.query
def hits(ctx: rdb.QueryCtx, name: str) -> list[float]:
    return [setting.value for setting in ctx.db.query(Setting.by_owner.eq(name, "hits"))]


async def _hits(path: Path) -> tuple[list[bool], list[float]]:
    async with app_of(Setting, hit, hits).open_async(path) as db:
        created = await asyncio.gather(*(db.mutation(hit, "ada") for _ in range(100)))
        return list(created), await db.query(hits, "ada")


def test_a_hundred_clients_counting_at_one_key_make_one_document_and_lose_nothing(tmp_path: Path) -> None:
    created, found = asyncio.run(_hits(tmp_path / "data.db"))
    assert created.count(True) == 1
    assert found == [100]
