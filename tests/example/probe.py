"""What does the chat keep that its own functions do not show?"""

from __future__ import annotations

from chat_streaming.tables import Message, StreamChunk

import reactivedb as rdb


@rdb.query
def chunk_count(ctx: rdb.QueryCtx, message_id: rdb.Id[Message]) -> int:
    return ctx.db.query(StreamChunk.by_message.eq(message_id)).count()
