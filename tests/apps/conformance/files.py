"""Files as an application has them: whose they are, how they get in, what becomes of them."""

from __future__ import annotations

from typing import Annotated, Any

import reactivedb as rdb

FileId = rdb.Id[rdb.StoredFile]


class Attachment(rdb.Document, table="attachments"):
    owner: str
    file: Annotated[FileId, rdb.OnDelete("cascade")]

    by_owner = rdb.Index("owner")
    by_file = rdb.Index("file")


@rdb.mutation
def generate_upload_url(ctx: rdb.MutationCtx) -> str:
    return ctx.storage.generate_upload_url()


@rdb.mutation
def attach(ctx: rdb.MutationCtx, owner: str, file: FileId) -> rdb.Id[Attachment]:
    return ctx.db.insert(Attachment(owner=owner, file=file))


@rdb.query
def get_url(ctx: rdb.QueryCtx, id: FileId) -> str | None:
    return ctx.storage.get_url(id)


@rdb.query
def urls_of(ctx: rdb.QueryCtx, owner: str) -> list[str | None]:
    return [ctx.storage.get_url(found.file) for found in ctx.db.query(Attachment.by_owner.eq(owner))]


@rdb.query
def metadata(ctx: rdb.QueryCtx, id: FileId) -> rdb.StoredFile | None:
    return ctx.db.system.get(id)


@rdb.query
def all_files(ctx: rdb.QueryCtx) -> list[rdb.StoredFile]:
    return ctx.db.system.query(rdb.StoredFile).collect()


@rdb.mutation
def remove(ctx: rdb.MutationCtx, id: FileId) -> None:
    ctx.storage.delete(id)


@rdb.mutation
def remove_but_fail(ctx: rdb.MutationCtx, id: FileId) -> None:
    ctx.storage.delete(id)
    raise rdb.ApplicationError("changed my mind")


@rdb.action
async def store(ctx: rdb.ActionCtx, data: bytes, content_type: str | None = None) -> FileId:
    return await ctx.storage.store(data, content_type=content_type)


@rdb.action
async def load(ctx: rdb.ActionCtx, id: FileId) -> dict[str, Any] | None:
    blob = await ctx.storage.get(id)
    if blob is None:
        return None
    return {"data": await blob.read(), "contentType": blob.content_type, "size": blob.size_bytes}
