"""What callers write, and the types they get: everything here must be accepted."""

from typing import Any, assert_type

import reactivedb as rdb

from . import rooms

app = rdb.App(rooms)
drafts = rdb.Table("drafts", indexes={"by_room": ["room"]})


def embedded() -> None:
    with app.open("chat.db") as chat:
        room_id = chat.mutation(rooms.open_room, name="kitchen")
        assert_type(room_id, rdb.Id[rooms.Room])
        with chat.subscribe(rooms.newest, room_id) as live:
            chat.mutation(rooms.write, room_id, author="ada", text="hi")
            notes = live.wait_for_change(timeout_s=1)
            assert_type(notes, list[rooms.Note])
            assert_type(notes[0].id, rdb.Id[rooms.Note])


async def in_a_loop(room_id: rdb.Id[rooms.Room]) -> None:
    async with app.open_async("chat.db") as chat, chat.subscribe(rooms.newest, room_id) as results:
        await chat.mutation(rooms.write, room_id, author="ada", text="hi")
        async for notes in results:
            assert_type(notes, list[rooms.Note])


def first_of(ctx: rdb.QueryCtx, room_id: rdb.Id[rooms.Room], author: str) -> rooms.Note | None:
    """A helper written for queries, usable in mutations."""
    mine = ctx.db.query(rooms.Note.by_room.eq(room_id)).filter(lambda note: note.author == author)
    return mine.first()


@rdb.mutation
def uses_the_helper(ctx: rdb.MutationCtx, room_id: rdb.Id[rooms.Room]) -> bool:
    assert_type(ctx.db.query(rooms.Note).collect(), list[rooms.Note])
    return first_of(ctx, room_id, "ada") is not None


@rdb.mutation
def uses_dicts(ctx: rdb.MutationCtx, room_id: rdb.Id[rooms.Room]) -> list[dict[str, Any]]:
    ctx.db.insert(drafts, {"room": room_id, "text": "..."})
    return ctx.db.query(drafts.index("by_room").eq(room_id)).collect()


@rdb.query
def merged(ctx: rdb.QueryCtx, rooms_of_mine: list[rdb.Id[rooms.Room]]) -> list[rooms.Note]:
    ranges: list[rdb.IndexRange[rooms.Note]] = [rooms.Note.by_room.eq(room_id) for room_id in rooms_of_mine]
    since_then = rooms.Note.by_likes.eq(rooms_of_mine[0]).lt(9)
    for least in (1, None):
        some = since_then if least is None else since_then.gte(least)
        ranges.extend([some, rooms.Note.by_likes.gt("a").lte("b"), rooms.Note.by_room])
    newest = ctx.db.merge(*ranges).order("desc").filter(lambda note: note.likes > 0)
    assert_type(newest, rdb.OrderedQuery[rooms.Note])
    return newest.take(50)


@rdb.query
def led_to(ctx: rdb.QueryCtx, options: rdb.PaginationOptions) -> rdb.PaginationResult[str]:
    notes = ctx.db.query(rooms.Room).join(lambda room: ctx.db.query(rooms.Note.by_room.eq(room.id)))
    assert_type(notes, rdb.OrderedQuery[rooms.Note])
    one_each = (
        ctx.db.query(rooms.Note.by_room).distinct("room_id").join(lambda note: ctx.db.get(note.room_id))
    )
    assert_type(one_each.first(), rooms.Room | None)
    return notes.paginate(options).map(lambda note: note.text)


def many(ctx: rdb.QueryCtx, ids: list[rdb.Id[rooms.Note]]) -> None:
    assert_type(ctx.db.get_many(ids), list[rooms.Note | None])


def every_page(chat: rdb.Database, room_id: rdb.Id[rooms.Room]) -> None:
    for page in chat.pages(rooms.page_of, 100, room_id):
        assert_type(page, rdb.PaginationResult[rooms.Note])
        assert_type(page.page, list[rooms.Note])


async def every_page_in_a_loop(chat: rdb.AsyncDatabase, room_id: rdb.Id[rooms.Room]) -> None:
    async for page in chat.pages(rooms.page_of, 100, room_id):
        assert_type(page.page, list[rooms.Note])


@rdb.mutation
def joins(ctx: rdb.MutationCtx, room_id: rdb.Id[rooms.Room], email: str) -> rdb.Id[rooms.Member]:
    key = rooms.Member.by_email.eq(room_id, email)
    by_document = ctx.db.upsert(key, rooms.Member(room_id=room_id, email=email, state="in"))
    assert_type(by_document, rdb.Upserted[rooms.Member])
    member_id, created = ctx.db.upsert(key, state="in")
    assert_type(member_id, rdb.Id[rooms.Member])
    assert_type(created, bool)
    assert_type(ctx.db.upsert(drafts.index("by_room").eq(room_id), {"text": "..."}).id, rdb.Id[Any])
    assert_type(rdb.now_ms(), float)
    return member_id


@rdb.migration(rooms.Note)
def shorter(old: dict[str, Any]) -> rooms.Note | None:
    return rooms.Note(room_id=old["roomId"], author=old["author"], text=old["text"][:100])


@rdb.migration(drafts, name="drafts_2026")
def renamed(old: dict[str, Any]) -> dict[str, Any]:
    return {"body": old["text"]}


@rdb.query
def sees_files(ctx: rdb.QueryCtx, file: rdb.Id[rdb.StoredFile]) -> str | None:
    assert_type(ctx.db.system.get(file), rdb.StoredFile | None)
    assert_type(ctx.db.system.query(rdb.StoredFile).collect(), list[rdb.StoredFile])
    return ctx.storage.get_url(file)


@rdb.action
async def stores_files(ctx: rdb.ActionCtx, data: bytes) -> str:
    file = await ctx.storage.store(data, content_type="text/plain")
    assert_type(file, rdb.Id[rdb.StoredFile])
    blob = await ctx.storage.get(file)
    assert_type(blob, rdb.Blob | None)
    return await ctx.storage.generate_upload_url()


@rdb.action(thread=True)
async def in_a_thread(ctx: rdb.ActionCtx, room_id: rdb.Id[rooms.Room]) -> int:
    return len(await ctx.run_query(rooms.newest, room_id))


@rdb.internal_action(thread=True, retry=rdb.Retry(max_attempts=2))
async def retried_in_a_thread(ctx: rdb.ActionCtx, room_id: rdb.Id[rooms.Room]) -> None:
    assert_type(await ctx.run_action(in_a_thread, room_id), int)


def calls_it(chat: rdb.Database, room_id: rdb.Id[rooms.Room]) -> None:
    assert_type(chat.action(in_a_thread, room_id), int)
