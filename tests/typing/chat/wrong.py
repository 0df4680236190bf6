"""Each line marked `# refused` must be refused by pyright (strict), and no other."""

from typing import Any

import reactivedb as rdb

from .rooms import Member, Note, Room, extend, newest, page_of


@rdb.query
def bad(ctx: rdb.QueryCtx, note_id: rdb.Id[Note], room_id: rdb.Id[Room]) -> None:
    ctx.db.insert(Note(room_id=room_id, author="a", text="b"))  # refused: no insert in a query
    ctx.run_query(newest, note_id)  # refused: another table's id
    ctx.run_query(extend, note_id, "x")  # refused: a mutation is not a query
    ctx.run_query(newest, rom_id=room_id)  # refused: a misspelt argument
    Note(room_id=note_id, author="a", text="b")  # refused: another table's id in a document
    Note(room_id=room_id, author="a")  # refused: a field is missing
    ctx.db.query(Note.by_rom.eq(room_id))  # refused: a misspelt index
    room: Room | None = ctx.db.get(note_id)  # refused: `get` returns a Note
    rooms: list[Room] = ctx.db.query(Note.by_room.eq(room_id)).take(1)  # refused: an index of another table
    ctx.db.merge(Note.by_room.eq(room_id), Room.by_id)  # refused: ranges of two tables
    ctx.db.query(Note.by_likes.eq(room_id).eq(1))  # refused: equal values in two parts
    ctx.db.query(Note.by_likes.gt(room_id).eq(1))  # refused: an equal value behind a bound
    ctx.db.query(Note.by_likes.eq(room_id).gt(1).gte(2))  # refused: two lower bounds
    ctx.db.query(Note.by_likes.eq(room_id).lt(2).gte(1).lte(3))  # refused: two upper bounds
    ctx.db.query(Note).order("desc").order("asc")  # refused: two orders
    print(room, rooms)


def bad_pages(chat: rdb.Database, note_id: rdb.Id[Note]) -> None:
    chat.pages(newest, 10, note_id)  # refused: a query that has no pages
    chat.pages(page_of, 10, note_id)  # refused: another table's id


@rdb.mutation
def also_bad(ctx: rdb.MutationCtx, note_id: rdb.Id[Note], room_id: rdb.Id[Room]) -> None:
    key = Member.by_email.eq(room_id, "a@x")
    Member(room_id=note_id, email="a@x")  # refused: another table's id in a field with a rule
    Member(email="a@x")  # refused: a field with a rule is still required
    ctx.db.upsert(key, Note(room_id=room_id, author="a", text="b"))  # refused: another table's document
    ctx.db.upsert(Member, email="a@x")  # refused: a table is no key
    found: rdb.Id[Note] = ctx.db.upsert(key).id  # refused: the id is a Member's
    rdb.OnDelete("drop")  # refused: no such action
    print(found)


@rdb.query
def upserts(ctx: rdb.QueryCtx, room_id: rdb.Id[Room]) -> None:
    ctx.db.upsert(Member.by_email.eq(room_id, "a@x"))  # refused: no upsert in a query


@rdb.action  # refused: an action is `async def`
def not_a_coroutine(ctx: rdb.ActionCtx) -> None:
    return None


@rdb.action(thread=True)  # refused: an action in a thread is `async def` too
def not_a_coroutine_either(ctx: rdb.ActionCtx) -> None:
    return None


@rdb.query(thread=True)  # refused: a query has no thread of its own
def no_thread(ctx: rdb.QueryCtx) -> None:
    return None


@rdb.migration(Note)  # refused: another table's document
def to_another_table(old: dict[str, Any]) -> Room:
    return Room(**old)


@rdb.migration("notes")  # refused: a table is its class
def of_a_name(old: dict[str, Any]) -> dict[str, Any]:
    return old


@rdb.query
def files(ctx: rdb.QueryCtx, file: rdb.Id[rdb.StoredFile], note_id: rdb.Id[Note]) -> None:
    ctx.storage.get_url(note_id)  # refused: another table's id
    ctx.storage.delete(file)  # refused: no deletion in a query
    ctx.storage.generate_upload_url()  # refused: no upload URL in a query
