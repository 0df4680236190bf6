"""What do functions see of files, and what becomes of them with a transaction?"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID

import anyio
import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.functions import ANONYMOUS
from reactivedb.testing import FakeClock
from reactivedb.values import decode_id, encode_id

from . import application as files
from .application import ORIGIN, FileId, file_app


@pytest.fixture(autouse=True)
def _origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEX_CLOUD_URL", f"{ORIGIN}/")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[rdb.Database]:
    with file_app().open(tmp_path / "data.db") as opened:
        yield opened


def folder(tmp_path: Path) -> list[str]:
    found = tmp_path / "data.db.files"
    return sorted(os.listdir(found)) if found.exists() else []


def refused(code: str, call: Any, *args: Any) -> rdb.ReactiveDBError:
    with pytest.raises(rdb.ReactiveDBError) as caught:
        call(*args)
    assert caught.value.code == code
    return caught.value


def test_a_database_without_files_has_no_folder_for_them(db: rdb.Database, tmp_path: Path) -> None:
    assert db.query(files.all_files) == []
    assert not (tmp_path / "data.db.files").exists()


def test_a_stored_file_is_read_back_and_known_by_its_row(db: rdb.Database, tmp_path: Path) -> None:
    data = os.urandom(1000)
    id = db.action(files.store, data, "image/png")
    assert db.action(files.read, id) == data
    [row] = db.query(files.all_files)
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert (row.id, row.sha256, row.size, row.content_type) == (id, digest, 1000, "image/png")
    assert db.query(files.metadata, id) == row
    url = db.query(files.url, id)
    assert db.action(files.described, id) == [id, digest, 1000, "image/png", url]
    assert folder(tmp_path) == [id]


def test_the_row_is_sent_with_a_null_for_a_file_without_a_content_type(db: rdb.Database) -> None:
    id = db.action(files.store, b"")
    runtime = db.runtime
    definition = runtime.runner.registry.of(files.metadata)
    result = runtime.runner.query(definition, {"id": id}, ANONYMOUS)
    created = db.query(files.all_files)[0].creation_time
    digest = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    assert result.value.stored_json() is not None
    assert (
        result.encoded()
        == (
            f'{{"_id":"{id}","_creationTime":{created!r},"sha256":"{digest}","size":0,"contentType":null}}'
        ).encode()
    )


def test_a_file_comes_and_goes_in_pieces(db: rdb.Database) -> None:
    id = db.action(files.store_in_pieces, b"x" * 100_000, 7)
    lengths = db.action(files.lengths, id)
    assert sum(lengths) == 700_000
    assert max(lengths) <= 256 * 1024


def test_a_url_is_a_secret_of_its_own_and_stays_the_same(tmp_path: Path) -> None:
    with file_app().open(tmp_path / "data.db") as db:
        ids = [db.action(files.store, b"a") for _ in range(2)]
        urls = [db.query(files.url, id) for id in ids]
    with file_app().open(tmp_path / "data.db") as db:
        assert [db.query(files.url, id) for id in ids] == urls
    with file_app().open(":memory:") as other:
        other.action(files.store, b"a")
        assert other.query(files.url, ids[0]) is None
    secrets = [UUID(urlsplit(url or "").path.removeprefix("/api/storage/")) for url in urls]
    assert len(set(secrets)) == 2
    assert (urls[0] or "").startswith(f"{ORIGIN}/api/storage/")
    # Nothing of it stands in what a function can see of a file.
    assert decode_id(ids[0])[1] != secrets[0].bytes


def test_a_file_that_does_not_exist_has_no_url_and_cannot_be_deleted(db: rdb.Database) -> None:
    missing = encode_id(513, bytes(16))
    assert db.query(files.url, missing) is None
    refused("DocumentNotFound", db.mutation, files.remove, missing)
    refused("InvalidId", db.query, files.url, "nonsense")
    photo = db.mutation(files.attach, "photo", db.action(files.store, b""))
    refused("NotAFile", db.query, files.url, photo)
    refused("NotAFile", db.mutation, files.remove, photo)


def test_a_query_of_a_url_runs_again_when_the_file_is_deleted(db: rdb.Database) -> None:
    id = db.action(files.store, b"a")
    with db.subscribe(files.url, id) as live:
        assert (live.wait_for_change(timeout_s=5) or "").startswith(ORIGIN)
        db.action(files.store, b"another file is none of its business")
        db.mutation(files.remove, id)
        assert live.wait_for_change(timeout_s=5) is None
        assert live.run_count == 2


def test_deletion_removes_the_file_once_it_is_committed(tmp_path: Path) -> None:
    with file_app().open(tmp_path / "data.db") as db:
        kept, removed = db.action(files.store, b"a"), db.action(files.store, b"b")
        assert db.action(files.remove_and_look, removed) == [None, None]
        refused("DocumentNotFound", db.mutation, files.remove, removed)
    # Closing waits for what is to be removed.
    assert folder(tmp_path) == [kept]


def test_h82_a_mutation_that_raises_deletes_no_file(tmp_path: Path) -> None:
    with file_app().open(tmp_path / "data.db") as db:
        id = db.action(files.store, b"still here")
        refused("ApplicationError", db.mutation, files.remove_then_fail, id)
        assert db.action(files.read, id) == b"still here"
        assert db.query(files.url, id) is not None
    assert folder(tmp_path) == [id]


def test_h82_a_nested_mutation_that_raises_deletes_no_file(tmp_path: Path) -> None:
    with file_app().open(tmp_path / "data.db") as db:
        kept, removed = db.action(files.store, b"kept"), db.action(files.store, b"removed")
        db.mutation(files.remove_in_a_failed_part, kept, removed)
        assert [row.id for row in db.query(files.all_files)] == [kept]
        assert db.action(files.read, kept) == b"kept"
    assert folder(tmp_path) == [kept]


def test_a_file_that_cannot_be_stored_leaves_nothing(tmp_path: Path) -> None:
    limits = rdb.Limits(file_size_bytes_max=1000)
    with file_app(limits).open(tmp_path / "data.db") as db:
        full = db.action(files.store, b"x" * 1000)
        error = refused("FileTooLarge", db.action, files.store, b"x" * 1001)
        assert isinstance(error, rdb.LimitExceededError)
        assert (error.limit, error.maximum) == ("file_size_bytes_max", 1000)
        refused("FileTooLarge", db.action, files.store_in_pieces, b"x" * 100, 11)
        refused("ApplicationError", db.action, files.store_in_pieces, b"x", 1, True)
        assert [row.id for row in db.query(files.all_files)] == [full]
        assert folder(tmp_path) == [full]


@pytest.mark.parametrize(
    "content_type",
    ["", " ", "text/plain ", "text/html\r\nSet-Cookie: a=b", "x" * 256, "text/\u00e9", "a\x00"],
)
def test_a_content_type_that_is_no_header_is_refused(tmp_path: Path, content_type: str) -> None:
    with file_app().open(tmp_path / "data.db") as db:
        refused("InvalidContentType", db.action, files.store, b"", content_type)
    assert folder(tmp_path) == []


def test_upload_urls_are_each_their_own(db: rdb.Database) -> None:
    urls = [*db.mutation(files.two_upload_urls), db.mutation(files.upload_url)]
    urls.append(db.action(files.upload_url_from_action))
    assert len(set(urls)) == 4
    assert all(url.startswith(f"{ORIGIN}/api/storage/upload?token=") for url in urls)


def test_without_a_server_a_url_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CONVEX_CLOUD_URL")
    with file_app().open(tmp_path / "data.db") as db:
        id = db.action(files.store, b"a")
        assert "CONVEX_CLOUD_URL" in str(refused("AddressUnknown", db.query, files.url, id))
        assert "CONVEX_CLOUD_URL" in str(refused("AddressUnknown", db.mutation, files.upload_url))
        assert db.action(files.read, id) == b"a"


def test_files_of_a_database_in_memory_end_with_it() -> None:
    with file_app().open() as db:
        id = db.action(files.store, b"a")
        place = db.runtime.runner.files._path(id)  # pyright: ignore[reportPrivateUsage]
        assert place.read_bytes() == b"a"
    assert not place.parent.exists()


def test_the_past_knows_a_file_that_is_gone(db: rdb.Database) -> None:
    id = db.action(files.store, b"a")
    before = db.latest_ts
    db.mutation(files.remove, id)
    with db.at(before) as past:
        assert past.query(files.url, id) is not None
    assert db.query(files.url, id) is None


def test_files_outlive_a_reload_and_a_restart(tmp_path: Path) -> None:
    with file_app().open(tmp_path / "data.db") as db:
        first = db.action(files.store, b"first")
        db.runtime.loop.call_soon_threadsafe(db.runtime.reload, file_app())
        db.run_until_idle()
        assert db.action(files.read, first) == b"first"
        second = db.action(files.store, b"second")
    with file_app().open(tmp_path / "data.db") as db:
        assert db.action(files.read, first) == b"first"
        db.mutation(files.remove, first)
    assert folder(tmp_path) == [second]


# References


def test_documents_follow_the_deletion_of_their_file_as_their_rules_say(db: rdb.Database) -> None:
    photo, avatar = db.action(files.store, b"a"), db.action(files.store, b"b")
    db.mutation(files.attach, "photo", photo)
    db.mutation(files.attach, "avatar", avatar)
    assert db.query(files.attached) == [photo, avatar]
    db.mutation(files.remove, photo)
    db.mutation(files.remove, avatar)
    assert db.query(files.attached) == [None]


def test_a_file_that_a_document_needs_is_not_deleted(tmp_path: Path) -> None:
    with file_app().open(tmp_path / "data.db") as db:
        id = db.action(files.store, b"a")
        db.mutation(files.attach, "contract", id)
        refused("DeleteRestricted", db.mutation, files.remove, id)
        assert db.action(files.read, id) == b"a"
    assert folder(tmp_path) == [id]


def test_a_cascade_longer_than_a_batch_is_carried_on(tmp_path: Path) -> None:
    class Copy(rdb.Document, table="copies"):
        file: Annotated[FileId, rdb.OnDelete("cascade")]

        by_file = rdb.Index("file")

    @rdb.mutation
    def copy(ctx: rdb.MutationCtx, file: FileId) -> None:
        for _ in range(25):
            ctx.db.insert(Copy(file=file))

    @rdb.query
    def count(ctx: rdb.QueryCtx) -> int:
        return ctx.db.query(Copy).count()

    limits = rdb.Limits(cascade_batch_max=10)
    app = app_of(Copy, copy, count, files.store, files.remove, limits=limits)
    with app.open(tmp_path / "data.db") as db:
        id = db.action(files.store, b"a")
        db.mutation(copy, id)
        db.mutation(files.remove, id)
        db.run_until_idle()
        assert db.query(count) == 0
    assert folder(tmp_path) == []


# Failures


def test_an_action_that_lost_its_lease_stores_nothing(tmp_path: Path) -> None:
    refusals: list[str] = []

    @rdb.action
    async def slow(ctx: rdb.ActionCtx) -> None:
        await ctx.run_mutation(cancel_all)
        with anyio.CancelScope(shield=True):
            try:
                await ctx.storage.store(b"too late")
            except rdb.ReactiveDBError as error:
                refusals.append(error.code)

    @rdb.mutation
    def begin(ctx: rdb.MutationCtx) -> None:
        ctx.scheduler.run_after(0, slow)

    @rdb.mutation
    def cancel_all(ctx: rdb.MutationCtx) -> None:
        for job in ctx.db.system.query("_scheduled_functions").collect():
            ctx.scheduler.cancel(job["_id"])

    app = app_of(slow, begin, cancel_all, files.all_files)
    with app.open(tmp_path / "data.db", clock=FakeClock()) as db:
        db.mutation(begin)
        db.run_until_idle()
        assert db.query(files.all_files) == []
    assert refusals == ["LeaseLost"]
    assert folder(tmp_path) == []


def test_what_a_crash_left_over_is_removed_at_the_next_opening(tmp_path: Path) -> None:
    place = tmp_path / "data.db.files"
    with file_app().open(tmp_path / "data.db") as db:
        kept = db.action(files.store, b"kept")
    orphan, half = encode_id(513, bytes(16)), encode_id(513, bytes(15) + b"1")
    (place / orphan).write_bytes(b"its row was never committed, or its deletion was")
    (place / f"{half}.part").write_bytes(b"hal")
    (place / f"{kept}.part").write_bytes(b"hal")
    (place / "a note of the administrator").write_bytes(b"")
    with file_app().open(tmp_path / "data.db") as db:
        db.run_until_idle()
    assert folder(tmp_path) == ["a note of the administrator", kept]


async def _texts() -> AsyncIterator[str]:
    yield "text"


@pytest.mark.parametrize("make", [lambda: "text", lambda: None, lambda: [b"a"], _texts])
def test_what_is_no_bytes_is_refused_and_nothing_is_left(tmp_path: Path, make: Callable[[], Any]) -> None:
    @rdb.action
    async def store_anything(ctx: rdb.ActionCtx) -> None:
        await ctx.storage.store(make())

    with app_of(store_anything).open(tmp_path / "data.db") as db:
        refused("NotBytes", db.action, store_anything)
    assert folder(tmp_path) == []
