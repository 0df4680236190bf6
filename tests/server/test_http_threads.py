"""HTTP actions in threads of their own, over real sockets."""

from __future__ import annotations

import socket
import threading
import types
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

import reactivedb as rdb

from .deployment import Deployment, Urls

pytestmark = pytest.mark.slow

LONG_S = 30.0


class Hook(rdb.Document, table="hooks"):
    body: str


@rdb.internal_mutation
def keep(ctx: rdb.MutationCtx, body: str) -> None:
    ctx.db.insert(Hook(body=body))


@rdb.query
def kept(ctx: rdb.QueryCtx) -> list[str]:
    return [hook.body for hook in ctx.db.query(Hook)]


module = types.ModuleType("hooks")
for item in (Hook, keep, kept):
    setattr(module, item.__name__, item)
for function in (keep, kept):
    function.handler.__module__ = module.__name__


class Stage:
    def __init__(self) -> None:
        self.blocks = threading.Event()
        self.go = threading.Event()
        self.ended = threading.Event()
        self.met: list[str] = []

    def block(self) -> None:
        self.blocks.set()
        assert self.go.wait(LONG_S)


stage: list[Stage] = []
router = rdb.HttpRouter()


@router.post("/block", thread=True)
async def block(ctx: rdb.ActionCtx, request: Request) -> Response:
    body = (await request.body()).decode()
    stage[0].block()
    try:
        await ctx.run_mutation(keep, body)
        stage[0].met.append("kept")
    except rdb.RequestError as error:
        stage[0].met.append(error.code)
    stage[0].ended.set()
    return JSONResponse({"kept": await ctx.run_query(kept), "user": ctx.auth.get_user_identity()})


@router.put(prefix="/stream/", thread=True)
async def stream(ctx: rdb.ActionCtx, request: Request) -> Response:
    async def pieces() -> AsyncIterator[str]:
        async for piece in request.stream():
            if piece:
                yield f"{threading.current_thread().name}:{len(piece) > 0}\n"
        stage[0].block()
        yield "end"

    return StreamingResponse(pieces())


@router.get("/fails", thread=True)
async def fails(ctx: rdb.ActionCtx, request: Request) -> Response:
    raise rdb.ApplicationError("as it should")


@router.get("/nothing", thread=True)
async def nothing(ctx: rdb.ActionCtx, request: Request) -> Response:
    return None  # type: ignore[return-value]


@router.get("/blocks")
async def blocks_the_loop(ctx: rdb.ActionCtx, request: Request) -> Response:
    stage[0].block()
    return PlainTextResponse("blocked")


@router.get("/quick")
async def quick(ctx: rdb.ActionCtx, request: Request) -> Response:
    return PlainTextResponse("quick")


@pytest.fixture
def now() -> Iterator[Stage]:
    stage[:] = [Stage()]
    yield stage[0]
    stage[0].go.set()


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    limits = rdb.Limits(action_thread_stop_s=0.05, loop_blocked_s=0.1)
    deployment = Deployment(rdb.App(module, root="", http=router, limits=limits))
    yield deployment
    deployment.stop()


@pytest.fixture
def urls(deployment: Deployment) -> Urls:
    return deployment.start()


def test_a_handler_that_blocks_in_its_thread_holds_up_nobody(urls: Urls, now: Stage) -> None:
    answers: list[httpx.Response] = []

    def post() -> None:
        answers.append(httpx.post(f"{urls.site}/block", content="hello", timeout=LONG_S))

    posting = threading.Thread(target=post)
    posting.start()
    assert now.blocks.wait(LONG_S)
    assert httpx.get(f"{urls.site}/quick", timeout=LONG_S).text == "quick"
    now.go.set()
    posting.join(LONG_S)
    assert answers[0].json() == {"kept": ["hello"], "user": None}


def test_bodies_are_streamed_to_and_from_the_thread(urls: Urls, now: Stage) -> None:
    now.go.set()
    answer = httpx.put(f"{urls.site}/stream/any", content=iter([b"a" * 1000, b"b"]), timeout=LONG_S)
    lines = answer.text.splitlines()
    assert lines[0] == "reactivedb PUT /stream/*:True"
    assert lines[-1] == "end"


def test_errors_in_the_thread_are_answered_as_any_other(urls: Urls) -> None:
    answer = httpx.get(f"{urls.site}/fails", timeout=LONG_S)
    assert (answer.status_code, answer.json()["data"]) == (500, "as it should")
    answer = httpx.get(f"{urls.site}/nothing", timeout=LONG_S)
    assert (answer.status_code, "NotAResponse" in answer.text) == (500, True)


def test_a_handler_whose_client_leaves_while_it_blocks_is_fenced(
    deployment: Deployment, urls: Urls, now: Stage
) -> None:
    host, port = urls.site.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST /block HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        assert now.blocks.wait(LONG_S)
    threads = deployment.database.runtime.actions.threads
    waiting = threading.Event()
    while not threads.abandoned_count:
        waiting.wait(0.01)
    metrics = httpx.get(f"{urls.main}/metrics", timeout=LONG_S).text
    assert "reactivedb_action_threads 1.0" in metrics
    assert "reactivedb_actions_abandoned_total 1.0" in metrics
    now.go.set()
    assert now.ended.wait(LONG_S)
    assert now.met == ["ActionFenced"]
    assert httpx.get(f"{urls.site}/quick", timeout=LONG_S).text == "quick"


def test_a_handler_that_blocks_the_loop_is_counted_and_logged_with_its_route(
    deployment: Deployment, urls: Urls, now: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    getting = threading.Thread(target=lambda: httpx.get(f"{urls.site}/blocks", timeout=LONG_S))
    getting.start()
    assert now.blocks.wait(LONG_S)
    meters = deployment.database.runtime.report.meters
    waiting = threading.Event()
    before = meters.loop_blocks
    while meters.loop_blocks == before:
        waiting.wait(0.01)
    assert "by `GET /blocks`" in caplog.text
    assert f"{__file__}:" in caplog.text
    now.go.set()
    getting.join(LONG_S)
    metrics = httpx.get(f"{urls.main}/metrics", timeout=LONG_S).text
    figures = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert float(figures["reactivedb_loop_blocks_total"]) >= 1
    assert float(figures["reactivedb_loop_blocked_seconds_total"]) > 0.1
