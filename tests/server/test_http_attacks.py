"""Does the server stay small, quick and clear whatever is sent to `/http`, the site port and `/api`?"""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from uuid import uuid4

import anyio
import brotli
import httpx
import psutil
import pytest
from inline_app import module_of
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from websockets.sync.client import connect

import reactivedb as rdb
from reactivedb.limits import KIB, MIB

from .deployment import Deployment, Urls
from .raw import Raw

pytestmark = pytest.mark.slow

BODY_MAX = 256 * KIB
# Short, so that a test need not wait; long enough for two busy cores.
LIMITS = rdb.Limits(
    http_body_size_bytes_max=BODY_MAX,
    http_body_idle_s=0.6,
    http_body_rate_bytes_per_s_min=64 * KIB,
    http_head_s=0.8,
    http_head_size_bytes_max=32 * KIB,
    http_action_s_max=1.5,
    queries_per_batch_max=3,
    result_size_bytes_max=MIB,
)


@rdb.query
def echo(ctx: rdb.QueryCtx, value: rdb.Value) -> rdb.Value:
    return value


@rdb.query
def large(ctx: rdb.QueryCtx, size: int) -> str:
    return "x" * size


router = rdb.HttpRouter()
# By the name that a test gives to its request.
ended: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(0))


@router.post("/read")
async def read(ctx: rdb.ActionCtx, request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


@router.post("/later")
async def later(ctx: rdb.ActionCtx, request: Request) -> Response:
    await anyio.sleep(LIMITS.http_body_idle_s + 0.1)
    return PlainTextResponse(str(len(await request.body())))


@router.post("/unread")
async def unread(ctx: rdb.ActionCtx, request: Request) -> Response:
    return PlainTextResponse("not wanted")


@router.get(prefix="/files/")
async def files(ctx: rdb.ActionCtx, request: Request) -> Response:
    return PlainTextResponse(request.url.path)


@router.get("/head")
async def head(ctx: rdb.ActionCtx, request: Request) -> Response:
    response = PlainTextResponse("fine")
    name, value = request.query_params["name"], request.query_params["value"]
    response.raw_headers.append((name.encode("latin-1"), value.encode("latin-1")))
    return response


@router.get("/status")
async def status(ctx: rdb.ActionCtx, request: Request) -> Response:
    return Response(status_code=int(request.query_params["code"]))


@router.get("/wait")
@router.post("/wait")
async def wait(ctx: rdb.ActionCtx, request: Request) -> Response:
    try:
        await anyio.sleep_forever()
    finally:
        ended[str(request.query_params)].release()
    raise AssertionError


@router.get("/stream")
async def stream(ctx: rdb.ActionCtx, request: Request) -> Response:
    async def lines() -> AsyncIterator[str]:
        try:
            while True:
                yield "on and on\n"
        finally:
            ended[str(request.query_params)].release()

    return StreamingResponse(lines())


@router.post("/count")
async def count(ctx: rdb.ActionCtx, request: Request) -> Response:
    async def lines() -> AsyncIterator[str]:
        async for piece in request.stream():
            yield f"{len(piece)}\n"

    return StreamingResponse(lines())


@router.get("/breaks")
async def breaks(ctx: rdb.ActionCtx, request: Request) -> Response:
    async def lines() -> AsyncIterator[str]:
        yield "begun"
        raise RuntimeError("in the midst")

    return StreamingResponse(lines())


@pytest.fixture(scope="module")
def urls() -> Iterator[Urls]:
    app = rdb.App(module_of(echo, large), root="", http=router, limits=LIMITS)
    deployment = Deployment(app)
    yield deployment.start()
    deployment.stop()


@pytest.fixture(params=["main", "site"])
def base(request: pytest.FixtureRequest, urls: Urls) -> str:
    """Where HTTP actions are: each test runs on both ports."""
    return f"{urls.main}/http" if request.param == "main" else urls.site


@pytest.fixture(autouse=True)
def _nobody_else_is_disturbed(urls: Urls, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After each attack the server still answers, and no error of its own stands in its log."""
    yield
    body = {"path": "notes:echo", "args": {"value": 1}}
    assert httpx.post(f"{urls.main}/api/query", json=body).json()["value"] == 1
    faults = [record for record in caplog.records if record.name in ("asyncio", "uvicorn.error")]
    assert [record.getMessage() for record in faults if record.levelname == "ERROR"] == []


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "/files/../read",
        "/files/..",
        "/files/./x",
        "/files/%2e%2e/%2e%2e/etc/passwd",
        "/files/.%2e/x",
        "/files/..%2fx",
        "/files/..%5cx",
        "/files/..\\x",
        "/files/%252e%252e/x",
        "/files/%252e%252e%252fx",
        "/files/x%00.png",
        "/files/x%0d%0aSet-Cookie:a=b",
        "/../files/x",
        "/%2e%2e/",
    ],
)
def test_a_path_that_leads_out_of_a_folder_reaches_no_handler(base: str, path: str) -> None:
    with Raw(base) as raw:
        raw.begin(path, "Connection: close", method="GET")
        assert raw.refusal() == (400, "InvalidPath")


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/files/a..b/...", "/files/a..b/..."),
        ("/files/100%25", "/files/100%25"),
        ("/files//double//slash", "/files//double//slash"),
        ("/files/%C3%BC", "/files/ü"),
        ("/files/a%2Fb", "/files/a/b"),
    ],
)
def test_a_path_that_is_only_unusual_is_the_handlers(base: str, path: str, seen: str) -> None:
    with Raw(base) as raw:
        raw.begin(path, "Connection: close", method="GET")
        found, text = raw.answer()
    assert found == 200
    assert httpx.URL(f"http://here{text}").path == seen.replace("%25", "%")


def test_a_slash_too_many_in_front_of_the_path_does_no_harm(base: str) -> None:
    with Raw(base) as raw:
        raw.begin("//files/x", "Connection: close", method="GET")
        assert raw.answer() == (200, "/files/x")


def test_the_prefix_may_be_written_with_escapes(urls: Urls) -> None:
    with Raw(urls.main) as raw:
        raw.begin("//%68ttp/files/x", "Connection: close", method="GET")
        assert raw.answer() == (200, "/files/x")


# Bodies


def test_a_body_above_the_limit_is_refused_with_and_without_its_length(base: str) -> None:
    body = b"x" * (BODY_MAX + 1)

    def pieces() -> Iterator[bytes]:
        yield from (body[start : start + 10_000] for start in range(0, len(body), 10_000))

    for content in (body, pieces()):
        answer = httpx.post(f"{base}/read", content=content)
        assert (answer.status_code, answer.json()["code"]) == (413, "BodyTooLarge")
    assert httpx.post(f"{base}/read", content=body[:BODY_MAX]).text == str(BODY_MAX)


@pytest.mark.parametrize("path", ["/read", "/unread", "/nowhere"])
def test_an_endless_body_is_cut_off_and_costs_no_memory(base: str, path: str) -> None:
    before = psutil.Process().memory_info().rss
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    sent_bytes = 0
    with Raw(base) as raw:
        raw.begin(path, "Transfer-Encoding: chunked")
        try:
            while sent_bytes < 4_000 * MIB:
                raw.send(chunk)
                sent_bytes += len(chunk)
        except OSError:
            pass  # The server has closed the connection.
    assert sent_bytes < 4_000 * MIB
    grown = psutil.Process().memory_info().rss - before
    print(f"{path}: cut off after {sent_bytes / MIB:.0f} MiB, {grown / MIB:.1f} MiB more resident")
    assert grown < 32 * MIB


def test_a_body_that_stands_still_is_a_408(base: str, urls: Urls) -> None:
    for url, path in ((base, "/read"), (urls.main, "/api/query"), (urls.main, "/echo")):
        with Raw(url) as raw:
            raw.begin(path, "Content-Length: 100")
            raw.send(b"{")
            assert raw.refusal() == (408, "BodyTooSlow")


def test_a_body_that_drips_is_a_408_although_it_never_stands_still(base: str) -> None:
    began_s = time.monotonic()
    with Raw(base) as raw:
        raw.begin("/read", "Content-Length: 1000")
        raw.socket.settimeout(0.1)
        seen = b""
        while b"\r\n\r\n" not in seen and time.monotonic() - began_s < 10:
            raw.send(b"x")
            try:
                seen = raw.socket.recv(65_536)
            except TimeoutError:
                continue
    assert seen.startswith(b"HTTP/1.1 408")


def test_a_slow_handler_is_not_taken_for_a_slow_body(base: str) -> None:
    body = b"x" * 100_000
    assert httpx.post(f"{base}/later", content=body).text == str(len(body))


def test_a_length_that_is_a_lie_is_found_out(base: str, urls: Urls) -> None:
    for url, path in ((base, "/read"), (urls.main, "/api/query")):
        with Raw(url) as raw:
            raw.begin(path, "Content-Length: 100")
            raw.send(b"{}")
            raw.socket.shutdown(socket.SHUT_WR)
            assert raw.socket.recv(100) == b""  # Nobody is there to be told anything.
    for lie in ("-5", "1x", "", "5, 7"):
        with Raw(base) as raw:
            raw.begin("/read", f"Content-Length: {lie}")
            assert raw.refusal() == (400, "MalformedRequest")
    with Raw(base) as raw:
        raw.begin("/read", "Content-Length: 5", "Content-Length: 6")
        assert raw.refusal() == (400, "MalformedRequest")


def test_what_is_no_chunk_ends_the_request(base: str) -> None:
    for path in ("/read", "/wait"):
        with Raw(base) as raw:
            raw.begin(path, "Transfer-Encoding: chunked")
            raw.send(b"zz\r\nnot a chunk\r\n")
            assert raw.refusal() == (400, "MalformedRequest")
    with Raw(base) as raw:
        raw.begin("/read", "Transfer-Encoding: gzip")
        assert raw.refusal() == (501, "MalformedRequest")


BOMB = b'{"path":"notes:echo","args":{"value":"' + b"0" * (200 * MIB) + b'"}}'


def deflated(text: bytes) -> bytes:
    return zlib.compress(text, 9)


PACKERS = {"gzip": gzip.compress, "deflate": deflated, "br": brotli.compress}


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_a_decompression_bomb_is_refused_at_the_limit_of_what_it_holds(urls: Urls, encoding: str) -> None:
    packed = PACKERS[encoding](BOMB) if encoding != "br" else brotli.compress(BOMB, quality=3)
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    before = psutil.Process().memory_info().rss
    began_s = time.monotonic()
    answers = [httpx.post(f"{urls.main}/api/query", content=packed, headers=headers) for _ in range(4)]
    took_s = time.monotonic() - began_s
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (413, "BodyTooLarge")
    grown = psutil.Process().memory_info().rss - before
    print(
        f"{encoding}: {len(packed) / KIB:.0f} KiB for 200 MiB; 4 took {took_s:.2f} s, {grown / MIB:.1f} MiB"
    )
    # One body at its limit, unpacked, a few times over; the bombs hold 800 MiB.
    assert grown < 160 * MIB


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_a_compressed_body_is_read_and_a_broken_one_is_a_400(urls: Urls, encoding: str) -> None:
    packed = PACKERS[encoding](b'{"path":"notes:echo","args":{"value":"hi"}}')
    headers = {"Content-Encoding": encoding}

    def post(content: bytes) -> Any:
        answer = httpx.post(f"{urls.main}/api/query", content=content, headers=headers)
        return answer.status_code, answer.json().get("code") or answer.json()["value"]

    assert post(packed) == (200, "hi")
    for broken in (packed[:-3], packed + b"more", b"not packed at all", b""):
        assert post(broken) == (400, "BadContentEncoding")
    # What a handler is sent is its own to unpack: it counts as it comes.
    site = httpx.post(f"{urls.site}/read", content=packed, headers=headers)
    assert site.text == str(len(packed))


def test_an_encoding_that_nobody_knows_is_a_415(urls: Urls) -> None:
    for encoding in ("zstd", "gzip, br", "x" * 500):
        answer = httpx.post(f"{urls.main}/api/query", content=b"{}", headers={"Content-Encoding": encoding})
        assert (answer.status_code, answer.json()["code"]) == (415, "UnknownContentEncoding")
        assert answer.headers["accept-encoding"] == "gzip, deflate, br"


def test_a_batch_has_bounds_on_its_queries_and_on_what_they_give(urls: Urls) -> None:
    def batch(*sizes: int) -> httpx.Response:
        queries = [{"path": "notes:large", "args": {"size": size}} for size in sizes]
        return httpx.post(f"{urls.main}/api/query_batch", json={"queries": queries})

    assert batch(1, 2, 3).status_code == 200
    for answer in (batch(1, 2, 3, 4), batch(600_000, 600_000)):
        assert (answer.status_code, answer.json()["code"]) == (413, "BatchTooLarge")


def test_bodies_of_many_requests_together_take_no_more_memory_than_they_may() -> None:
    """Each is within its own limit, and all of them together are not."""
    limits = replace(LIMITS, held_size_bytes_max=4 * BODY_MAX)
    deployment = Deployment(rdb.App(module_of(echo), root="", http=router, limits=limits))
    try:
        urls = deployment.start()
        routes = [(urls.site, "/read"), (urls.main, "/api/query"), (f"{urls.main}/http", "/read")]
        with ExitStack() as connections:
            raws: list[Raw] = []
            for url, path in routes * 3:
                raw = connections.enter_context(Raw(url))
                raw.begin(path, f"Content-Length: {BODY_MAX}")
                raw.send(b" " * (BODY_MAX - 1))
                raws.append(raw)
            refused = Counter(raw.refusal() for raw in raws)
        # Those that fitted wait for their last byte until they are too slow.
        assert refused.keys() == {(503, "TooManyConcurrentRequests"), (408, "BodyTooSlow")}
        assert refused[408, "BodyTooSlow"] <= 4
        # All of it has been given back.
        assert httpx.post(f"{urls.site}/read", content=b"x" * BODY_MAX).text == str(BODY_MAX)
        assert "reactivedb_held_bytes 0.0\n" in httpx.get(f"{urls.main}/metrics").text
    finally:
        deployment.stop()


# Heads


def test_a_head_that_does_not_end_is_refused_in_time(base: str) -> None:
    with Raw(base) as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: here\r\nX-Slow: ")
        assert raw.refusal() == (408, "RequestTooSlow")
    with Raw(base) as raw:
        assert raw.refusal() == (408, "RequestTooSlow")


def test_the_second_request_of_a_connection_has_no_more_time_than_the_first(base: str) -> None:
    with Raw(base) as raw:
        raw.begin("/files/x", method="GET")
        while b"/files/x" not in raw.socket.recv(65_536):
            pass
        raw.send(b"GET / HTTP/1.1\r\nHost: here\r\nX-Slow: ")
        assert raw.refusal() == (408, "RequestTooSlow")


def test_a_huge_head_is_a_431(base: str) -> None:
    with Raw(base) as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: here\r\n")
        try:
            for number in range(100_000):
                raw.send(f"X-{number}: {'y' * 100}\r\n")
        except OSError:
            pass  # It was refused long before the end.
    with Raw(base) as raw:
        raw.send(f"GET /{'x' * 40_000}")
        assert raw.refusal() == (431, "HeadTooLarge")


@pytest.mark.parametrize(
    "head",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n"],
)
def test_what_is_no_http_is_a_400(base: str, head: bytes) -> None:
    with Raw(base) as raw:
        raw.send(head + b"\r\n")
        assert raw.refusal() == (400, "MalformedRequest")


# What handlers do


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-name", "a\r\nset-cookie: stolen=1"),
        ("x-name", "a\nb"),
        ("x-name", "a\x00b"),
        ("x-name\r\nset-cookie", "a"),
        ("x name", "a"),
        ("", "a"),
        ("content-length", "-1"),
        ("content-length", "99"),
        ("transfer-encoding", "gzip"),
    ],
)
def test_a_header_that_is_none_is_the_handlers_error_and_no_second_header(
    base: str, name: str, value: str
) -> None:
    answer = httpx.get(f"{base}/head", params={"name": name, "value": value})
    assert answer.status_code == 500
    assert "set-cookie" not in answer.headers
    assert "InvalidResponse" in answer.json()["trace"]


def test_an_ordinary_header_and_status_pass(base: str) -> None:
    for value in ("", "a b\tc", "é", "a: b; c=d"):
        answer = httpx.get(f"{base}/head", params={"name": "x-name", "value": value})
        assert (answer.status_code, answer.headers["x-name"]) == (200, value)
    assert httpx.get(f"{base}/status?code=204").status_code == 204
    for code in (0, 99, 101, 600, 1000):
        assert httpx.get(f"{base}/status?code={code}").status_code == 500


@pytest.fixture
def name() -> str:
    """For one request of one test."""
    return f"name={uuid4()}"


def test_a_handler_that_does_not_answer_is_cancelled(base: str, name: str) -> None:
    answer = httpx.get(f"{base}/wait?{name}")
    assert (answer.status_code, answer.json()["code"]) == (504, "HttpActionTimeout")
    assert ended[name].acquire(timeout=10)


@pytest.mark.parametrize("body", [b"", b"unread"])
def test_a_handler_whose_client_leaves_is_cancelled(base: str, name: str, body: bytes) -> None:
    with Raw(base) as raw:
        raw.begin(f"/wait?{name}", f"Content-Length: {len(body)}")
        raw.send(body)
    began_s = time.monotonic()
    assert ended[name].acquire(timeout=10)
    assert time.monotonic() - began_s < 0.9 * LIMITS.http_action_s_max


def test_a_head_request_for_an_endless_stream_ends(base: str, name: str) -> None:
    answer = httpx.head(f"{base}/stream?{name}", timeout=10)
    assert (answer.status_code, answer.content) == (200, b"")
    assert ended[name].acquire(timeout=10)


def test_a_stream_may_go_on_for_longer_than_its_beginning_may_take(base: str, name: str) -> None:
    began_s = time.monotonic()
    with httpx.stream("GET", f"{base}/stream?{name}") as answer:
        for _ in answer.iter_raw():
            if time.monotonic() - began_s > 1.5 * LIMITS.http_action_s_max:
                break
    assert ended[name].acquire(timeout=10)


def test_a_reader_that_stands_still_holds_no_more_than_a_buffer(base: str, name: str) -> None:
    before = psutil.Process().memory_info().rss
    with Raw(base) as raw:
        raw.begin(f"/stream?{name}", method="GET")
        raw.socket.recv(1)
        # Nobody reads, so the handler is held up where it sends.
        assert not ended[name].acquire(timeout=1)
        assert psutil.Process().memory_info().rss - before < 32 * MIB
    assert ended[name].acquire(timeout=10)


def test_a_stream_that_fails_in_the_midst_breaks_off_and_is_logged(
    base: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{base}/breaks")
    told, fault = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "in the midst" in told.getMessage()
    assert fault.exc_info is not None
    assert "in the midst" in str(fault.exc_info[1])
    caplog.clear()


def test_a_body_that_grows_too_large_while_it_is_answered_breaks_off(base: str) -> None:
    with Raw(base) as raw:
        raw.begin("/count", "Transfer-Encoding: chunked")
        raw.send(b"1\r\nx\r\n")
        seen = raw.socket.recv(65_536)
        assert seen.startswith(b"HTTP/1.1 200")
        try:
            for _ in range(100):
                raw.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        except OSError:
            return  # Cut off before all was sent.
        rest = b""
        while piece := raw.socket.recv(65_536):
            rest += piece
        assert not rest.endswith(b"0\r\n\r\n")


# Who is slow for good reasons


def test_a_connection_that_is_kept_open_is_not_taken_for_a_slow_one(base: str) -> None:
    with Raw(base) as raw:
        for _ in range(2):
            raw.begin("/files/x", method="GET")
            seen = b""
            while not seen.endswith(b"/files/x"):
                seen += raw.socket.recv(65_536)
            assert seen.startswith(b"HTTP/1.1 200")
            raw.socket.settimeout(1.5 * LIMITS.http_head_s)
            with pytest.raises(TimeoutError):
                raw.socket.recv(1)


def test_requests_may_come_one_behind_the_other(base: str) -> None:
    with Raw(base) as raw:
        for number in range(3):
            raw.begin(f"/files/{number}", method="GET")
        raw.begin("/files/last", "Connection: close", method="GET")
        seen = b""
        while piece := raw.socket.recv(65_536):
            seen += piece
    assert seen.count(b"HTTP/1.1 200") == 4
    assert seen.endswith(b"/files/last")


def test_a_socket_that_says_nothing_lives_on(urls: Urls) -> None:
    with connect(f"{urls.main.replace('http', 'ws')}/api/1.48.0/sync") as client:
        client.send(json.dumps({"type": "Connect", "sessionId": "quiet", "connectionCount": 0}))
        with pytest.raises(TimeoutError):
            client.recv(timeout=2 * LIMITS.http_head_s)
        add = {"type": "Add", "queryId": 0, "udfPath": "notes:echo", "args": [{"value": "still here"}]}
        change = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [add]}
        client.send(json.dumps(change))
        assert "still here" in str(client.recv(timeout=10))


def test_a_body_that_was_announced_too_large_need_not_be_sent(urls: Urls) -> None:
    with Raw(urls.main) as raw:
        raw.begin("/api/query", "Expect: 100-continue", f"Content-Length: {100 * MIB}")
        assert raw.refusal() == (413, "BodyTooLarge")
    body = b'{"path":"notes:echo","args":{"value":1}}'
    with Raw(urls.main) as raw:
        raw.begin("/api/query", "Expect: 100-continue", "Connection: close", f"Content-Length: {len(body)}")
        assert raw.socket.recv(65_536).startswith(b"HTTP/1.1 100")
        raw.send(body)
        assert raw.answer() == (200, '{"status":"success","value":1}')
