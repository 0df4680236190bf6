"""Lines that are written in every way that there is: by calls, actions, HTTP actions and jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import httpx
from inline_app import module_of
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

import reactivedb as rdb
from reactivedb.app import Runtime
from reactivedb.clock import Clock
from reactivedb.storage import Storage
from reactivedb.testing import FakeClock


class Line(rdb.Document, table="lines"):
    text: str


@rdb.mutation
def put(ctx: rdb.MutationCtx, text: str) -> float:
    ctx.db.insert(Line(text=text))
    return float(ctx.db.query(Line).count())


@rdb.query
def texts(ctx: rdb.QueryCtx) -> list[str]:
    return [line.text for line in ctx.db.query(Line)]


# What actions were called with.
started: list[str] = []


@rdb.action
async def act(ctx: rdb.ActionCtx, text: str) -> str:
    started.append(text)
    await ctx.run_mutation(put, text)
    return "acted"


@rdb.mutation
def schedule(ctx: rdb.MutationCtx, text: str, delay_s: float) -> None:
    ctx.scheduler.run_after(delay_s, put, text)


@rdb.mutation
def schedule_action(ctx: rdb.MutationCtx, text: str, delay_s: float) -> None:
    ctx.scheduler.run_after(delay_s, act, text)


@rdb.mutation
def upload_url(ctx: rdb.MutationCtx) -> str:
    return ctx.storage.generate_upload_url()


MEMBERS = (Line, put, texts, act, schedule, schedule_action, upload_url)
_router = rdb.HttpRouter()


@_router.post("/put")
async def _put(ctx: rdb.ActionCtx, request: Request) -> Response:
    await ctx.run_mutation(put, (await request.body()).decode())
    return PlainTextResponse("put")


def application(limits: rdb.Limits | None = None) -> rdb.App:
    return rdb.App(module_of(*MEMBERS), root="", http=_router, limits=limits or rdb.Limits())


@asynccontextmanager
async def opened(storage: Storage, *, clock: Clock | None = None) -> AsyncIterator[rdb.AsyncDatabase]:
    """The application over a storage, in this loop. That closing a broken storage fails is no news."""
    kept = clock or FakeClock()
    database = rdb.AsyncDatabase(lambda: Runtime(application(), storage, clock=kept))
    await database.open()
    try:
        yield database
    finally:
        try:
            await database.close()
        except rdb.StorageError:
            assert database.runtime.engine.committer.abandoned is not None


def http(database: rdb.AsyncDatabase) -> httpx.AsyncClient:
    live = rdb.asgi(database, admin_key="test|0123456789abcdef")
    transport = httpx.ASGITransport(live, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://here")


async def turns(count: int = 50) -> None:
    """Let the loop do all that it can do without the disk."""
    for _ in range(count):
        await anyio.lowlevel.checkpoint()
