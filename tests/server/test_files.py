"""Files over HTTP, through both ports of a real server."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from files import application as files
from files.application import FileId
from inline_app import module_of
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

import reactivedb as rdb

from .deployment import KEY, Deployment, Urls
from .raw import Raw

pytestmark = pytest.mark.slow

router = rdb.HttpRouter()


@router.put("/stored")
async def store_request(ctx: rdb.ActionCtx, request: Request) -> Response:
    id = await ctx.storage.store(request.stream(), content_type=request.headers.get("content-type"))
    return PlainTextResponse(await ctx.storage.get_url(id))


@router.get("/upper")
async def upper(ctx: rdb.ActionCtx, request: Request) -> Response:
    blob = await ctx.storage.get(request.query_params["id"])
    assert blob is not None
    return Response((await blob.read()).upper(), media_type=blob.content_type)


class Client:
    """Whoever calls the functions of the application in `files` and sends and fetches files."""

    def __init__(self, urls: Urls) -> None:
        self.urls = urls

    def call(self, name: str, **args: Any) -> Any:
        kind = {"remove": "mutation", "upload_url": "mutation", "store": "action"}.get(name, "query")
        body = {"path": f"files:{name}", "args": args, "format": "json"}
        answer = httpx.post(f"{self.urls.main}/api/{kind}", json=body).json()
        assert answer["status"] == "success", answer
        return answer["value"]

    def send(self, content: Any, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(self.call("upload_url"), content=content, headers=named)

    def store(self, content: bytes, **headers: str) -> tuple[FileId, str]:
        """The id and the URL of a new file."""
        answer = self.send(content, **headers)
        assert answer.status_code == 200, answer.text
        assert list(answer.json()) == ["storageId"]
        id = answer.json()["storageId"]
        return id, self.call("url", id=id)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    module = module_of(files.Photo, files.Avatar, files.Contract, *files.FUNCTIONS, name="files")
    app = rdb.App(module, root="", http=router)
    deployment = Deployment(app, tmp_path_factory.mktemp("files") / "data.db")
    yield Client(deployment.start())
    deployment.stop()


def test_an_uploaded_file_is_served_as_it_was_sent(client: Client) -> None:
    data = os.urandom(700_000)
    id, url = client.store(data, content_type="image/png")
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    answer = httpx.get(url)
    assert answer.status_code == 200
    assert answer.content == data
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == "700000"
    assert answer.headers["digest"] == f"sha-256={digest}"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["cache-control"] == "private, max-age=2592000"
    row = client.call("metadata", id=id)
    assert row.pop("_creationTime") > 0
    assert row == {"_id": id, "sha256": digest, "size": 700_000, "contentType": "image/png"}


@pytest.mark.parametrize(
    ("function", "args"),
    [
        ("_system/frontend/listTableScan", {"limit": 100}),
        ("_system/cli/tableData", {"paginationOpts": {"numItems": 100, "cursor": None}}),
    ],
)
def test_administrators_see_rows_and_no_addresses(client: Client, function: str, args: Any) -> None:
    id, url = client.store(b"a", content_type="text/plain")
    body = {"path": function, "args": {"table": "_storage", **args}}
    shown = httpx.post(f"{client.urls.main}/api/query", json=body, headers={"authorization": f"Convex {KEY}"})
    assert f'"_id":"{id}"' in shown.text
    assert url.rpartition("/")[2] not in shown.text
    assert httpx.post(f"{client.urls.main}/api/query", json=body).json()["status"] == "error"


def test_head_tells_the_same_without_the_bytes(client: Client) -> None:
    _, url = client.store(b"0123456789", content_type="text/plain")
    full, head = httpx.get(url), httpx.head(url)
    assert head.status_code == 200
    assert head.content == b""
    assert {**head.headers, "date": ""} == {**full.headers, "date": ""}


@pytest.mark.parametrize(
    "content_type", ["text/HTML; charset=x-odd", 'application/x; q="a, b"', "not a type"]
)
def test_a_content_type_is_kept_letter_for_letter(client: Client, content_type: str) -> None:
    # What the bytes look like counts for nothing.
    id, url = client.store(b"\x89PNG\r\n\x1a\n", content_type=content_type)
    assert httpx.get(url).headers["content-type"] == content_type
    assert client.call("metadata", id=id)["contentType"] == content_type


def test_a_file_without_a_content_type_is_bytes(client: Client) -> None:
    id, url = client.store(b"<html>")
    assert client.call("metadata", id=id)["contentType"] is None
    assert httpx.get(url).headers["content-type"] == "application/octet-stream"


def test_an_empty_file_is_a_file(client: Client) -> None:
    id, url = client.store(b"")
    assert client.call("metadata", id=id)["size"] == 0
    answer = httpx.get(url)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    assert httpx.get(url, headers={"range": "bytes=0-"}).status_code == 416


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=2-5", 2, 6),
        ("bytes=7-", 7, 10),
        ("bytes=-3", 7, 10),
        ("bytes=-99", 0, 10),
        ("bytes=0-99", 0, 10),
        ("Bytes=9-9", 9, 10),
    ],
)
def test_a_range_is_a_part(client: Client, asked: str, start: int, stop: int) -> None:
    _, url = client.store(b"0123456789", content_type="text/plain")
    answer = httpx.get(url, headers={"range": asked})
    assert answer.status_code == 206
    assert answer.content == b"0123456789"[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/10"
    assert answer.headers["content-length"] == str(stop - start)
    assert answer.headers["content-type"] == "text/plain"


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=9999999999999999999-"])
def test_a_range_with_nothing_in_it_is_refused(client: Client, asked: str) -> None:
    _, url = client.store(b"0123456789")
    answer = httpx.get(url, headers={"range": asked})
    assert (answer.status_code, answer.json()["code"]) == (416, "RangeNotSatisfiable")
    assert answer.headers["content-range"] == "bytes */10"


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,3-4", "bytes=5-2", "bytes=-", "lines=0-1", "bytes=a-b", "bytes", "", "bytes=²-"]
)
def test_what_is_no_single_range_gets_the_whole_file(client: Client, asked: str) -> None:
    _, url = client.store(b"0123456789")
    answer = httpx.get(url, headers={"range": asked.encode()})
    assert (answer.status_code, answer.content) == (200, b"0123456789")


def test_a_range_of_a_large_file_begins_in_its_midst(client: Client) -> None:
    data = os.urandom(1_000_000)
    _, url = client.store(data)
    answer = httpx.get(url, headers={"range": "bytes=300000-899999"})
    assert answer.content == data[300_000:900_000]


def test_a_browser_that_has_the_file_is_not_sent_it_again(client: Client) -> None:
    _, url = client.store(b"0123456789")
    tag = httpx.get(url).headers["etag"]
    for known in (tag, f'W/{tag}, "other"', "*"):
        answer = httpx.get(url, headers={"if-none-match": known})
        assert (answer.status_code, answer.content) == (304, b"")
    assert httpx.get(url, headers={"if-none-match": '"other"'}).status_code == 200
    assert httpx.get(url, headers={"range": "bytes=0-0", "if-range": tag}).status_code == 206
    assert httpx.get(url, headers={"range": "bytes=0-0", "if-range": '"other"'}).status_code == 200


def test_a_file_cannot_run_with_the_origin_of_the_deployment(client: Client) -> None:
    _, url = client.store(b"<script>alert(origin)</script>", content_type="text/html")
    answer = httpx.get(url)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox"
    _, url = client.store(b"%PDF", content_type="application/pdf")
    assert "content-security-policy" not in httpx.get(url).headers
    # A browser takes the last type of a list.
    _, url = client.store(b"<script>alert(origin)</script>", content_type="application/pdf;,text/html")
    assert httpx.get(url).headers["content-security-policy"] == "sandbox"


def test_pages_of_other_origins_may_send_and_fetch(client: Client) -> None:
    origin = {"origin": "https://app.example"}
    asks = {**origin, "access-control-request-method": "POST", "access-control-request-headers": "digest"}
    allowed = httpx.options(client.call("upload_url"), headers=asks)
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-headers"] == "digest"
    _, url = client.store(b"a")
    for answer in (client.send(b"a", **origin), httpx.get(url, headers=origin)):
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "content-range" in httpx.get(url, headers=origin).headers["access-control-expose-headers"]


def test_a_right_digest_is_accepted_in_either_header(client: Client) -> None:
    digest = base64.b64encode(hashlib.sha256(b"data").digest()).decode()
    client.store(b"data", digest=f"SHA-256={digest}")
    client.store(b"data", digest=f"md5=unheard-of,sha-256={digest}")
    client.store(b"data", content_digest=f"sha-512=:AAAA:, sha-256=:{digest}:")


def test_h91_a_deleted_file_is_gone_from_its_address(client: Client) -> None:
    id, url = client.store(b"a")
    client.call("remove", id=id)
    answer = httpx.get(url)
    assert (answer.status_code, answer.json()["code"]) == (404, "FileNotFound")
    assert httpx.head(url).status_code == 404
    assert client.call("url", id=id) is None


def test_a_download_that_has_begun_goes_on_when_the_file_is_deleted(client: Client) -> None:
    data = os.urandom(8_000_000)
    id, url = client.store(data)
    with httpx.stream("GET", url) as answer:
        pieces = answer.iter_raw(65_536)
        begun = next(pieces)
        client.call("remove", id=id)
        assert begun + b"".join(pieces) == data


def test_other_methods_are_answered_as_such(client: Client) -> None:
    _, url = client.store(b"a")
    assert httpx.post(url).status_code == 405
    assert httpx.delete(url).status_code == 405
    assert httpx.get(client.call("upload_url")).json()["code"] == "FileNotFound"


def test_an_http_action_stores_what_it_is_sent_as_it_comes(client: Client) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b"piece by piece "

    answer = httpx.put(f"{client.urls.site}/stored", content=pieces(), headers={"content-type": "text/plain"})
    stored = httpx.get(answer.text)
    assert stored.text == "piece by piece " * 100
    assert stored.headers["content-type"] == "text/plain"


def test_an_http_action_reads_what_was_uploaded(client: Client) -> None:
    id, _ = client.store(b"shout", content_type="text/plain")
    assert httpx.get(f"{client.urls.site}/upper?id={id}").content == b"SHOUT"


def test_the_url_of_a_deployment_behind_a_prefix_is_what_its_owner_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONVEX_CLOUD_URL", "https://db.example/mounted/")
    deployment = Deployment(files.file_app(), tmp_path / "data.db")
    try:
        url: str = Client(deployment.start()).call("upload_url")
    finally:
        deployment.stop()
    assert url.startswith("https://db.example/mounted/api/storage/upload?token=")


def test_an_upload_may_ask_first_whether_it_is_welcome(client: Client) -> None:
    path = client.call("upload_url").removeprefix(client.urls.main)
    with Raw(client.urls.main) as raw:
        raw.begin(path, "Content-Length: 5", "Expect: 100-continue", "Connection: close")
        assert raw.socket.recv(100).startswith(b"HTTP/1.1 100 ")
        raw.send("hello")
        assert raw.answer()[0] == 200
