"""An application with a function for each place where user code runs. Each takes what it is to raise."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated

import anyio
import anyio.lowlevel
import pydantic
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

import reactivedb as rdb

from .raising import fail

# While set, code that runs by itself raises that.
armed: list[str] = []


def fail_if_armed() -> None:
    if armed:
        fail(armed[0])


class Note(rdb.Document, table="notes"):
    text: str


class Picky(rdb.Document, table="pickies"):
    text: str

    @pydantic.field_validator("text")
    @classmethod
    def look(cls, text: str) -> str:
        fail_if_armed()
        return text


def failing(kind: str) -> str:
    if kind != "fine":
        fail(kind)
    return kind


FailingText = Annotated[str, pydantic.AfterValidator(failing)]


class FailingModel(rdb.Model):
    kind: str

    @pydantic.model_validator(mode="after")
    def look(self) -> FailingModel:
        failing(self.kind)
        return self


@dataclass
class FailingData:
    kind: str

    def __post_init__(self) -> None:
        failing(self.kind)


@dataclass
class FailingDefault:
    kind: str
    made: int = field(default_factory=lambda: fail_if_armed() or 1)


class Shown:
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        fail(self.kind)

    __str__ = __repr__


TOO_MANY_FIELDS = "%s %d"

# What others use


@rdb.query
def count(ctx: rdb.QueryCtx) -> int:
    return ctx.db.query(Note).count()


@rdb.mutation
def add(ctx: rdb.MutationCtx, text: str) -> int:
    ctx.db.insert(Note(text=text))
    return ctx.db.query(Note).count()


@rdb.query
def job_states(ctx: rdb.QueryCtx) -> list[str]:
    return [job["state"]["kind"] for job in ctx.db.system.query("_scheduled_functions")]


@rdb.query
def job_errors(ctx: rdb.QueryCtx) -> list[str]:
    return [job["state"].get("error", "") for job in ctx.db.system.query("_scheduled_functions")]


# Places


@rdb.query
def in_query(ctx: rdb.QueryCtx, kind: str) -> None:
    fail(kind)


@rdb.mutation
def in_mutation(ctx: rdb.MutationCtx, kind: str) -> None:
    ctx.db.insert(Note(text="of a mutation that failed"))
    fail(kind)


@rdb.action
async def in_action(ctx: rdb.ActionCtx, kind: str) -> None:
    fail(kind)


@rdb.mutation
def in_nested_call(ctx: rdb.MutationCtx, kind: str) -> None:
    ctx.run_mutation(in_mutation, kind)


@rdb.action
async def in_mutation_of_action(ctx: rdb.ActionCtx, kind: str) -> None:
    await ctx.run_mutation(in_mutation, kind)


@rdb.action
async def in_action_of_action(ctx: rdb.ActionCtx, kind: str) -> None:
    await ctx.run_action(in_action, kind)


async def _fail_soon(kind: str) -> None:
    await anyio.lowlevel.checkpoint()
    fail(kind)


@rdb.action
async def in_task_of_action(ctx: rdb.ActionCtx, kind: str) -> None:
    await asyncio.create_task(_fail_soon(kind))


@rdb.action
async def in_task_group(ctx: rdb.ActionCtx, kind: str) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_fail_soon, kind)


@rdb.action
async def in_thread(ctx: rdb.ActionCtx, kind: str) -> None:
    await anyio.to_thread.run_sync(fail, kind)


@rdb.action
async def in_callback(ctx: rdb.ActionCtx, kind: str) -> None:
    """The callback fails by itself, and then the action does."""
    asyncio.get_running_loop().call_soon(fail, kind)
    await anyio.lowlevel.checkpoint()
    fail(kind)


@rdb.action
async def in_context_manager(ctx: rdb.ActionCtx, kind: str) -> None:
    # A scope and a generator that are never left.
    anyio.CancelScope().__enter__()
    await anext(_unfinished(kind))
    fail(kind)


async def _unfinished(kind: str) -> AsyncIterator[int]:
    try:
        yield 1
    finally:
        fail(kind)


class _FailsWhenGone:
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __del__(self) -> None:
        fail(self.kind)


@rdb.mutation
def in_finalizer(ctx: rdb.MutationCtx, kind: str) -> None:
    _FailsWhenGone(kind)
    fail(kind)


@rdb.mutation
def in_print(ctx: rdb.MutationCtx, kind: str) -> None:
    print(Shown(kind))


@rdb.mutation
def in_error_text(ctx: rdb.MutationCtx, kind: str) -> None:
    raise ValueError(Shown(kind))


@rdb.mutation
def in_validator(ctx: rdb.MutationCtx, kind: FailingText) -> None: ...


@rdb.mutation
def in_model(ctx: rdb.MutationCtx, value: FailingModel) -> None: ...


@rdb.mutation
def in_dataclass(ctx: rdb.MutationCtx, value: FailingData) -> None: ...


@rdb.mutation
def in_default_factory(ctx: rdb.MutationCtx, value: FailingDefault) -> None: ...


@rdb.query
def in_validator_of_query(ctx: rdb.QueryCtx, kind: FailingText) -> None: ...


@rdb.action
async def in_validator_of_action(ctx: rdb.ActionCtx, kind: FailingText) -> None: ...


@rdb.query
def in_return(ctx: rdb.QueryCtx, kind: str) -> FailingText:
    return kind


@rdb.action
async def in_return_of_action(ctx: rdb.ActionCtx, kind: str) -> FailingText:
    return kind


@rdb.query
def in_predicate(ctx: rdb.QueryCtx, kind: str) -> int:
    return len(ctx.db.query(Note).filter(lambda note: failing(kind) == note.text).collect())


@rdb.query
def armed_predicate(ctx: rdb.QueryCtx) -> int:
    newest_first = ctx.db.query(Note).order("desc")
    return len(newest_first.filter(lambda note: fail_if_armed() is None).collect())


@rdb.query
def armed_query(ctx: rdb.QueryCtx) -> int:
    count = ctx.db.query(Note).count()
    fail_if_armed()
    return count


@rdb.query
def armed_result(ctx: rdb.QueryCtx) -> ArmedModel:
    return ArmedModel(text=str(ctx.db.query(Note).count()))


@rdb.mutation
def armed_document(ctx: rdb.MutationCtx) -> None:
    ctx.db.insert(Picky(text="a"))


@rdb.mutation
def log_badly(ctx: rdb.MutationCtx, kind: str) -> str:
    """A line that cannot be put together is the log's failure, as with every handler of `logging`."""
    logging.getLogger("places").warning(TOO_MANY_FIELDS, Shown(kind))
    return "logged"


@rdb.mutation
def schedule(ctx: rdb.MutationCtx, kind: str) -> None:
    ctx.scheduler.run_after(0, in_mutation, kind)
    ctx.scheduler.run_after(0, in_action, kind)


@rdb.mutation
def schedule_armed(ctx: rdb.MutationCtx) -> None:
    ctx.scheduler.run_after(0, take_armed, ArmedModel(text="a"))


class ArmedModel(rdb.Model):
    text: str

    @pydantic.field_validator("text")
    @classmethod
    def look(cls, text: str) -> str:
        fail_if_armed()
        return text


@rdb.mutation
def take_armed(ctx: rdb.MutationCtx, value: ArmedModel) -> None: ...


@rdb.internal_mutation
def by_the_clock(ctx: rdb.MutationCtx) -> None:
    fail_if_armed()


@rdb.internal_action
async def by_the_clock_outside(ctx: rdb.ActionCtx) -> None:
    fail_if_armed()


crons = rdb.Crons()
crons.interval("mutation", by_the_clock, seconds=1)
crons.interval("action", by_the_clock_outside, seconds=1)

http = rdb.HttpRouter()


@http.get("/fail")
async def handle(ctx: rdb.ActionCtx, request: Request) -> Response:
    fail(request.query_params["kind"])


@http.get("/stream")
async def stream(ctx: rdb.ActionCtx, request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        fail(request.query_params["kind"])

    return StreamingResponse(pieces())


@http.get("/fine")
async def fine(ctx: rdb.ActionCtx, request: Request) -> Response:
    return PlainTextResponse("fine")


def make_app(*, with_crons: bool = False) -> rdb.App:
    return rdb.App(
        sys.modules[__name__], root=__package__ or "", http=http, crons=crons if with_crons else None
    )
