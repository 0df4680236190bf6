"""Rooms, notes in them, and a helper that types an answer: everything here must be accepted."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal

import reactivedb as rdb


class Room(rdb.Document, table="rooms"):
    name: str


class Note(rdb.Document, table="notes"):
    room_id: rdb.Id[Room]
    author: str
    text: str
    likes: int = 0

    by_room = rdb.Index("room_id")
    by_likes = rdb.Index("room_id", "likes")


class Member(rdb.Document, table="members"):
    room_id: Annotated[rdb.Id[Room], rdb.OnDelete("cascade")]
    email: str
    state: Annotated[Literal["asked", "in"], rdb.Transitions({"asked": ["in"]})] = "asked"
    updated_at: float = rdb.updated_at()

    by_email = rdb.Index("room_id", "email", unique=True)


@rdb.mutation
def open_room(ctx: rdb.MutationCtx, name: str) -> rdb.Id[Room]:
    return ctx.db.insert(Room(name=name))


@rdb.query
def newest(ctx: rdb.QueryCtx, room_id: rdb.Id[Room]) -> list[Note]:
    return ctx.db.query(Note.by_room.eq(room_id)).order("desc").take(50)


@rdb.query
def liked(ctx: rdb.QueryCtx, room_id: rdb.Id[Room], least: int = 1) -> list[Note]:
    return ctx.db.query(Note.by_likes.eq(room_id).gte(least)).collect()


@rdb.query
def page_of(
    ctx: rdb.QueryCtx, options: rdb.PaginationOptions, room_id: rdb.Id[Room]
) -> rdb.PaginationResult[Note]:
    return ctx.db.query(Note.by_room.eq(room_id)).order("desc").paginate(options)


@rdb.mutation
def write(ctx: rdb.MutationCtx, room_id: rdb.Id[Room], author: str, text: str) -> None:
    if ctx.db.get(room_id) is None:
        raise rdb.ApplicationError({"code": "NoSuchRoom", "roomId": room_id})
    ctx.db.insert(Note(room_id=room_id, author=author, text=text))
    draft_id = ctx.db.insert(Note(room_id=room_id, author="bot", text=""))
    ctx.scheduler.run_after(0, answer, draft_id, prompt=text)


@rdb.internal_mutation
def extend(ctx: rdb.MutationCtx, note_id: rdb.Id[Note], more: str) -> None:
    if note := ctx.db.get(note_id):
        ctx.db.patch(note_id, text=note.text + more)


@rdb.internal_action
async def answer(ctx: rdb.ActionCtx, note_id: rdb.Id[Note], prompt: str) -> None:
    async for word in words_of(prompt):
        await ctx.run_mutation(extend, note_id, word)


async def words_of(prompt: str) -> AsyncIterator[str]:
    for word in prompt.split():
        yield word
