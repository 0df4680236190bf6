"""An application with files, opened in the test's own process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from inline_app import app_of

import reactivedb as rdb

FileId = rdb.Id[rdb.StoredFile]
ORIGIN = "https://files.example"


class Photo(rdb.Document, table="photos"):
    file: Annotated[FileId, rdb.OnDelete("cascade")]

    by_file = rdb.Index("file")


class Avatar(rdb.Document, table="avatars"):
    file: Annotated[FileId | None, rdb.OnDelete("set_null")] = None

    by_file = rdb.Index("file")


class Contract(rdb.Document, table="contracts"):
    file: Annotated[FileId, rdb.OnDelete("restrict")]

    by_file = rdb.Index("file")


@rdb.action
async def store(ctx: rdb.ActionCtx, data: bytes, content_type: str | None = None) -> FileId:
    return await ctx.storage.store(data, content_type=content_type)


@rdb.action
async def store_in_pieces(ctx: rdb.ActionCtx, piece: bytes, count: int, fails: bool = False) -> FileId:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield piece
        if fails:
            raise rdb.ApplicationError("the source has dried up")

    return await ctx.storage.store(pieces())


@rdb.action
async def read(ctx: rdb.ActionCtx, id: FileId) -> bytes | None:
    blob = await ctx.storage.get(id)
    return None if blob is None else await blob.read()


@rdb.action
async def lengths(ctx: rdb.ActionCtx, id: FileId) -> list[int]:
    blob = await ctx.storage.get(id)
    assert blob is not None
    return [len(piece) async for piece in blob.stream()]


@rdb.action
async def described(ctx: rdb.ActionCtx, id: FileId) -> list[Any]:
    blob = await ctx.storage.get(id)
    assert blob is not None
    return [blob.id, blob.sha256, blob.size_bytes, blob.content_type, await ctx.storage.get_url(id)]


@rdb.action
async def remove_and_look(ctx: rdb.ActionCtx, id: FileId) -> list[Any]:
    await ctx.storage.delete(id)
    return [await ctx.storage.get_url(id), await ctx.storage.get(id)]


@rdb.action
async def upload_url_from_action(ctx: rdb.ActionCtx) -> str:
    return await ctx.storage.generate_upload_url()


@rdb.mutation
def upload_url(ctx: rdb.MutationCtx) -> str:
    return ctx.storage.generate_upload_url()


@rdb.mutation
def two_upload_urls(ctx: rdb.MutationCtx) -> list[str]:
    return [ctx.storage.generate_upload_url(), ctx.storage.generate_upload_url()]


@rdb.query
def url(ctx: rdb.QueryCtx, id: str) -> str | None:
    return ctx.storage.get_url(id)


@rdb.query
def metadata(ctx: rdb.QueryCtx, id: FileId) -> Any:
    return ctx.db.system.get(id)


@rdb.query
def all_files(ctx: rdb.QueryCtx) -> list[rdb.StoredFile]:
    return ctx.db.system.query(rdb.StoredFile).collect()


@rdb.mutation
def remove(ctx: rdb.MutationCtx, id: str) -> None:
    ctx.storage.delete(id)


@rdb.mutation
def remove_then_fail(ctx: rdb.MutationCtx, id: FileId) -> None:
    ctx.storage.delete(id)
    raise rdb.ApplicationError("changed my mind")


@rdb.mutation
def remove_in_a_failed_part(ctx: rdb.MutationCtx, kept: FileId, removed: FileId) -> None:
    try:
        ctx.run_mutation(remove_then_fail, kept)
    except rdb.ApplicationError:
        ctx.storage.delete(removed)


@rdb.mutation
def attach(ctx: rdb.MutationCtx, kind: str, file: FileId) -> Any:
    made = {"photo": Photo, "avatar": Avatar, "contract": Contract}[kind](file=file)
    return ctx.db.insert(made)


@rdb.query
def attached(ctx: rdb.QueryCtx) -> list[Any]:
    photos = [photo.file for photo in ctx.db.query(Photo)]
    return [*photos, *(avatar.file for avatar in ctx.db.query(Avatar))]


FUNCTIONS = (
    *(store, store_in_pieces, read, lengths, described, remove_and_look, upload_url_from_action),
    *(upload_url, two_upload_urls, url, metadata, all_files),
    *(remove, remove_then_fail, remove_in_a_failed_part, attach, attached),
)


def file_app(limits: rdb.Limits | None = None) -> rdb.App:
    return app_of(Photo, Avatar, Contract, *FUNCTIONS, name="files", limits=limits)
