"""Streams that somebody has to keep alive: one that falls silent is failed by a scheduled mutation."""

import asyncio
from typing import Literal

import reactivedb as rdb

LEASE_S = 0.5
PACE_S = 0.02

Status = Literal["streaming", "failed"]


class Stream(rdb.Document, table="streams"):
    text: str
    status: Status
    lease_until_ms: float

    by_status = rdb.Index("status")


@rdb.mutation
def start(ctx: rdb.MutationCtx) -> None:
    """Begin a stream that types until its process dies."""
    stream_id = ctx.db.insert(Stream(text="", status="streaming", lease_until_ms=ctx.now_ms + LEASE_S * 1000))
    ctx.scheduler.run_after(0, type_on, stream_id)
    ctx.scheduler.run_after(LEASE_S, fail_if_silent, stream_id)


@rdb.internal_action
async def type_on(ctx: rdb.ActionCtx, stream_id: rdb.Id[Stream]) -> None:
    while await ctx.run_mutation(append, stream_id):  # noqa: ASYNC110 - the pace is that of typing
        await asyncio.sleep(PACE_S)


@rdb.internal_mutation
def append(ctx: rdb.MutationCtx, stream_id: rdb.Id[Stream]) -> bool:
    """Type one more letter and renew the lease; whether the stream goes on."""
    stream = ctx.db.get(stream_id)
    if stream is None or stream.status != "streaming":
        return False
    ctx.db.patch(stream_id, text=stream.text + "x", lease_until_ms=ctx.now_ms + LEASE_S * 1000)
    return True


@rdb.internal_mutation
def fail_if_silent(ctx: rdb.MutationCtx, stream_id: rdb.Id[Stream]) -> None:
    """Fail the stream if its lease has run out, else come back when it would."""
    stream = ctx.db.get(stream_id)
    if stream is None or stream.status != "streaming":
        return
    if stream.lease_until_ms <= ctx.now_ms:
        ctx.db.patch(stream_id, status="failed")
    else:
        ctx.scheduler.run_after((stream.lease_until_ms - ctx.now_ms) / 1000, fail_if_silent, stream_id)


@rdb.query
def statuses(ctx: rdb.QueryCtx) -> list[Status]:
    return [stream.status for stream in ctx.db.query(Stream)]
