"""What dashboards and the CLI ask with the admin key, in the arguments and results they know."""

from __future__ import annotations

import base64
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest
from inline_app import FlakyStorage, app_of
from starlette.testclient import TestClient

import reactivedb as rdb
from reactivedb.functions import ANONYMOUS
from reactivedb.functions.system_api import add_document, list_table_scan, tables

KEY = "test|0123456789abcdef"
ADMIN = {"Authorization": f"Convex {KEY}"}
PAGE = {"cursor": None, "numItems": 10}


class Team(rdb.Document, table="teams"):
    team_name: str
    color: rdb.Value = None


class Member(rdb.Document, table="members"):
    team_id: Annotated[rdb.Id[Team], rdb.OnDelete("cascade")]
    age: int = 0

    by_team = rdb.Index("team_id", "age")
    by_age = rdb.Index("age", staged=True)


@rdb.mutation
def later(ctx: rdb.MutationCtx, team_name: str, delay_s: float = 3600.0) -> str:
    return ctx.scheduler.run_after(delay_s, add_team, team_name)


@rdb.internal_mutation
def add_team(ctx: rdb.MutationCtx, team_name: str) -> rdb.Id[Team]:
    return ctx.db.insert(Team(team_name=team_name))


module = types.ModuleType("crew.people")
for item in (Team, Member, later, add_team):
    setattr(module, item.__name__, item)
for function in (later, add_team):
    function.handler.__module__ = module.__name__


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = rdb.App(module, root="crew")
    with TestClient(rdb.asgi(app, ":memory:", admin_key=KEY)) as running:
        yield running


def answer(
    client: TestClient, path: str, args: dict[str, Any], headers: dict[str, str] = ADMIN
) -> dict[str, Any]:
    body = {"path": path, "args": args, "format": "convex_encoded_json"}
    url = "/api/function" if headers else "/api/query"
    response = client.post(url, json=body, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def call(client: TestClient, path: str, **args: Any) -> Any:
    result = answer(client, path, args)
    assert result["status"] == "success", result
    return result["value"]


def add(client: TestClient, table: str, *documents: Any) -> list[str]:
    call(client, "_system/frontend/addDocument", table=table, documents=list(documents), componentId=None)
    scanned = call(client, "_system/frontend/listTableScan", table=table, limit=len(documents))
    return [document["_id"] for document in reversed(scanned)]


def test_tables_are_listed_for_administrators_only_and_in_every_spelling(client: TestClient) -> None:
    for path in ("_system/cli/tables", "_system/cli/tables:default", "_system/cli/tables.js:default"):
        page = call(client, path, paginationOpts={"cursor": None, "numItems": 10_000})
        assert page["page"] == [{"name": "members"}, {"name": "teams"}]
        assert page["isDone"]
        assert isinstance(page["continueCursor"], str)
    refused = answer(client, "_system/cli/tables", {"paginationOpts": PAGE}, {})
    assert "You do not have permission to perform this operation" in refused["errorMessage"]


def test_documents_are_added_all_or_none_and_scanned_newest_first(client: TestClient) -> None:
    added = call(
        client,
        "_system/frontend/addDocument:default",
        table="teams",
        documents=[{"teamName": "red"}, {"teamName": "blue", "color": {"$integer": "AQAAAAAAAAA="}}],
    )
    assert added == {"success": True}
    newest, oldest = call(client, "_system/frontend/listTableScan", table="teams", limit=5)
    assert (newest["teamName"], newest["color"]) == ("blue", {"$integer": "AQAAAAAAAAA="})
    assert newest["_creationTime"] > oldest["_creationTime"]
    refused = answer(
        client,
        "_system/frontend/addDocument",
        {"table": "teams", "documents": [{"teamName": "green"}, {"teamName": 1}]},
    )
    assert "teamName" in refused["errorData"]
    assert "ConvexError" in refused["errorMessage"]
    assert len(call(client, "_system/frontend/listTableScan", table="teams", limit=5)) == 2
    assert call(client, "_system/frontend/listTableScan", table="nowhere", limit=5) == []


def names(client: TestClient) -> list[str]:
    page = call(client, "_system/cli/tables", paginationOpts={"cursor": None, "numItems": 10_000})["page"]
    return [table["name"] for table in page]


def test_a_table_that_is_not_there_is_made(client: TestClient) -> None:
    ids = add(client, "notes", {"text": "one", "tags": []}, {"text": 2.0})
    assert names(client) == ["members", "notes", "teams"]
    patch = {"table": "notes", "ids": ids[:1], "fields": {"text": None}}
    call(client, "_system/frontend/patchDocumentsFields", **patch)
    newest, oldest = call(client, "_system/frontend/listTableScan", table="notes", limit=5)
    assert (newest["text"], oldest["text"], oldest["tags"]) == (2.0, None, [])
    page = call(client, "_system/cli/tableData", table="notes", order="asc", paginationOpts=PAGE)
    assert [document["_id"] for document in page["page"]] == ids
    # It is no part of the schema that the application declares.
    assert '"notes"' not in call(client, "_system/frontend/getSchemas")["active"]
    cleared = call(client, "_system/frontend/clearTablePage", tableName="notes", cursor=None)
    assert (cleared["deleted"], cleared["hasMore"]) == (2, False)


@pytest.mark.parametrize(
    ("table", "documents"),
    [
        ("notes", [{"text": "fine"}, {"$bad": 1}]),
        ("notes", [{"text": "fine"}, {"_private": 1}]),
        ("notes", ["no document"]),
        ("no name", [{}]),
        ("_hidden", [{}]),
        ("_storage", [{}]),
        ("", [{}]),
    ],
)
def test_a_table_is_not_made_for_what_cannot_be_stored(
    client: TestClient, table: str, documents: list[Any]
) -> None:
    refused = answer(client, "_system/frontend/addDocument", {"table": table, "documents": documents})
    assert refused["status"] == "error"
    assert "Server Error" not in refused["errorMessage"]
    assert names(client) == ["members", "teams"]


def test_who_looks_at_a_table_that_is_not_there_sees_it_come() -> None:
    async def main() -> None:
        async with rdb.App(module, root="crew").open_async() as db:
            runner = db.runtime.runner
            async with db.subscribe(list_table_scan, "notes", 5) as scan, db.subscribe(tables) as listed:
                scanned, known = aiter(scan), aiter(listed)
                assert await anext(scanned) == []
                assert len((await anext(known)).page) == 2
                runner.mutation(
                    runner.registry.of(add_document), {"table": "notes", "documents": [{"a": 1.0}]}, ANONYMOUS
                ).unwrap()
                db.runtime.committed()
                assert [document["a"] for document in await anext(scanned)] == [1.0]
                assert len((await anext(known)).page) == 3

    anyio.run(main)


def test_a_made_table_outlives_a_restart_until_a_program_declares_it(tmp_path: Path) -> None:
    class Note(rdb.Document, table="notes"):
        text: str

    @rdb.query
    def texts(ctx: rdb.QueryCtx) -> list[str]:
        return [note.text for note in ctx.db.query(Note)]

    class Refused(rdb.Document, table="notes"):
        number: int

    path = tmp_path / "data.db"
    for text in ("one", "two"):
        with TestClient(rdb.asgi(rdb.App(module, root="crew"), path, admin_key=KEY)) as client:
            add(client, "notes", {"text": text})
            assert names(client) == ["members", "notes", "teams"]
            assert len(call(client, "_system/frontend/listTableScan", table="notes", limit=5)) >= 1
    with app_of(Note, texts).open(path) as db:
        assert db.query(texts) == ["one", "two"]
    with pytest.raises(rdb.SchemaError) as caught:
        app_of(Refused).open(path)
    assert caught.value.code == "SchemaMismatch"
    with TestClient(rdb.asgi(rdb.App(module, root="crew"), path, admin_key=KEY)) as client:
        assert names(client) == ["members", "notes", "teams"]


def test_a_table_whose_making_finds_no_room_is_not_there() -> None:
    storage = FlakyStorage()
    with rdb.Database(rdb.App(module, root="crew").runtime(storage)) as db:
        runner = db.runtime.runner
        definition = runner.registry.of(add_document)
        named: dict[str, Any] = {"table": "notes", "documents": [{"a": 1.0}]}
        storage.failing_flush_count = 1
        assert isinstance(runner.mutation(definition, named, ANONYMOUS).error, rdb.StorageError)
        assert db.runtime.engine.catalog.find("notes") is None
        runner.mutation(definition, named, ANONYMOUS).unwrap()
        assert [document["a"] for document in db.query(list_table_scan, "notes", 5)] == [1.0]


def test_a_table_is_read_in_pages_in_both_directions(client: TestClient) -> None:
    ids = add(client, "teams", *({"teamName": str(n)} for n in range(5)))
    seen: list[str] = []
    cursor = None
    while True:
        options = {"cursor": cursor, "numItems": 2}
        page = call(client, "_system/cli/tableData", table="teams", order="asc", paginationOpts=options)
        seen += [document["_id"] for document in page["page"]]
        cursor = page["continueCursor"]
        if page["isDone"]:
            break
    assert seen == ids
    newest = call(client, "_system/cli/tableData", table="teams", order="desc", paginationOpts=PAGE)
    assert [document["_id"] for document in newest["page"]] == ids[::-1]
    nothing = call(client, "_system/cli/tableData", table="nowhere", order="desc", paginationOpts=PAGE)
    assert (nothing["page"], nothing["isDone"]) == ([], True)


def test_documents_are_patched_replaced_and_deleted_by_id(client: TestClient) -> None:
    red, blue = add(client, "teams", {"teamName": "red"}, {"teamName": "blue"})
    assert call(
        client,
        "_system/frontend/patchDocumentsFields",
        table="teams",
        ids=[red, blue],
        fields={"color": "warm"},
        componentId=None,
    ) == {"success": True}
    call(client, "_system/frontend/replaceDocument", id=blue, document={"_id": blue, "teamName": "navy"})
    navy, warm = call(client, "_system/frontend/listTableScan", table="teams", limit=2)
    assert (navy["_id"], navy["teamName"], "color" in navy) == (blue, "navy", False)
    assert (warm["teamName"], warm["color"]) == ("red", "warm")
    wrong = {"table": "members", "ids": [red], "fields": {"age": 1}}
    assert "members" in answer(client, "_system/frontend/patchDocumentsFields", wrong)["errorData"]
    add(client, "members", {"teamId": red}, {"teamId": blue})
    gone = {"toDelete": [{"id": red, "tableName": "teams"}]}
    assert call(client, "_system/frontend/deleteDocuments", **gone) == {"success": True}
    assert call(client, "_system/frontend/deleteDocuments", **gone) == {"success": True}
    left = call(client, "_system/frontend/listTableScan", table="members", limit=9)
    assert [member["teamId"] for member in left] == [blue]


@pytest.mark.slow
def test_a_table_is_cleared_in_pages(client: TestClient) -> None:
    for _ in range(3):
        add(client, "teams", *({"teamName": str(n)} for n in range(1_500)))
    first = call(client, "_system/frontend/clearTablePage", tableName="teams", cursor=None)
    assert (first["deleted"], first["hasMore"]) == (4_000, True)
    rest = call(client, "_system/frontend/clearTablePage", tableName="teams", cursor=first["continueCursor"])
    assert (rest["deleted"], rest["hasMore"]) == (500, False)
    assert call(client, "_system/frontend/listTableScan", table="teams", limit=1) == []


def test_the_schema_is_json_text_with_each_index_ending_in_the_creation_time(client: TestClient) -> None:
    schemas = call(client, "_system/frontend/getSchemas", componentId=None)
    assert set(schemas) == {"active"}
    schema = json.loads(schemas["active"])
    assert schema["schemaValidation"] is True
    members, teams = schema["tables"]
    assert (members["tableName"], teams["tableName"]) == ("members", "teams")
    assert members["indexes"] == [
        {"indexDescriptor": "by_team", "fields": ["teamId", "age", "_creationTime"]}
    ]
    assert members["stagedDbIndexes"] == [{"indexDescriptor": "by_age", "fields": ["age", "_creationTime"]}]
    fields = members["documentType"]["value"]
    assert fields["teamId"] == {"fieldType": {"type": "id", "tableName": "teams"}, "optional": False}
    assert fields["age"]["fieldType"] == {"type": "number"}


def test_the_function_specification_names_every_function_with_its_validators(client: TestClient) -> None:
    internal, public = call(client, "_system/cli/modules:apiSpec")
    assert internal["identifier"] == "people.js:addTeam"
    assert internal["visibility"] == {"kind": "internal"}
    assert internal["args"]["value"] == {"teamName": {"fieldType": {"type": "string"}, "optional": False}}
    assert internal["returns"] == {"type": "id", "tableName": "teams"}
    assert (public["functionType"], public["visibility"]) == ("Mutation", {"kind": "public"})
    assert public["args"]["value"]["delayS"]["optional"] is True


def test_waiting_jobs_are_listed_by_their_time_and_cancelled(client: TestClient) -> None:
    late = call(client, "people:later", teamName="late", delayS=7200)
    soon = call(client, "people:later", teamName="soon")
    jobs = call(client, "_system/frontend/paginatedScheduledJobs", paginationOpts=PAGE)["page"]
    assert [job["_id"] for job in jobs] == [soon, late]
    assert (jobs[0]["name"], jobs[0]["args"]) == ("people.js:addTeam", [{"teamName": "soon"}])
    none = {"paginationOpts": PAGE, "udfPath": "people.js:other"}
    assert call(client, "_system/frontend/paginatedScheduledJobs", **none)["page"] == []
    call(client, "_system/frontend/cancelJob", id=soon)
    assert call(client, "_system/frontend/cancelAllJobs") == {"canceled": 1, "hasMore": False}
    rows = call(
        client, "_system/cli/tableData", table="_scheduled_functions", order="asc", paginationOpts=PAGE
    )
    assert [row["state"]["kind"] for row in rows["page"]] == ["canceled", "canceled"]


def test_cron_jobs_are_listed_with_what_they_run_and_when() -> None:
    crons = rdb.Crons()
    crons.interval("grow", add_team, hours=2, args={"team_name": "more"})
    crons.cron("monthly", add_team, "0 13 11 * *", args={"team_name": "month"})
    live = rdb.asgi(rdb.App(module, root="crew", crons=crons), ":memory:", admin_key=KEY)
    with TestClient(live) as client:
        grow, monthly = call(client, "_system/frontend/listCronJobs", componentId=None)
        assert set(grow) == {"_id", "_creationTime", "name", "cronSpec", "lastRun", "nextRun"}
        assert (grow["name"], grow["cronSpec"]["udfPath"]) == ("grow", "people.js:addTeam")
        assert grow["cronSpec"]["cronSchedule"] == {
            "type": "interval",
            "seconds": {"$integer": "IBwAAAAAAAA="},
        }
        encoded = base64.b64decode(grow["cronSpec"]["udfArgs"]["$bytes"])
        assert json.loads(encoded) == [{"teamName": "more"}]
        assert monthly["cronSpec"]["cronSchedule"] == {"type": "cron", "cronExpr": "0 13 11 * *"}
        assert monthly["lastRun"] is None
        assert monthly["nextRun"] > monthly["_creationTime"]


def test_a_table_scan_over_the_socket_follows_every_write(client: TestClient) -> None:
    scan = {
        "type": "Add",
        "queryId": 1,
        "udfPath": "_system/frontend/listTableScan:default",
        "args": [{"table": "teams", "limit": 2}],
    }
    with client.websocket_connect("/api/1.48.0/sync") as socket:

        def next_value() -> Any:
            while True:
                message = json.loads(socket.receive_text())
                for change in message.get("modifications", []):
                    assert change["type"] == "QueryUpdated", change
                    return change["value"]

        for message in (
            {"type": "Connect", "sessionId": "a-session", "connectionCount": 0, "lastCloseReason": None},
            {"type": "Authenticate", "tokenType": "Admin", "value": KEY, "baseVersion": 0},
            {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [scan]},
        ):
            socket.send_text(json.dumps(message))
        assert next_value() == []
        add(client, "teams", {"teamName": "red"})
        assert [document["teamName"] for document in next_value()] == ["red"]


def test_the_addresses_are_those_of_the_server(monkeypatch: pytest.MonkeyPatch, client: TestClient) -> None:
    unknown = answer(client, "_system/cli/convexUrl:cloudUrl", {})
    assert "CONVEX_CLOUD_URL" in unknown["errorMessage"]
    monkeypatch.setenv("CONVEX_SITE_URL", "https://site.example")
    live = rdb.asgi(rdb.App(module, root="crew"), ":memory:", admin_key=KEY)
    with TestClient(live) as told:
        assert call(told, "_system/cli/convexUrl:siteUrl") == "https://site.example"
