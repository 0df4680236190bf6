"""Where does a message's text stand while it grows, and what is the whole of it?

Plain functions over `Message` and `StreamChunk` for the functions in `messages`. The newest chunk takes
what is typed until it is full, then the next one begins: so a delta rewrites at most one chunk, and
reading an answer of n characters costs n / `CHUNK_LENGTH` rows.
"""

import reactivedb as rdb

from .tables import Message, Part, StreamChunk, Task

CHUNK_LENGTH = 512
# A character is at most 4 bytes of UTF-8, so the folded message stays under the 1 MiB of a document.
STREAMED_LENGTH_MAX = 200_000


def next_sequence(ctx: rdb.MutationCtx, task_id: rdb.Id[Task]) -> int:
    newest = ctx.db.query(Message.by_task.eq(task_id)).order("desc").first()
    return 1 if newest is None else newest.sequence + 1


def chunks_of(ctx: rdb.QueryCtx, message_id: rdb.Id[Message]) -> list[StreamChunk]:
    return ctx.db.query(StreamChunk.by_message.eq(message_id)).collect()


def add_to_stream(ctx: rdb.MutationCtx, message_id: rdb.Id[Message], text: str, parts: list[Part]) -> None:
    newest = ctx.db.query(StreamChunk.by_message.eq(message_id)).order("desc").first()
    if newest is not None and newest.parts is None and not parts and len(newest.text) < CHUNK_LENGTH:
        ctx.db.patch(newest.id, text=newest.text + text)
        return
    position = 0 if newest is None else newest.position + 1
    ctx.db.insert(StreamChunk(message_id=message_id, position=position, text=text, parts=parts or None))


def whole_text(ctx: rdb.QueryCtx, message: Message) -> tuple[str, list[Part]]:
    """What the message says now, finished or not."""
    parts = list(message.parts or [])
    if message.status != "streaming":
        return message.content, parts
    chunks = chunks_of(ctx, message.id)
    parts.extend(part for chunk in chunks for part in chunk.parts or [])
    return message.content + "".join(chunk.text for chunk in chunks), parts


def remove_chunks(ctx: rdb.MutationCtx, message_id: rdb.Id[Message]) -> None:
    for chunk in chunks_of(ctx, message_id):
        ctx.db.delete(chunk.id)
