"""Environment variables: who sets them, who sees them, and when."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from starlette.testclient import TestClient

import reactivedb as rdb
from reactivedb.limits import Limits

KEY = "test|0123456789abcdef"
ADMIN = {"Authorization": f"Convex {KEY}"}


@rdb.query
def show(ctx: rdb.QueryCtx, name: str) -> str | None:
    return ctx.env.get(name)


@rdb.query
def need(ctx: rdb.QueryCtx, name: str) -> str:
    return ctx.env[name]


@rdb.mutation
def has(ctx: rdb.MutationCtx, name: str) -> bool:
    return name in ctx.env


@rdb.action
async def shout(ctx: rdb.ActionCtx, name: str) -> str:
    return ctx.env[name].upper()


module = types.ModuleType("settings")
for function in (show, need, has, shout):
    setattr(module, function.__name__, function)
    function.handler.__module__ = module.__name__


def make_app(**options: Any) -> rdb.App:
    return rdb.App(module, root="", **options)


def running(app: rdb.App) -> TestClient:
    return TestClient(rdb.asgi(app, ":memory:", admin_key=KEY))


@pytest.fixture
def client() -> Iterator[TestClient]:
    with running(make_app()) as found:
        yield found


def change(client: TestClient, *changes: tuple[str, str | None], status: int = 200) -> str:
    body = {"changes": [{"name": name, "value": value} for name, value in changes]}
    response = client.post("/api/update_environment_variables", json=body, headers=ADMIN)
    assert response.status_code == status, response.text
    return response.text


def call(client: TestClient, path: str, **args: Any) -> Any:
    body = {"path": path, "args": args, "format": "json"}
    result = client.post("/api/function", json=body, headers=ADMIN).json()
    return result["value"] if result["status"] == "success" else result["errorMessage"]


def test_a_variable_that_is_set_is_read_by_every_kind_of_function(client: TestClient) -> None:
    assert call(client, "settings:show", name="TOKEN") is None
    assert "TOKEN" in call(client, "settings:need", name="TOKEN")
    assert call(client, "settings:has", name="TOKEN") is False
    assert change(client, ("TOKEN", "abc"), ("OTHER", "")) == ""
    assert call(client, "settings:need", name="TOKEN") == "abc"
    assert call(client, "settings:has", name="TOKEN") is True
    assert call(client, "settings:shout", name="TOKEN") == "ABC"
    assert call(client, "settings:need", name="OTHER") == ""


def test_variables_are_listed_set_and_removed_as_the_cli_does(client: TestClient) -> None:
    change(client, ("B", "2"), ("A", "1"))
    change(client, ("A", "one"), ("B", None), ("MISSING", None))
    listed = client.get("/api/list_environment_variables", headers=ADMIN).json()
    assert listed == {"environmentVariables": {"A": "one"}}
    path = "_system/cli/queryEnvironmentVariables"
    assert call(client, path) == [{"name": "A", "value": "one"}]
    assert call(client, f"{path}:get", name="A") == {"name": "A", "value": "one"}
    assert call(client, f"{path}:get", name="B") is None


def test_only_an_administrator_sees_and_sets_variables(client: TestClient) -> None:
    body = {"changes": [{"name": "A", "value": "1"}]}
    assert client.post("/api/update_environment_variables", json=body).status_code == 403
    assert client.get("/api/list_environment_variables").status_code == 403
    assert client.get("/api/list_environment_variables", headers=ADMIN).json() == {"environmentVariables": {}}


@pytest.mark.parametrize(
    ("name", "value"),
    [("1A", "x"), ("A-B", "x"), ("", "x"), ("N" * 41, "x"), ("A", "v" * 8_193), ("CONVEX_SITE_URL", "x")],
)
def test_a_change_that_is_refused_leaves_nothing_of_its_call(
    client: TestClient, name: str, value: str
) -> None:
    change(client, ("FINE", "yes"), (name, value), status=400)
    assert call(client, "settings:show", name="FINE") is None


@pytest.mark.parametrize("body", [{}, [], {"changes": [{"name": "A"}]}, {"changes": "A"}])
def test_a_body_of_another_shape_is_refused(client: TestClient, body: object) -> None:
    response = client.post("/api/update_environment_variables", json=body, headers=ADMIN)
    assert (response.status_code, response.json()["code"]) == (400, "ArgumentValidationError")


def test_their_number_is_bounded() -> None:
    with running(make_app(limits=Limits(environment_variables_max=2))) as client:
        change(client, ("A", "1"), ("B", "2"))
        assert "environment_variables_max" in change(client, ("C", "3"), status=400)
        change(client, ("A", None), ("C", "3"))


def test_only_declared_variables_of_the_process_are_seen_and_those_that_are_set_win(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DECLARED", "of the process")
    monkeypatch.setenv("UNDECLARED", "of the process")
    with running(make_app(env={"DECLARED": str})) as client:
        assert call(client, "settings:show", name="DECLARED") == "of the process"
        assert call(client, "settings:shout", name="DECLARED") == "OF THE PROCESS"
        assert call(client, "settings:show", name="UNDECLARED") is None
        change(client, ("DECLARED", "set"))
        assert call(client, "settings:show", name="DECLARED") == "set"


def test_a_declared_variable_takes_only_what_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODE", "a secret")
    with running(make_app(env={"MODE": Literal["on", "off"], "NOTE": rdb.v.string()})) as client:
        refused = call(client, "settings:show", name="MODE")
        assert "MODE" in refused
        assert "a secret" not in refused
        assert "InvalidEnvironmentVariable" in change(client, ("MODE", "halfway"), status=400)
        change(client, ("MODE", "on"), ("NOTE", "anything"))
        assert call(client, "settings:show", name="MODE") == "on"


@pytest.mark.parametrize("env", [{"RATE": float}, {"A-B": str}, {"CONVEX_SITE_URL": str}])
def test_a_declaration_that_cannot_work_is_refused_at_once(env: dict[str, Any]) -> None:
    with pytest.raises(rdb.SchemaError) as refused:
        make_app(env=env)
    assert refused.value.code == "InvalidEnvironmentVariable"


def test_a_live_query_follows_the_variable_it_reads(client: TestClient) -> None:
    change(client, ("COLOR", "red"))
    add = {"type": "Add", "queryId": 1, "udfPath": "settings:show", "args": [{"name": "COLOR"}]}
    with client.websocket_connect("/api/1.48.0/sync") as socket:

        def next_value() -> Any:
            while True:
                message = json.loads(socket.receive_text())
                for update in message.get("modifications", []):
                    return update["value"]

        for message in (
            {"type": "Connect", "sessionId": "a-session", "connectionCount": 0, "lastCloseReason": None},
            {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [add]},
        ):
            socket.send_text(json.dumps(message))
        assert next_value() == "red"
        change(client, ("OTHER", "ignored"))
        change(client, ("COLOR", "blue"))
        assert next_value() == "blue"
        change(client, ("COLOR", None))
        assert next_value() is None


def test_the_addresses_are_read_like_variables() -> None:
    live = rdb.asgi(make_app(), ":memory:", admin_key=KEY)
    with TestClient(live) as client:
        assert call(client, "settings:show", name="CONVEX_SITE_URL") is None
        live.database.runtime.deployment.listens_at("http://127.0.0.1:1", "http://127.0.0.1:2")
        assert call(client, "settings:need", name="CONVEX_CLOUD_URL") == "http://127.0.0.1:1"
        assert call(client, "settings:shout", name="CONVEX_SITE_URL") == "HTTP://127.0.0.1:2"
