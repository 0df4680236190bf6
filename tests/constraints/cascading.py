"""Deletes a parent of many children, in a process that may be killed while the children follow.

    python cascading.py seed PATH COUNT    a channel with so many messages and a like of each, and a small one
    python cascading.py delete PATH        delete the large channel, and say what is left until it is the rest
    python cascading.py resume PATH        only open the file, and say what is left

What is left is said on a line of its own whenever it has changed: the number of messages and of likes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import reactivedb as rdb

BATCH = 500
KEPT = 3
_FILL_MAX = 1_000


class Channel(rdb.Document, table="channels"):
    name: str


class Message(rdb.Document, table="messages"):
    channel_id: Annotated[rdb.Id[Channel], rdb.OnDelete("cascade")]

    by_channel = rdb.Index("channel_id")


class Like(rdb.Document, table="likes"):
    message_id: Annotated[rdb.Id[Message], rdb.OnDelete("cascade")]

    by_message = rdb.Index("message_id")


@rdb.mutation
def open_channel(ctx: rdb.MutationCtx, name: str) -> rdb.Id[Channel]:
    return ctx.db.insert(Channel(name=name))


@rdb.mutation
def fill(ctx: rdb.MutationCtx, channel_id: rdb.Id[Channel], count: int) -> None:
    for _ in range(count):
        ctx.db.insert(Like(message_id=ctx.db.insert(Message(channel_id=channel_id))))


@rdb.mutation
def delete_large(ctx: rdb.MutationCtx) -> None:
    for channel in ctx.db.query(Channel).filter(lambda channel: channel.name == "large"):
        ctx.db.delete(channel.id)


@rdb.query
def left(ctx: rdb.QueryCtx) -> list[int]:
    return [ctx.db.query(Message).count(), ctx.db.query(Like).count()]


def application() -> rdb.App:
    return rdb.App(sys.modules[__name__], root=__name__, limits=rdb.Limits(cascade_batch_max=BATCH))


def seed(path: Path, count: int) -> None:
    with application().open(path, durability="relaxed") as db:
        for name, messages in (("large", count), ("small", KEPT)):
            channel = db.mutation(open_channel, name)
            for start in range(0, messages, _FILL_MAX):
                db.mutation(fill, channel, min(_FILL_MAX, messages - start))


def follow(path: Path, *, delete: bool) -> None:
    with application().open(path) as db, db.subscribe(left) as live:
        if delete:
            db.mutation(delete_large)
        for counts in live:
            print(*counts, flush=True)
            if counts == [KEPT, KEPT]:
                return


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["seed", file, count]:
            seed(Path(file), int(count))
        case [what, file]:
            follow(Path(file), delete=what == "delete")
        case words:
            sys.exit(f"not understood: {words}")
