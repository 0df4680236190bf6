"""The application of the recorded files. Every release can run it, so it uses what the first one had."""

from __future__ import annotations

import reactivedb as rdb


class Note(rdb.Document, table="notes"):
    author: str
    text: str
    rank: float = 0.0
    data: bytes = b""
    big: rdb.Int64 | None = None

    by_author = rdb.Index("author", "rank")


class Counter(rdb.Document, table="counters"):
    count: int


@rdb.mutation
def add(ctx: rdb.MutationCtx, author: str, text: str, rank: float) -> rdb.Id[Note]:
    print("adding", text[:10])
    return ctx.db.insert(
        Note(author=author, text=text, rank=rank, data=text.encode()[:8], big=rdb.Int64(2**60))
    )


@rdb.mutation
def change(ctx: rdb.MutationCtx, id: rdb.Id[Note], text: str) -> None:
    ctx.db.patch(id, text=text)


@rdb.mutation
def remove(ctx: rdb.MutationCtx, id: rdb.Id[Note]) -> None:
    ctx.db.delete(id)


@rdb.mutation
def count_up(ctx: rdb.MutationCtx) -> int:
    counter = ctx.db.query(Counter).first()
    if counter is None:
        ctx.db.insert(Counter(count=1))
        return 1
    ctx.db.patch(counter.id, count=counter.count + 1)
    return counter.count + 1


@rdb.mutation
def count_later(ctx: rdb.MutationCtx, delay_s: float) -> None:
    ctx.scheduler.run_after(delay_s, count_up)


@rdb.query
def counted(ctx: rdb.QueryCtx) -> int:
    counter = ctx.db.query(Counter).first()
    return counter.count if counter is not None else 0


@rdb.query
def notes_of(ctx: rdb.QueryCtx, author: str) -> list[Note]:
    return ctx.db.query(Note.by_author.eq(author)).collect()


@rdb.query
def page(ctx: rdb.QueryCtx, options: rdb.PaginationOptions) -> rdb.PaginationResult[Note]:
    return ctx.db.query(Note.by_author).paginate(options)


@rdb.action
async def store(ctx: rdb.ActionCtx, data: bytes) -> rdb.Id[rdb.StoredFile]:
    return await ctx.storage.store(data, content_type="text/plain")


@rdb.action
async def read(ctx: rdb.ActionCtx, id: rdb.Id[rdb.StoredFile]) -> bytes | None:
    blob = await ctx.storage.get(id)
    return None if blob is None else await blob.read()
