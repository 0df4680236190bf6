"""h.10, h.63-h.68: what does a plain HTTP caller get?"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from .conftest import JsRun
from .server import DevServer

MIB = 1024 * 1024


@pytest.fixture
def server(shared_server: DevServer) -> DevServer:
    return shared_server


def post(server: DevServer, kind: str, body: object, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}/api/{kind}", json=body, headers=headers, timeout=30)


ENCODED = {
    "int": {"$integer": "+/////////8="},
    "nan": {"$float": "AAAAAAAA+H8="},
    "down": {"$float": "AAAAAAAA8P8="},
    "bytes": {"$bytes": "AP8Q"},
    "plain": [1, "a", None, True],
}
LOSSY = {"int": "-5", "nan": "NaN", "down": "-Infinity", "bytes": "AP8Q", "plain": [1, "a", None, True]}


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"format": "convex_encoded_json"}, ENCODED),
        ({"format": "convex_json"}, ENCODED),
        ({"format": "json"}, LOSSY),
        ({"format": "convex_clean_json"}, LOSSY),
        ({}, LOSSY),
    ],
)
def test_h10_a_result_comes_in_the_format_asked_for(
    server: DevServer, chosen: dict[str, str], expected: object
) -> None:
    body = {"path": "echo:fromQuery", "args": {"value": ENCODED}, **chosen}
    assert post(server, "query", body).json() == {"status": "success", "value": expected}


def test_h10_an_unknown_format_is_a_bad_request(server: DevServer) -> None:
    answer = post(server, "query", {"path": "echo:nothing", "args": {}, "format": "xml"})
    assert answer.status_code == 400
    assert {"code", "message"} <= set(answer.json())


def test_h63_convex_http_client_calls_all_three_kinds(js: JsRun) -> None:
    js("http", "calls")


def test_h63_consistent_queries_share_one_snapshot(js: JsRun) -> None:
    js("http", "consistent")


def test_h63_a_trailing_slash_in_the_url_does_no_harm(js: JsRun) -> None:
    js("http", "trailingSlash")


@pytest.mark.parametrize("kind", ["query", "mutation", "action"])
def test_h63_args_may_be_an_object_or_an_array_of_one(server: DevServer, kind: str) -> None:
    args = {"value": {"a": [1]}}
    for spelling in (args, [args]):
        body = {"path": f"echo:from{kind.title()}", "args": spelling, "format": "convex_encoded_json"}
        assert post(server, kind, body).json() == {"status": "success", "value": {"a": [1]}}


def test_h64_a_failed_function_is_an_error_with_status_200(server: DevServer) -> None:
    plain = server.request("mutation", "failing:plainMutation")
    assert plain.status_code == 200
    assert plain.json()["status"] == "error"
    assert "a plain failure" in plain.json()["errorMessage"]
    assert set(plain.json()) == {"status", "errorMessage"}
    told = server.request("query", "failing:toldByQuery", {"data": {"n": 1}}).json()
    assert told["errorData"] == {"n": 1}
    assert server.request("query", "failing:toldByQuery", {"data": None}).json()["errorData"] is None
    for path, args in [("counter:nothing", {}), ("counter:value", {"name": 1}), ("counter:increment", {})]:
        answer = server.request("query", path, args)
        assert answer.status_code == 200
        assert answer.json()["status"] == "error"


def test_h64_log_lines_come_only_if_there_are_any(server: DevServer) -> None:
    assert "logLines" not in server.request("query", "echo:nothing").json()
    lines = server.request("mutation", "logs:fromMutation").json()["logLines"]
    assert lines[0].startswith("[LOG] ")
    assert "seen in the mutation" in lines[0]
    assert lines[1].startswith("[WARN] ")


@pytest.mark.parametrize(
    "body",
    [
        b"{not json",
        b"",
        b"[]",
        b'{"args": {}}',
        b'{"path": 5, "args": {}}',
        b'{"path": "echo:nothing", "args": "text"}',
        b'{"path": "echo:nothing", "args": [{}, {}]}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_h65_a_malformed_body_is_a_bad_request(server: DevServer, body: bytes) -> None:
    answer = httpx.post(
        f"{server.url}/api/query", content=body, headers={"Content-Type": "application/json"}, timeout=30
    )
    assert answer.status_code == 400, answer.text
    assert isinstance(answer.json()["code"], str)
    assert isinstance(answer.json()["message"], str)


def test_h65_a_wrong_method_is_refused(server: DevServer) -> None:
    for method, path in [("GET", "mutation"), ("DELETE", "query"), ("PUT", "action")]:
        answer = httpx.request(method, f"{server.url}/api/{path}")
        assert 400 <= answer.status_code < 500, (method, path)


def test_h65_an_oversized_body_is_refused_and_the_largest_allowed_is_not(server: DevServer) -> None:
    text = "x" * (17 * MIB)
    try:
        answer = post(server, "query", {"path": "echo:typeName", "args": {"value": text}})
    except (httpx.WriteError, httpx.RemoteProtocolError) as error:
        pytest.fail(f"the refusal was not readable: {error!r}")
    assert answer.status_code == 413
    assert {"code", "message"} <= set(answer.json())
    fitting = "x" * (16 * MIB - 100)
    assert post(server, "query", {"path": "echo:typeName", "args": {"value": fitting}}).json() == {
        "status": "success",
        "value": "str",
    }


def test_h66_a_function_can_be_called_by_its_url(server: DevServer) -> None:
    answer = httpx.post(f"{server.url}/api/run/nested/deep/greet", json={"args": {"name": "ada"}})
    assert answer.json() == {"status": "success", "value": "hello ada"}
    counted = httpx.post(f"{server.url}/api/run/counter/increment", json={"args": {"name": "by url"}})
    assert counted.json() == {"status": "success", "value": 1}


def test_h66_a_query_can_be_asked_with_get(server: DevServer) -> None:
    params = {"path": "echo:fromQuery", "args": json.dumps({"value": ENCODED})}
    answer = httpx.get(f"{server.url}/api/query", params=params)
    assert answer.json() == {"status": "success", "value": LOSSY}
    params["format"] = "convex_encoded_json"
    answer = httpx.get(f"{server.url}/api/query", params=params)
    assert answer.json() == {"status": "success", "value": ENCODED}


@pytest.mark.parametrize("route", ["query", "mutation", "action"])
def test_h67_a_browsers_preflight_passes(server: DevServer, route: str) -> None:
    asked = {
        "Origin": "http://localhost:5173",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,convex-client,authorization,x-custom",
    }
    answer = httpx.options(f"{server.url}/api/{route}", headers=asked)
    assert answer.status_code in (200, 204)
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:5173"
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    allowed = {name.strip().lower() for name in answer.headers["Access-Control-Allow-Headers"].split(",")}
    assert {"content-type", "convex-client", "authorization", "x-custom"} <= allowed
    methods = {name.strip() for name in answer.headers["Access-Control-Allow-Methods"].split(",")}
    assert {"GET", "POST", "OPTIONS", "PATCH", "DELETE", "PUT"} <= methods
    assert answer.headers["Access-Control-Max-Age"] == "86400"


def test_h67_answers_and_errors_carry_the_origin(server: DevServer) -> None:
    origin = {"Origin": "http://localhost:5173"}
    answers = [
        post(server, "mutation", {"path": "counter:increment", "args": {"name": "preflight"}}, **origin),
        post(server, "mutation", {"path": 1}, **origin),
    ]
    assert [answer.status_code for answer in answers] == [200, 400]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:5173"
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"


def test_h68_spellings_of_a_path_meet_the_same_function(server: DevServer) -> None:
    for path in ("nested/deep:greet", "nested/deep.js:greet"):
        assert server.query(path, name="ada") == "hello ada"
    for path in ("nested/deep", "nested/deep:default", "nested/deep.js"):
        assert server.query(path) == "the default export"
    for path in ("tasks:texts", "tasks.js:texts"):
        assert server.query(path, listName="home") == []


def test_h68_the_default_export_and_folders_work_from_npm(js: JsRun) -> None:
    js("http", "defaultExport")


@pytest.mark.parametrize(
    "path",
    [
        "../x:y",
        "counter.ts:value",
        "counter.py:value",
        "/counter:value",
        "a//b:c",
        "",
        ":value",
        "counter:va lue",
    ],
)
def test_h68_a_malformed_path_is_refused(server: DevServer, path: str) -> None:
    answer = server.request("query", path, {"name": "c"})
    told: dict[str, Any] = answer.json()
    assert answer.status_code == 400 or told.get("status") == "error", answer.text
    assert told.get("message") or told.get("errorMessage")


def test_h68_the_version_of_the_server_is_text(server: DevServer) -> None:
    answer = httpx.get(f"{server.url}/version")
    assert answer.status_code == 200
    assert answer.text
