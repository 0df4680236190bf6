"""HTTP actions over real sockets, on both ports of a deployment."""

from __future__ import annotations

import socket
import threading
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.testclient import TestClient

import reactivedb as rdb
from reactivedb.limits import KIB, MIB, Limits

from .deployment import KEY, Deployment, Urls

ADMIN = {"Authorization": f"Convex {KEY}"}
BODY_MAX = 256 * KIB

pytestmark = pytest.mark.slow


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

router = rdb.HttpRouter()


@router.post("/hook")
async def received(ctx: rdb.ActionCtx, request: Request) -> Response:
    await ctx.run_mutation(keep, (await request.body()).decode())
    return JSONResponse(await ctx.run_query(kept), status_code=201)


@router.get(prefix="/dir/")
@router.get(prefix="/")
@router.put(prefix="/dir/")
@router.patch("/dir/exact")
@router.delete("/dir/exact")
@router.options("/dir/exact")
async def shown(ctx: rdb.ActionCtx, request: Request) -> Response:
    user = ctx.auth.get_user_identity()
    return JSONResponse(
        {
            "method": request.method,
            "path": request.url.path,
            "query": dict(request.query_params),
            "user": None if user is None else user.subject,
            "site": ctx.env.get("CONVEX_SITE_URL"),
        },
        headers={"x-route": "prefix"},
    )


@router.get("/dir/exact")
async def exact(ctx: rdb.ActionCtx, request: Request) -> Response:
    return PlainTextResponse("exact", headers={"x-route": "exact"})


@router.get(prefix="/dir/deeper/")
async def deeper(ctx: rdb.ActionCtx, request: Request) -> Response:
    return PlainTextResponse("deeper")


@router.get("/crash")
async def crash(ctx: rdb.ActionCtx, request: Request) -> Response:
    raise RuntimeError("the inner working")


@router.get("/refuse")
async def refuse(ctx: rdb.ActionCtx, request: Request) -> Response:
    raise rdb.ApplicationError({"code": "Refused", "count": rdb.Int64(1)})


@router.get("/wrong")
async def wrong(ctx: rdb.ActionCtx, request: Request) -> Any:
    return {"not": "a response"}


@router.post("/count")
async def count(ctx: rdb.ActionCtx, request: Request) -> Response:
    """Answers each piece of the body as it comes."""

    async def lines() -> AsyncIterator[str]:
        async for piece in request.stream():
            if piece:
                yield f"{piece.decode()}!"

    return StreamingResponse(lines())


@router.get("/broken")
async def broken(ctx: rdb.ActionCtx, request: Request) -> Response:
    async def lines() -> AsyncIterator[str]:
        yield "begun"
        raise RuntimeError("in the midst")

    return StreamingResponse(lines())


left = threading.Semaphore(0)


@router.post("/endless")
async def endless(ctx: rdb.ActionCtx, request: Request) -> Response:
    async def lines() -> AsyncIterator[str]:
        try:
            while True:
                yield "and so on\n"
        finally:
            left.release()

    return StreamingResponse(lines())


@pytest.fixture(scope="module")
def urls() -> Iterator[Urls]:
    deployment = Deployment(
        rdb.App(module, root="", http=router, limits=Limits(http_body_size_bytes_max=BODY_MAX))
    )
    yield deployment.start()
    deployment.stop()


@pytest.fixture(params=["main", "site"])
def base(request: pytest.FixtureRequest, urls: Urls) -> str:
    """Where HTTP actions are: each test runs on both ports."""
    return f"{urls.main}/http" if request.param == "main" else urls.site


def test_h93_exact_beats_prefix_and_the_longest_prefix_wins(base: str) -> None:
    assert httpx.get(f"{base}/dir/exact").text == "exact"
    assert httpx.get(f"{base}/dir/other").json()["path"] == "/dir/other"
    assert httpx.get(f"{base}/dir/deeper/x").text == "deeper"
    assert httpx.get(f"{base}/dir/").json()["path"] == "/dir/"
    assert httpx.get(f"{base}/").json()["path"] == "/"
    assert httpx.get(f"{base}/anything?a=1&b=%20").json()["query"] == {"a": "1", "b": " "}


def test_h93_head_is_answered_by_get_without_a_body(base: str) -> None:
    answer = httpx.head(f"{base}/dir/exact")
    assert (answer.status_code, answer.headers["x-route"], answer.content) == (200, "exact", b"")
    assert answer.headers["content-length"] == "5"


def test_h93_what_no_route_names_is_a_404_in_text(base: str) -> None:
    for method, path in (("POST", "/nowhere"), ("DELETE", "/hook"), ("PUT", "/dir"), ("TRACE", "/hook")):
        answer = httpx.request(method, f"{base}{path}")
        assert (answer.status_code, answer.text) == (404, f"No HttpAction routed for {path}")


def test_h93_a_handler_that_throws_is_a_500_in_json(base: str) -> None:
    crashed = httpx.get(f"{base}/crash")
    assert (crashed.status_code, crashed.headers["content-type"]) == (500, "application/json")
    assert crashed.json()["code"] == "InternalServerError"
    assert "the inner working" in crashed.json()["trace"]
    refused = httpx.get(f"{base}/refuse").json()
    assert (refused["code"], refused["data"]) == (
        "ApplicationError",
        {"code": "Refused", "count": {"$integer": "AQAAAAAAAAA="}},
    )
    assert "NotAResponse" in httpx.get(f"{base}/wrong").json()["trace"]


def test_h93_every_method_is_routed_to_its_handler(base: str) -> None:
    assert httpx.put(f"{base}/dir/x").json()["method"] == "PUT"
    for method in ("PATCH", "DELETE", "OPTIONS"):
        answer = httpx.request(method, f"{base}/dir/exact", headers={"Origin": "https://elsewhere.example"})
        assert answer.json()["method"] == method
        assert "access-control-allow-origin" not in answer.headers


def test_a_handler_writes_and_reads_through_functions(base: str) -> None:
    answer = httpx.post(f"{base}/hook", content=base)
    assert (answer.status_code, answer.headers["content-type"]) == (201, "application/json")
    assert answer.json()[-1] == base


def test_the_caller_is_known_by_a_good_token_and_nobody_with_a_bad_one(base: str, urls: Urls) -> None:
    assert httpx.get(f"{base}/dir/x").json()["user"] is None
    for header in ("Bearer not.a.token", "Basic dXNlcjpwdw==", "Convex wrong", "Bearer"):
        answer = httpx.get(f"{base}/dir/x", headers={"Authorization": header})
        assert (answer.status_code, answer.json()["user"]) == (200, None)
    acting = "eyJzdWJqZWN0IjoiYWRhIiwiaXNzdWVyIjoiaHR0cHM6Ly90ZXN0In0="
    known = httpx.get(f"{base}/dir/x", headers={"Authorization": f"Convex {KEY}:{acting}"}).json()
    assert (known["user"], known["site"]) == ("ada", urls.site)


def test_bodies_are_streamed_both_ways(base: str) -> None:
    host, _, path = base.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port)), timeout=10) as raw:
        head = f"POST /{path}{'/' if path else ''}count HTTP/1.1\r\nHost: {host}\r\n"
        raw.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        seen = b""
        # The answer to the first piece comes before the second is sent.
        while b"one!" not in seen:
            seen += raw.recv(65_536)
        raw.sendall(b"3\r\ntwo\r\n0\r\n\r\n")
        while b"two!" not in seen or not seen.endswith(b"0\r\n\r\n"):
            seen += raw.recv(65_536)
    assert seen.startswith(b"HTTP/1.1 200")


def test_a_body_above_the_limit_is_refused_and_the_server_goes_on(base: str) -> None:
    fits = httpx.post(f"{base}/hook", content=b"x" * BODY_MAX)
    assert fits.status_code == 201
    for content in (b"x" * (BODY_MAX + 1), b"x" * (3 * BODY_MAX)):
        answer = httpx.post(f"{base}/hook", content=content)
        assert (answer.status_code, answer.json()["code"]) == (413, "BodyTooLarge")
    assert httpx.get(f"{base}/dir/exact").text == "exact"


def test_a_stream_that_fails_in_the_midst_breaks_off(base: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{base}/broken")


@pytest.mark.parametrize("content", [b"", b"read by nobody"])
def test_an_endless_stream_ends_when_its_reader_leaves(base: str, content: bytes) -> None:
    with httpx.stream("POST", f"{base}/endless", content=content) as answer:
        assert next(answer.iter_lines()) == "and so on"
    assert left.acquire(timeout=10)


def test_http_actions_stand_in_the_function_specification(urls: Urls) -> None:
    body: dict[str, Any] = {"path": "_system/cli/modules:apiSpec", "args": {}, "format": "json"}
    spec = httpx.post(f"{urls.main}/api/function", json=body, headers=ADMIN).json()["value"]
    found = [(entry["method"], entry["path"]) for entry in spec if entry["functionType"] == "HttpAction"]
    assert ("POST", "/hook") in found
    assert ("GET", "/dir/*") in found
    assert len(found) == len(list(router))


def test_the_api_is_not_on_the_site_port_nor_actions_at_the_root_of_the_main_one(urls: Urls) -> None:
    assert httpx.get(f"{urls.main}/dir/exact").status_code == 404
    assert httpx.get(f"{urls.main}/httpx").status_code == 404
    assert httpx.post(f"{urls.site}/api/query", json={}).status_code == 404


def test_a_handler_sees_its_own_path_wherever_the_deployment_is_mounted() -> None:
    mounted = rdb.HttpRouter()

    @mounted.get(prefix="/dir/")
    async def path(ctx: rdb.ActionCtx, request: Request) -> Response:
        return PlainTextResponse(f"{request.url.path} {request.scope['raw_path'].decode()}")

    live = rdb.asgi(rdb.App(module, root="", http=mounted), ":memory:")
    outer = FastAPI(lifespan=live.lifespan)
    outer.mount("/http/db", live)
    with TestClient(outer) as client:
        assert client.get("/http/db/http/dir/a%2Fb?c").text == "/dir/a/b /dir/a%2Fb"
        assert client.get("/http/db//http//dir/x//y").text == "/dir/x//y /dir/x//y"
        assert client.get("/http/db/%68ttp/dir/%C3%BC").text == "/dir/ü /dir/%C3%BC"


def test_an_application_without_a_router_says_so() -> None:
    deployment = Deployment(rdb.App(module, root=""))
    try:
        urls = deployment.start()
        for url in (f"{urls.main}/http/x", f"{urls.site}/x"):
            answer = httpx.get(url)
            assert (answer.status_code, answer.text) == (404, "This deployment has no HTTP actions.")
    finally:
        deployment.stop()


def test_a_router_that_cannot_work_is_refused_while_declaring() -> None:
    refused = rdb.HttpRouter()
    refused.get("/a")(exact)
    refused.get(prefix="/a/")(exact)
    refused.post("/a")(exact)

    def sync(ctx: rdb.ActionCtx, request: Request) -> Any:
        return None

    bad: list[tuple[str, Any]] = [
        ("DuplicateRoute", lambda: refused.get("/a")(exact)),
        ("DuplicateRoute", lambda: refused.get(prefix="/a/")(exact)),
        ("InvalidRoute", lambda: refused.get("a")),
        ("InvalidRoute", lambda: refused.get(prefix="/a")),
        ("InvalidRoute", lambda: refused.get(prefix="a/")),
        ("InvalidRoute", lambda: refused.get()),
        ("InvalidRoute", lambda: refused.get("/a", prefix="/b/")),
        ("InvalidRoute", lambda: refused.get("/.files/x")),
        ("InvalidRoute", lambda: refused.route("HEAD", "/x")),
        ("ActionNotAsync", lambda: refused.get("/sync")(sync)),  # pyright: ignore[reportArgumentType]
    ]
    for code, declare in bad:
        with pytest.raises(rdb.SchemaError) as error:
            declare()
        assert error.value.code == code


def test_the_default_bound_on_a_body_is_convexs() -> None:
    assert Limits().http_body_size_bytes_max == 20 * MIB
