"""Can whoever operates a server see whether it lives, whether it can serve, and how it is doing?"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest
from inline_app import FlakyStorage, app_of
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

import reactivedb as rdb
from reactivedb.app import Runtime
from reactivedb.clock import SystemClock
from reactivedb.server.admin import Addresses

from . import notes

KEY = "test|0123456789abcdef"

router = rdb.HttpRouter()


@router.get(prefix="/shown/")
async def shown(ctx: rdb.ActionCtx, request: Request) -> Response:
    return PlainTextResponse("shown")


@pytest.fixture
def live() -> rdb.ReactiveASGI:
    app = rdb.App(notes, root=__package__, http=router)
    return rdb.asgi(app, ":memory:", admin_key=KEY)


@pytest.fixture
def client(live: rdb.ReactiveASGI) -> Iterator[TestClient]:
    with TestClient(live) as running:
        yield running


def scrape(client: TestClient | httpx.Client) -> dict[str, float]:
    """Every figure by its name and labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def call(client: TestClient, kind: str, path: str, **args: Any) -> Any:
    return client.post(f"/api/{kind}", json={"path": path, "args": args}).json()


def test_a_running_server_is_healthy_and_ready(client: TestClient) -> None:
    assert client.get("/healthz").text == "ok"
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "schemaWork": "done"})


def test_before_its_lifespan_it_is_healthy_and_not_ready(live: rdb.ReactiveASGI) -> None:
    client = TestClient(live)
    assert client.get("/healthz").status_code == 200
    origin = {"Origin": "https://app.example"}
    for path in ("/readyz", "/api/query"):
        answer = client.get(path, headers=origin)
        assert (answer.status_code, answer.json()["code"]) == (503, "LifespanNotRunning")
    assert client.get("/api/query", headers=origin).headers["access-control-allow-origin"] == origin["Origin"]


def test_a_server_whose_disk_has_failed_is_healthy_and_not_ready() -> None:
    storage = FlakyStorage()
    asked: list[int] = []

    async def ask() -> None:
        app = app_of(put, Line)
        database = rdb.AsyncDatabase(lambda: Runtime(app, storage, clock=SystemClock()))
        async with database:
            live = rdb.asgi(database, admin_key=KEY)
            transport = httpx.ASGITransport(live, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                asked.append((await client.get("/readyz")).status_code)
                storage.sync_fails = True
                body = {"path": "notes:put", "args": {"text": "lost"}}
                lost = await client.post("/api/mutation", json=body)
                assert (lost.status_code, lost.json()["code"]) == (500, "OutcomeUnknown")
                assert "retry-after" not in lost.headers
                refused = await client.post("/api/mutation", json=body)
                ready = await client.get("/readyz")
                assert (refused.json()["code"], ready.json()["code"]) == ("StorageClosed", "SyncFailed")
                assert refused.headers["retry-after"]
                # The words of the error name a place on the disk.
                file = await client.get("/api/storage/00000000-0000-4000-8000-000000000000")
                asked.append(file.status_code)
                assert file.json()["message"].endswith("the server's log says why")
                asked.extend((refused.status_code, ready.status_code))
                asked.append((await client.get("/healthz")).status_code)
                # The figures that need no disk are still told.
                figures = await client.get("/metrics")
                assert "reactivedb_commits_total" in figures.text
                asked.append(figures.status_code)

    with pytest.raises(rdb.StorageError):  # Closing says once more that what was not synced is lost.
        anyio.run(ask)
    assert asked == [200, 503, 503, 503, 200, 200]


class Line(rdb.Document, table="lines"):
    text: str


@rdb.mutation
def put(ctx: rdb.MutationCtx, text: str) -> None:
    ctx.db.insert(Line(text=text))


def test_runs_are_counted_by_function_and_outcome(client: TestClient) -> None:
    before = scrape(client)
    for _ in range(3):
        assert call(client, "mutation", "notes:add", text="one")["status"] == "success"
    call(client, "mutation", "notes:crash")
    call(client, "action", "notes:shout", text="a")
    assert client.get("/http/shown/1").text == "shown"
    after = scrape(client)

    def runs(kind: str, path: str, outcome: str) -> float:
        return after[f"reactivedb_function_runs_total{{kind={kind},outcome={outcome},path={path}}}"]

    assert runs("mutation", "notes:add", "success") == 3
    assert runs("mutation", "notes:add", "error") == 0
    assert runs("mutation", "notes:crash", "error") == 1
    assert runs("action", "notes:shout", "success") == 1
    assert runs("http action", "GET /shown/*", "success") == 1
    assert after["reactivedb_function_run_seconds_total{kind=mutation,path=notes:add}"] > 0
    assert after["reactivedb_run_duration_seconds_count{kind=mutation}"] == 4
    assert after["reactivedb_run_duration_seconds_bucket{kind=mutation,le=+Inf}"] == 4
    assert after["reactivedb_commits_total"] - before["reactivedb_commits_total"] == 3
    assert after["reactivedb_sync_duration_seconds_count"] > before["reactivedb_sync_duration_seconds_count"]


def test_what_a_caller_makes_up_becomes_no_label(client: TestClient) -> None:
    for number in range(20):
        call(client, "query", f"notes:madeUp{number}")
        client.post(f"/api/run/made/up{number}", json={})
        client.get(f"/http/shown/{number}")
        client.get(f"/made/up/{number}")
        with client.websocket_connect("/api/1.48.0/sync") as socket:
            socket.send_json({"type": "Connect", "sessionId": f"s{number}", "connectionCount": 0})
            add = {"type": "Add", "queryId": 0, "udfPath": f"notes:madeUp{number}", "args": [{}]}
            change = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [add]}
            socket.send_json(change)
            socket.receive_json()
    found = scrape(client)
    assert [name for name in found if "adeUp" in name or "made/" in name] == []
    assert found["reactivedb_function_runs_total{kind=http action,outcome=success,path=GET /shown/*}"] == 20


def test_sockets_queries_and_bytes_are_counted(client: TestClient) -> None:
    with client.websocket_connect("/api/1.48.0/sync") as socket:
        socket.send_json({"type": "Connect", "sessionId": "a-session", "connectionCount": 0})
        add = {"type": "Add", "queryId": 0, "udfPath": "notes:texts", "args": [{}]}
        change = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [add]}
        socket.send_json(change)
        assert socket.receive_json()["type"] == "Transition"
        call(client, "mutation", "notes:add", text="seen")
        assert socket.receive_json()["type"] == "Transition"
        found = scrape(client)
        assert (found["reactivedb_sockets"], found["reactivedb_followed_queries"]) == (1, 1)
        assert (found["reactivedb_live_queries"], found["reactivedb_live_query_reruns_total"]) == (1, 1)
        assert found["reactivedb_socket_received_bytes_total"] > 150
        assert found["reactivedb_socket_sent_bytes_total"] > 200
        socket.send_json({"type": "Nonsense"})
        assert socket.receive_json()["type"] == "FatalError"
        socket.receive()
    closed = {name: value for name, value in scrape(client).items() if "sockets_closed" in name}
    assert list(closed.values()) == [1]
    assert "ConnectionLost" not in str(closed)
    assert scrape(client)["reactivedb_sockets"] == 0


def test_a_rerun_with_the_same_result_is_counted_as_such(client: TestClient) -> None:
    with client.websocket_connect("/api/1.48.0/sync") as socket:
        socket.send_json({"type": "Connect", "sessionId": "a-session", "connectionCount": 0})
        add = {"type": "Add", "queryId": 0, "udfPath": "notes:countAtMost", "args": [{"most": 0}]}
        change = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [add]}
        socket.send_json(change)
        socket.receive_json()
        call(client, "mutation", "notes:add", text="one")
        found = scrape(client)
    assert found["reactivedb_live_query_reruns_total"] == 1
    assert found["reactivedb_live_query_results_unchanged_total"] == 1


def test_answers_and_jobs_are_counted(client: TestClient, live: rdb.ReactiveASGI) -> None:
    client.get("/api/nothing")
    client.post("/api/query", content=b"{")
    call(client, "mutation", "notes:later", text="now", delay_s=0)
    call(client, "mutation", "notes:later", text="not yet", delay_s=3600)
    assert client.portal is not None
    client.portal.call(live.database.runtime.wait_until_idle)
    found = scrape(client)
    assert found["reactivedb_http_responses_total{status=404}"] == 1
    assert found["reactivedb_http_responses_total{status=400}"] == 1
    assert found["reactivedb_http_responses_total{status=200}"] >= 2
    assert found["reactivedb_jobs_waiting"] == 1
    assert found["reactivedb_jobs_ended_total{state=success}"] == 1


def test_what_is_stored_is_told_in_bytes(tmp_path: Any) -> None:
    live = rdb.asgi(rdb.App(notes, root=__package__), tmp_path / "data.db")
    with TestClient(live) as client:
        call(client, "mutation", "notes:add", text="x" * 10_000)
        found = scrape(client)
    assert found["reactivedb_database_bytes"] > 0
    assert found["reactivedb_wal_bytes"] > 10_000
    assert found["reactivedb_log_bytes"] > 10_000
    assert found["reactivedb_log_writes"] >= 1
    assert found["reactivedb_document_cache_bytes"] > 0
    assert found["process_resident_memory_bytes"] > 0


def test_two_databases_of_one_process_are_counted_apart() -> None:
    first, second = (rdb.asgi(rdb.App(notes, root=__package__), ":memory:") for _ in range(2))
    with TestClient(first) as one, TestClient(second) as two:
        call(one, "mutation", "notes:add", text="one")
        assert "reactivedb_function_runs_total{kind=mutation,outcome=success,path=notes:add}" in scrape(one)
        assert "reactivedb_function_runs_total{kind=mutation,outcome=success,path=notes:add}" not in scrape(
            two
        )


def test_in_production_figures_are_for_those_who_show_the_key() -> None:
    live = rdb.asgi(rdb.App(notes, root=__package__), ":memory:", admin_key=KEY, production=True)
    with TestClient(live) as client:
        for header in ({}, {"Authorization": "Bearer no"}, {"Authorization": f"Basic {KEY}"}):
            answer = client.get("/metrics", headers=header)
            assert (answer.status_code, answer.json()["code"]) == (403, "BadDeployKey")
        for scheme in ("Bearer", "bearer", "Convex"):
            assert client.get("/metrics", headers={"Authorization": f"{scheme} {KEY}"}).status_code == 200
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    keyless = rdb.asgi(rdb.App(notes, root=__package__), ":memory:", production=True)
    with TestClient(keyless) as client:
        assert client.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 403


def test_a_page_elsewhere_cannot_read_the_figures_of_a_server_on_this_machine(live: rdb.ReactiveASGI) -> None:
    live.addresses = Addresses(cloud_url="http://127.0.0.1:3210")
    with TestClient(live, base_url="http://127.0.0.1:3210") as client:
        assert client.get("/metrics").status_code == 200
        assert client.get("/metrics", headers={"Host": "evil.example"}).status_code == 403


def test_openmetrics_is_spoken_to_who_asks_for_it(client: TestClient) -> None:
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.slow
def test_who_asks_for_a_version_that_is_none_gets_the_text(client: TestClient) -> None:
    answer = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=x.y"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")


def test_the_probes_answer_while_the_database_is_busy(live: rdb.ReactiveASGI) -> None:
    with TestClient(live) as client:
        stop = threading.Event()
        made = 0

        def write() -> None:
            nonlocal made
            while not stop.is_set():
                call(client, "mutation", "notes:add", text="more")
                made += 1

        writers = [threading.Thread(target=write) for _ in range(4)]
        for writer in writers:
            writer.start()
        took_s = [
            client.get(path).elapsed.total_seconds()
            for _ in range(20)
            for path in ("/healthz", "/readyz", "/metrics")
        ]
        stop.set()
        for writer in writers:
            writer.join()
    print(f"{made} commits meanwhile; the slowest probe took {max(took_s) * 1000:.0f} ms")
    assert made > 0
    assert max(took_s) < 2


@pytest.mark.slow
def test_nobody_who_only_imports_the_library_pays_for_prometheus() -> None:
    code = "import sys, reactivedb; reactivedb.asgi; print('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"
