"""Does `/api/openapi.json` say what can be called, and do the answers look as it says?"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from apps.kinds.app import app as kinds
from inline_app import app_of, module_of
from openapi_spec_validator import validate
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

import reactivedb as rdb

INT64_5 = {"$integer": "BQAAAAAAAAA="}


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(rdb.asgi(kinds, ":memory:")) as running:
        yield running


def document_of(client: TestClient) -> dict[str, Any]:
    return client.get("/api/openapi.json").json()


def args_schema(document: dict[str, Any], path: str) -> dict[str, Any]:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    return content["application/json"]["schema"]["properties"]["args"]


def outcome_schema(document: dict[str, Any], path: str) -> dict[str, Any]:
    return document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]


def fits(document: dict[str, Any], schema: dict[str, Any], value: object) -> bool:
    whole = {**schema, "components": document["components"]}
    return jsonschema.Draft202012Validator(whole).is_valid(value)


def test_it_is_openapi_by_the_book(client: TestClient) -> None:
    document = document_of(client)
    validate(document)
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": "http://testserver"}]


def test_it_lists_the_public_functions_and_the_http_actions_with_a_path_of_their_own(
    client: TestClient,
) -> None:
    document = document_of(client)
    public = {f"/api/run/{known.path.replace(':', '/')}" for known in kinds.registry if not known.internal}
    exact = {"/http/hooks/thing", "/http/pages/exact", "/http/crash"}
    assert set(document["paths"]) == public | exact
    assert "/api/run/things/addThing" in public
    text = json.dumps(document)
    assert "hidden" not in text
    assert "Nobody outside" not in text
    assert "_system" not in text


def test_docstrings_and_kinds_stand_beside_the_operations(client: TestClient) -> None:
    document = document_of(client)
    add = document["paths"]["/api/run/things/addThing"]["post"]
    assert (add["operationId"], add["x-reactivedb-kind"], add["tags"]) == (
        "things.addThing",
        "mutation",
        ["things"],
    )
    assert (add["summary"], add["description"]) == ("Add one thing.", "Add one thing.\n\nIts state is `new`.")
    assert "description" not in document["paths"]["/api/run/things/countThings"]["post"]
    assert document["paths"]["/http/hooks/thing"]["post"]["summary"] == "A thing was sold elsewhere."
    assert document["components"]["schemas"]["Thing"]["description"] == "What somebody owns."
    assert "description" not in document["components"]["schemas"]["Size"]


def test_a_caller_may_be_anonymous_or_show_a_token(client: TestClient) -> None:
    document = document_of(client)
    assert document["security"] == [{}, {"bearer": []}]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_documents_are_components_with_their_system_fields(client: TestClient) -> None:
    thing = document_of(client)["components"]["schemas"]["Thing"]
    assert thing["required"] == ["_id", "_creationTime", "label", "weight", "count", "state"]
    assert thing["properties"]["place"] == {"$ref": "#/components/schemas/Place"}
    assert thing["additionalProperties"] is False


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [
        ("kinds/null", [None], [0, "", {}]),
        ("kinds/boolean", [True, False], [1, "true", None]),
        ("kinds/number", [1, 1.5, {"$float": "AAAAAAAA+H8="}], ["1", True, {"$float": "AA=="}, INT64_5]),
        ("kinds/integer", [5, -(2**53)], [1.5, 2**54, INT64_5]),
        ("kinds/int64", [INT64_5], [5, {"$integer": "BQ=="}, {"$integer": "BQAAAAAAAAA=", "x": 1}]),
        ("kinds/string", ["", "ü"], [1, None, ["a"]]),
        ("kinds/binary", [{"$bytes": ""}, {"$bytes": "AP8Q"}], ["AP8Q", {"$bytes": "AP8"}]),
        (
            "kinds/anything",
            [None, [1, {"a": INT64_5}], {"$bytes": ""}],
            [{"$x": 1}, {"a": {"$y": 1}}, {"ü": 1}],
        ),
        ("kinds/literal", ["a", 1, False], ["b", 2, True, None]),
        ("kinds/color", ["red", 7], ["RED", 8]),
        ("kinds/array", [[], [1, "a"]], ["a", [1.5], [None]]),
        ("kinds/record", [{}, {"a b": 1.5}], [{"$a": 1}, {"a": "x"}, {"ü": 1}]),
        ("kinds/point", [{"x": 1}, {"x": 1, "y": 2}], [{}, {"y": 2}, {"x": 1, "z": 2}, {"x": 1, "y": None}]),
        ("kinds/size", [{"width": 1}, {"width": 1, "height": None}], [{"width": 1.5}, {"height": 2}]),
        (
            "kinds/shape",
            [{"kind": "circle", "radius": 1}, {"kind": "square", "sideLength": 100, "note": None}],
            [{"kind": "circle", "sideLength": 1}, {"kind": "square", "sideLength": 0}, {"kind": "oval"}],
        ),
        ("kinds/mixed", [None, 1.5, INT64_5, {"$bytes": ""}], ["a", [], True]),
    ],
)
def test_a_schema_takes_what_the_function_takes_and_nothing_else(
    client: TestClient, path: str, good: list[Any], bad: list[Any]
) -> None:
    document = document_of(client)
    route = f"/api/run/{path}"
    schema = args_schema(document, route)
    for value, is_good in [(value, True) for value in good] + [(value, False) for value in bad]:
        answer = client.post(route, json={"args": {"value": value}})
        taken = answer.status_code == 200 and answer.json()["status"] == "success"
        assert (taken, fits(document, schema, {"value": value})) == (is_good, is_good), value
        if taken:
            assert fits(document, outcome_schema(document, route), answer.json()), answer.text


def test_constraints_and_defaults_are_the_functions(client: TestClient) -> None:
    document = document_of(client)
    route = "/api/run/kinds/constrained"
    schema = args_schema(document, route)
    assert schema["required"] == ["even", "short"]
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"even": 2, "short": [True]}, True),
        ({"even": 2, "short": [True], "word": "abc"}, True),
        ({"even": 2, "short": [True], "word": None}, True),
        ({"even": 3, "short": [True]}, False),
        ({"even": 2, "short": []}, False),
        ({"even": 2, "short": [True] * 4}, False),
        ({"even": 2, "short": [True], "word": "xyz"}, False),
        ({"even": 2, "short": [True], "word": "abcabc"}, False),
        ({"even": 2}, False),
        ({"even": 2, "short": [True], "other": 1}, False),
    ]
    for args, is_good in cases:
        taken = client.post(route, json={"args": args}).json()["status"] == "success"
        assert (taken, fits(document, schema, args)) == (is_good, is_good), args
    assert "required" not in args_schema(document, "/api/run/kinds/optional")
    assert client.post("/api/run/kinds/optional", json={}).json()["value"] == [None, 2]


def test_a_request_made_from_the_document_alone_is_answered_as_it_says(client: TestClient) -> None:
    document = document_of(client)
    [path] = [
        path
        for path, item in document["paths"].items()
        if item.get("post", {}).get("operationId") == "things.addThing"
    ]
    args = {"label": "lamp", "weight": 1.5, "count": INT64_5, "place": {"name": "attic"}}
    assert fits(document, args_schema(document, path), args)
    url = f"{document['servers'][0]['url']}{path}"
    added = client.post(url, json={"args": args, "format": "json"}).json()
    assert fits(document, outcome_schema(document, path), added)
    assert added["logLines"] == ["[LOG] 'adding' 'lamp'"]

    path = "/api/run/things/listThings"
    page = client.post(path, json={"args": {"paginationOpts": {"numItems": 5, "cursor": None}}}).json()
    assert fits(document, outcome_schema(document, path), page)
    [thing] = page["value"]["page"]
    assert (thing["count"], thing["place"], thing["state"]) == ("5", {"name": "attic", "floor": 0}, "new")
    changed = copy.deepcopy(page)
    changed["value"]["page"][0]["count"] = 5
    assert not fits(document, outcome_schema(document, path), changed)

    refused = client.post("/api/run/things/refuse", json={"args": {"reason": "x"}}).json()
    assert fits(document, outcome_schema(document, "/api/run/things/refuse"), refused)
    malformed = client.post(path, content=b"{")
    body = document["components"]["responses"]["BadRequest"]["content"]["application/json"]["schema"]
    assert malformed.status_code == 400
    assert fits(document, body, malformed.json())


def test_two_classes_of_one_name_are_two_components(tmp_path: Path) -> None:
    def make(annotation: type) -> type[rdb.Model]:
        return type("Same", (rdb.Model,), {"__annotations__": {"x": annotation}, "__module__": __name__})

    first, second = make(str), make(int)

    def one(ctx: rdb.QueryCtx, value: Any) -> Any:
        return value

    def two(ctx: rdb.QueryCtx, value: Any) -> Any:
        return value

    one.__annotations__ |= {"value": first, "return": first}
    two.__annotations__ |= {"value": second, "return": second}
    live = rdb.asgi(app_of(rdb.query(one), rdb.query(two)), ":memory:")
    with TestClient(live) as client:
        document = document_of(client)
    validate(document)
    assert {"Same", "Same2", "SameInput", "SameInput2"} <= set(document["components"]["schemas"])


def test_it_is_kept_until_the_application_is_reloaded() -> None:
    @rdb.query
    def first(ctx: rdb.QueryCtx) -> int:
        return 1

    @rdb.query
    def second(ctx: rdb.QueryCtx, name: str) -> str:
        return name

    live = rdb.asgi(app_of(first), ":memory:")
    with TestClient(live) as client:
        before = client.get("/api/openapi.json")
        tag = before.headers["etag"]
        same = client.get("/api/openapi.json", headers={"If-None-Match": tag})
        assert (same.status_code, same.content) == (304, b"")
        assert client.portal is not None
        client.portal.call(live.database.runtime.reload, app_of(first, second))
        after = client.get("/api/openapi.json", headers={"If-None-Match": tag})
        assert after.status_code == 200
        assert set(after.json()["paths"]) == {"/api/run/notes/first", "/api/run/notes/second"}
        assert after.json()["info"]["version"] != before.json()["info"]["version"]


def test_it_names_the_server_as_its_reader_reaches_it() -> None:
    from fastapi import FastAPI

    live = rdb.asgi(kinds, ":memory:")
    outer = FastAPI(lifespan=live.lifespan)
    outer.mount("/db", live)
    with TestClient(outer, base_url="https://here.example") as client:
        document = client.get("/db/api/openapi.json").json()
        assert document["servers"] == [{"url": "https://here.example/db"}]
        asked = client.post("https://here.example/db/api/run/kinds/string", json={"args": {"value": "a"}})
        assert asked.json()["value"] == "a"


def test_odd_paths_of_http_actions_are_no_templates() -> None:
    router = rdb.HttpRouter()

    async def handler(ctx: rdb.ActionCtx, request: Request) -> Response:
        return Response()

    for method, path in (("GET", "/{id}"), ("PUT", "/{id}"), ("GET", "/ü b")):
        router.route(method, path)(handler)
    live = rdb.asgi(rdb.App(module_of(), root="", http=router), ":memory:")
    with TestClient(live) as client:
        document = document_of(client)
    validate(document)
    assert {path: sorted(item) for path, item in document["paths"].items()} == {
        "/http/%7Bid%7D": ["get", "put"],
        "/http/%C3%BC%20b": ["get"],
    }


def test_other_methods_are_refused(client: TestClient) -> None:
    answer: httpx.Response = client.post("/api/openapi.json")
    assert answer.status_code == 405
