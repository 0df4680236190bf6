"""The HTTP face, asked through an ASGI client."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from httpx import Response
from starlette.testclient import TestClient

import reactivedb as rdb
from reactivedb.protocol import decode_ts, encode_ts
from reactivedb.server.admin import Addresses

from . import notes

KEY = "test|0123456789abcdef"
ADMIN = {"Authorization": f"Convex {KEY}"}


def make_app(static: str | None = None) -> rdb.App:
    return rdb.App(notes, root=__package__, static=static)


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(
        rdb.asgi(make_app(), ":memory:", admin_key=KEY), raise_server_exceptions=False
    ) as running:
        yield running


def call(client: TestClient, kind: str, path: str, args: object = None, **headers: str) -> dict[str, Any]:
    body = {"path": path, "args": args if args is not None else {}, "format": "convex_encoded_json"}
    answer = client.post(f"/api/{kind}", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def code_of(answer: Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"code", "message"}
    return body["code"]


def test_each_kind_is_called_on_its_own_route(client: TestClient) -> None:
    added = call(client, "mutation", "notes:add", {"text": "one"})
    assert added == {"status": "success", "value": None, "logLines": ["[LOG] 'adding'"]}
    assert call(client, "query", "notes:texts", [{}]) == {"status": "success", "value": ["one"]}
    assert call(client, "action", "notes:shout", {"text": "hi"})["value"] == "HI"
    assert call(client, "query", "notes:add", {"text": "two"})["status"] == "error"


def test_a_failure_carries_data_only_if_the_application_gave_some(client: TestClient) -> None:
    refused = call(client, "mutation", "notes:refuse")
    assert refused["errorData"] == {"code": "Refused", "count": {"$integer": "AQAAAAAAAAA="}}
    crashed = call(client, "mutation", "notes:crash")
    assert "the inner working" in crashed["errorMessage"]
    assert "errorData" not in crashed


def test_production_keeps_the_inner_working_to_itself() -> None:
    live = rdb.asgi(make_app(), ":memory:", production=True)
    with TestClient(live) as client:
        crashed = call(client, "mutation", "notes:crash")
        assert "the inner working" not in crashed["errorMessage"]
        assert "logLines" not in call(client, "mutation", "notes:add", {"text": "one"})


def test_the_format_decides_how_an_answer_is_written(client: TestClient) -> None:
    for form, written in [("json", "1"), ("convex_json", {"$integer": "AQAAAAAAAAA="})]:
        body = {"path": "notes:refuse", "args": {}, "format": form}
        assert client.post("/api/mutation", json=body).json()["errorData"]["count"] == written
    body = {"path": "notes:texts", "args": {}, "format": "xml"}
    assert code_of(client.post("/api/query", json=body), 400) == "BadFormat"


@pytest.mark.parametrize(
    ("name", "is_lossless"),
    [
        ("npm-1.4.0", True),
        ("npm-0.19.1", True),
        ("npm-1.4.1", False),
        ("npm-1.48.0", False),
        ("npm-cli-1.3.0", False),
        ("python-0.4.9", True),
        ("python-0.5.0", False),
        ("swift-0.1.0", False),
        ("npm", False),
        ("", False),
    ],
)
def test_a_client_older_than_formats_gets_the_lossless_one(
    client: TestClient, name: str, is_lossless: bool
) -> None:
    body = {"path": "notes:refuse", "args": {}}
    answer = client.post("/api/mutation", json=body, headers={"Convex-Client": name})
    written = answer.json()["errorData"]["count"]
    assert written == ({"$integer": "AQAAAAAAAAA="} if is_lossless else "1")


def test_the_http_client_for_python_gets_each_number_with_a_fraction(client: TestClient) -> None:
    value = [1, {"a": True, "b": -2}]
    body = {"path": "notes:echo", "args": {"value": value}, "format": "convex_encoded_json"}
    for name, written in [
        ("python-0.8.1", "[1.0,{" + '"a":true,"b":-2.0}]'),
        ("npm-1.48.0", '[1,{"a":true,"b":-2}]'),
    ]:
        assert written in client.post("/api/query", json=body, headers={"Convex-Client": name}).text


def test_a_query_may_be_asked_with_get_and_a_function_by_its_url(client: TestClient) -> None:
    asked = client.get("/api/query", params={"path": "notes:echo", "args": '{"value": [1]}'})
    assert asked.json() == {"status": "success", "value": [1]}
    run = client.post("/api/run/notes/echo", json={"args": {"value": True}})
    assert run.json() == {"status": "success", "value": True}


def test_a_query_at_a_timestamp_sees_the_past(client: TestClient) -> None:
    call(client, "mutation", "notes:add", {"text": "one"})
    ts = client.post("/api/query_ts").json()["ts"]
    assert decode_ts(ts) > 0
    call(client, "mutation", "notes:add", {"text": "two"})
    past = client.post("/api/query_at_ts", json={"path": "notes:texts", "args": {}, "ts": ts})
    assert past.json()["value"] == ["one"]
    for bad in ({"ts": "x"}, {"ts": None}, {"ts": 5}, {}):
        assert code_of(client.post("/api/query_at_ts", json={"path": "notes:texts", **bad}), 400)
    future = client.post("/api/query_at_ts", json={"path": "notes:texts", "ts": encode_ts(2**63)})
    assert "TimestampOutOfRange" in future.json()["errorMessage"]


def test_a_timestamp_that_no_log_can_hold_is_refused_as_any_that_has_not_come(tmp_path: Path) -> None:
    with TestClient(rdb.asgi(make_app(), tmp_path / "data.db"), raise_server_exceptions=False) as client:
        for ts in (2**63 - 1, 2**63, 2**64 - 1):
            answer = client.post("/api/query_at_ts", json={"path": "notes:texts", "ts": encode_ts(ts)})
            assert answer.status_code == 200, answer.text
            assert "TimestampOutOfRange" in answer.json()["errorMessage"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([1], "expected a JSON object as body, got a list of 1"),
        ({"path": "notes:texts", "args": [{}, {}]}, "list of one object, got a list of 2"),
        ({"path": "notes:texts", "args": None}, "list of one object, got null"),
        ({"path": {"a": 1}}, "got a JSON object of 1"),
    ],
)
def test_a_body_of_another_shape_is_told_what_it_is(client: TestClient, body: object, said: str) -> None:
    answer = client.post("/api/query", json=body)
    assert code_of(answer, 400) == "BadRequestBody"
    assert said in answer.json()["message"]


def test_a_batch_answers_each_query(client: TestClient) -> None:
    queries = [{"path": "notes:texts", "args": {}}, {"path": "notes:nothing", "args": {}}]
    results = client.post("/api/query_batch", json={"queries": queries}).json()["results"]
    assert [result["status"] for result in results] == ["success", "error"]
    assert code_of(client.post("/api/query_batch", json={"queries": 1}), 400) == "BadRequestBody"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{not json", "MalformedJson"),
        (b"", "MalformedJson"),
        (b"\xff\xfe", "MalformedJson"),
        (b"[" * 100_000, "MalformedJson"),
        (b"[]", "BadRequestBody"),
        (b'{"args": {}}', "BadRequestBody"),
        (b'{"path": "m:f", "args": [{}, {}]}', "BadRequestBody"),
        (b'{"path": "m:f", "componentPath": "a/b"}', "BadRequestBody"),
        (b'{"path": "../x:y"}', "InvalidFunctionPath"),
        (b'{"path": "m:\\ud800"}', "InvalidFunctionPath"),
    ],
)
def test_a_malformed_request_is_named(client: TestClient, body: bytes, code: str) -> None:
    assert code_of(client.post("/api/query", content=body), 400) == code


def test_a_lone_surrogate_in_the_arguments_fails_the_call_and_not_the_request(client: TestClient) -> None:
    answer = client.post("/api/query", content=b'{"path": "notes:echo", "args": {"value": "\\ud800"}}')
    assert answer.status_code == 200
    assert answer.json()["status"] == "error"


def test_a_body_above_the_limit_is_refused(client: TestClient) -> None:
    answer = client.post("/api/query", content=b" " * (17 * 1024 * 1024 + 1))
    assert code_of(answer, 413) == "BodyTooLarge"


def test_head_and_options_are_answered_without_a_body(client: TestClient) -> None:
    asked = client.head("/api/query", params={"path": "notes:texts"})
    assert (asked.status_code, asked.headers["content-type"]) == (200, "application/json")
    options = client.options("/api/mutation")
    assert (options.status_code, options.content) == (204, b"")
    assert "POST" in options.headers["allow"]
    assert "access-control-allow-origin" not in options.headers


def test_a_database_that_cannot_answer_is_no_outcome(client: TestClient) -> None:
    answer = client.post("/api/mutation", json={"path": "notes:clash"})
    assert code_of(answer, 503) == "OptimisticConcurrencyControlFailure"
    assert answer.headers["retry-after"]
    assert not answer.json()["message"].startswith("OptimisticConcurrencyControlFailure")
    batch = client.post("/api/query_batch", json={"queries": [{"path": "notes:clashInQuery"}]})
    assert code_of(batch, 503) == "OptimisticConcurrencyControlFailure"


@pytest.mark.parametrize("path", ["/%00", "/a%00b", "/" + "x" * 5_000, "/api/run/%00", "/api/run/", "/api/"])
def test_no_path_is_too_odd_for_a_clear_answer(tmp_path: Path, path: str) -> None:
    (tmp_path / "index.html").write_text("home")
    with TestClient(rdb.asgi(make_app(str(tmp_path)), ":memory:")) as client:
        assert code_of(client.get(path), client.get(path).status_code)
        assert client.get(path).status_code in (404, 405)


def test_unknown_routes_and_methods_are_json(client: TestClient) -> None:
    assert code_of(client.get("/api/nothing"), 404) == "NotFound"
    assert code_of(client.get("/api/nothing", headers={"Convex-Client": "npm-cli-1.48.0"}), 400)
    assert code_of(client.get("/api/mutation"), 405) == "MethodNotAllowed"


def test_only_the_admin_key_reaches_internal_functions(client: TestClient) -> None:
    body = {"path": "notes:hidden", "args": {}}
    assert code_of(client.post("/api/function", json=body), 403) == "BadDeployKey"
    assert code_of(client.post("/api/function", json=body, headers={"Authorization": "Convex no"}), 403)
    assert client.post("/api/function", json=body, headers=ADMIN).json()["value"] == "seen"
    # Outsiders are told the same of a hidden function and of one that does not exist.
    hidden, missing = (
        call(client, "query", path)["errorMessage"].replace(path, "")
        for path in ("notes:hidden", "notes:none")
    )
    assert hidden == missing


def test_an_administrator_may_act_as_a_user(client: TestClient) -> None:
    def acting_as(identity: bytes) -> dict[str, str]:
        return {"Authorization": f"Convex {KEY}:{base64.b64encode(identity).decode()}"}

    body = {"path": "notes:hidden", "args": {}}
    user = acting_as(b'{"issuer": "i", "subject": "s"}')
    assert client.post("/api/function", json=body, headers=user).json()["value"] == "seen"
    for bad in (acting_as(b"[]"), acting_as(b"{}"), {"Authorization": f"Convex {KEY}:%%"}):
        assert code_of(client.post("/api/function", json=body, headers=bad), 400) == "InvalidIdentity"


def test_a_token_is_refused_while_no_provider_is_known(client: TestClient) -> None:
    refusals = {"Bearer a.b.c": "NoAuthProvider", "Bearer": "InvalidAuthHeader"}
    refusals |= {"Basic YTpi": "InvalidAuthHeader", "": "InvalidAuthHeader"}
    for header, code in refusals.items():
        answer = client.post("/api/query", json={"path": "notes:texts"}, headers={"Authorization": header})
        assert code_of(answer, 401) == code


def test_the_key_can_be_checked_and_opens_the_addresses(client: TestClient) -> None:
    assert client.get("/api/check_admin_key", headers=ADMIN).json() == {"success": True}
    assert client.get("/api/check_admin_key", params={"adminKey": KEY}).status_code == 200
    assert client.get("/api/check_admin_key").status_code == 403
    urls = client.get("/api/v1/get_canonical_urls", headers=ADMIN).json()
    assert set(urls) == {"convexCloudUrl", "convexSiteUrl"}


def test_a_page_elsewhere_cannot_reach_the_admin_routes_of_this_machine() -> None:
    live = rdb.asgi(make_app(), ":memory:", admin_key=KEY)
    live.addresses = Addresses(cloud_url="http://127.0.0.1:3210")
    with TestClient(live, base_url="http://127.0.0.1:3210") as client:
        assert client.get("/api/check_admin_key", headers=ADMIN).status_code == 200
        for header, code in [("Host", "ForeignHost"), ("Origin", "ForeignOrigin")]:
            value = "127.evil.example" if header == "Host" else "https://evil.example"
            answer = client.get("/api/check_admin_key", headers={**ADMIN, header: value})
            assert code_of(answer, 403) == code
        home = {**ADMIN, "Origin": "http://localhost:5173"}
        assert client.get("/api/check_admin_key", headers=home).status_code == 200


def test_any_origin_may_call_the_api(client: TestClient) -> None:
    origin = {"Origin": "https://app.example"}
    asked = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-a, x-b"}
    preflight = client.options("/api/mutation", headers=asked)
    assert preflight.is_success
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    assert preflight.headers["access-control-allow-headers"] == "x-a, x-b"
    assert preflight.headers["access-control-allow-credentials"] == "true"
    assert preflight.headers["access-control-max-age"] == "86400"
    answer = client.post("/api/query", json={"path": "notes:texts"}, headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://app.example"


def test_runs_of_slashes_count_as_one(client: TestClient) -> None:
    assert (
        client.post("http://testserver//api//query", json={"path": "notes:texts"}).json()["status"]
        == "success"
    )


def test_the_server_says_what_it_is(client: TestClient) -> None:
    for path in ("/version", "/instance_version", "/instance_name", "/healthz", "/"):
        assert client.get(path).status_code == 200
    assert client.post("/echo", content=b"\x00\xff").content == b"\x00\xff"


def test_the_static_folder_is_served_below_the_api_and_never_left(tmp_path: Path) -> None:
    web = tmp_path / "web"
    web.mkdir()
    (web / "index.html").write_text("<h1>home</h1>")
    (web / "version").write_text("not reached")
    (web / ".env").write_text("secret")
    (tmp_path / "app.py").write_text("secret")
    (web / "link").symlink_to(tmp_path / "app.py")
    with TestClient(rdb.asgi(make_app(str(web)), ":memory:")) as client:
        home = client.get("/")
        assert home.text == "<h1>home</h1>"
        assert home.headers["cache-control"] == "no-cache"
        assert client.get("/", headers={"If-None-Match": home.headers["etag"]}).status_code == 304
        assert client.get("/version").text != "not reached"
        for path in ("/.env", "/link", "/%2e%2e/app.py", "/..%2fapp.py", "/nothing"):
            assert client.get(path).status_code == 404
        module = client.get("/reactivedb.js")
        assert module.headers["content-type"].startswith("text/javascript")
        assert (
            client.get("/reactivedb.js", headers={"If-None-Match": module.headers["etag"]}).status_code == 304
        )


def test_without_the_lifespan_every_answer_says_so() -> None:
    client = TestClient(rdb.asgi(make_app(), ":memory:"))
    assert code_of(client.get("/version"), 503) == "LifespanNotRunning"


def test_an_app_needs_a_path() -> None:
    with pytest.raises(rdb.SchemaError) as refused:
        rdb.asgi(make_app())
    assert refused.value.code == "MissingPath"


def test_it_can_be_mounted_in_another_application(tmp_path: Path) -> None:
    from fastapi import FastAPI

    live = rdb.asgi(make_app(), tmp_path / "data.db")
    outer = FastAPI(lifespan=live.lifespan)
    outer.mount("/db", live)

    @outer.get("/count")
    async def count() -> int:
        return len(await live.database.query(notes.texts))

    with TestClient(outer) as client:
        client.post("/db/api/mutation", json={"path": "notes:add", "args": {"text": "one"}})
        assert client.get("/count").json() == 1
        assert client.get("/db/healthz").text == "ok"
        assert client.post("/db//api/query", json={"path": "notes:texts"}).json()["value"] == ["one"]
        with client.websocket_connect("/db/api/sync") as socket:
            socket.send_text(json.dumps(CONNECT))
            socket.send_text(json.dumps(ADD_TEXTS))
            assert transition(socket)["modifications"][0]["value"] == ["one"]


def test_an_open_database_is_served_and_stays_its_owners(tmp_path: Path) -> None:
    from contextlib import asynccontextmanager

    from fastapi import FastAPI

    @asynccontextmanager
    async def own(outer: FastAPI) -> Any:
        async with make_app().open_async(":memory:") as database:
            outer.mount("/", rdb.asgi(database))
            yield
            assert await database.query(notes.texts) == ["one"]

    with TestClient(FastAPI(lifespan=own)) as client:
        assert call(client, "mutation", "notes:add", {"text": "one"})["status"] == "success"


CONNECT = {"type": "Connect", "sessionId": "0" * 8 + "-0000-4000-8000-" + "0" * 12, "connectionCount": 0}
ADD_TEXTS = {
    "type": "ModifyQuerySet",
    "baseVersion": 0,
    "newVersion": 1,
    "modifications": [{"type": "Add", "queryId": 0, "udfPath": "notes:texts", "args": [{}]}],
}


def transition(socket: Any) -> dict[str, Any]:
    while (message := json.loads(socket.receive_text()))["type"] != "Transition" or not message[
        "modifications"
    ]:
        pass
    return message


def test_under_a_foreign_server_the_socket_works_through_plain_asgi(client: TestClient) -> None:
    for path in ("/api/sync", "/api/1.48.0/sync", "/sync", "/api//sync"):
        with client.websocket_connect(path) as socket:
            socket.send_text(json.dumps(CONNECT))
            socket.send_text(json.dumps(ADD_TEXTS))
            before = transition(socket)["modifications"][0]["value"]
            call(client, "mutation", "notes:add", {"text": path})
            assert transition(socket)["modifications"][0]["value"] == [*before, path]
