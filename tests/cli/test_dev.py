"""`reactivedb dev`, `serve` and `run` in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from .conftest import DEADLINE_S, StartServer, finished

pytestmark = pytest.mark.slow


def test_a_folder_is_served_until_a_signal_ends_it_cleanly(folder: Path, start: StartServer) -> None:
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        server = start("dev", folder)
        assert server.data == folder / ".reactivedb"
        assert server.call("query", "notes:greeting")["value"] == "first"
        assert httpx.get(f"{server.site_url}/anything").status_code == 404
        assert server.end(signal_number) == 0
        assert "Traceback" not in "".join(server.errors)


def test_data_and_key_last_and_the_key_is_the_owners_alone(
    folder: Path, tmp_path: Path, start: StartServer
) -> None:
    data = tmp_path / "elsewhere"
    server = start("dev", folder, "--data", data)
    assert server.data == data
    server.call("mutation", "notes:add", text="one")
    key = (data / "admin_key").read_text()
    assert stat.S_IMODE((data / "admin_key").stat().st_mode) == 0o600
    server.end()
    again = start("dev", folder, "--data", data)
    assert (data / "admin_key").read_text() == key
    counted = finished("run", "notes:count", "--data", data)
    assert (counted.returncode, counted.stdout.strip()) == (0, "1")
    assert key.strip() not in "".join(server.errors + again.errors)


def test_a_folder_with_init_is_a_package(tmp_path: Path, start: StartServer) -> None:
    package = tmp_path / "chat"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "app.py").write_text("import reactivedb as rdb\nfrom . import rooms\napp = rdb.App(rooms)\n")
    rooms = "import reactivedb as rdb\n@rdb.query\ndef first_of(ctx: rdb.QueryCtx) -> int:\n    return 1\n"
    (package / "rooms.py").write_text(rooms)
    server = start("dev", package)
    assert server.call("query", "rooms:firstOf")["value"] == 1


def test_an_edit_is_loaded_without_dropping_clients_and_a_broken_one_is_shown(
    folder: Path, start: StartServer
) -> None:
    server = start("dev", folder)
    notes = (folder / "notes.py").read_text()
    with connect(server.url.replace("http", "ws") + "/api/sync") as socket:

        def next_greeting() -> str:
            while True:
                message = json.loads(socket.recv(timeout=DEADLINE_S))
                for change in message.get("modifications", []):
                    return change["value"]

        session = {
            "type": "Connect",
            "sessionId": "00000000-0000-4000-8000-000000000000",
            "connectionCount": 0,
        }
        added = {"type": "Add", "queryId": 0, "udfPath": "notes:greeting", "args": [{}]}
        query = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [added]}
        socket.send(json.dumps(session))
        socket.send(json.dumps(query))
        assert next_greeting() == "first"

        (folder / "notes.py").write_text(notes.replace('"first"', '"second"'))
        assert next_greeting() == "second"

        (folder / "notes.py").write_text("def broken(:\n")
        server.wait_for_error_line("SyntaxError")
        server.wait_for_error_line("not reloaded")
        assert server.call("query", "notes:greeting")["value"] == "second"

        server.call("mutation", "notes:add", text="one")
        (folder / "notes.py").write_text(notes.replace("text: str\n", "text: int\n"))
        server.wait_for_error_line("SchemaMismatch")
        assert server.call("query", "notes:greeting")["value"] == "second"

        (folder / "notes.py").write_text(notes.replace('"first"', '"third"'))
        assert next_greeting() == "third"


def test_each_run_is_logged_with_what_it_printed_and_why_it_failed(folder: Path, start: StartServer) -> None:
    server = start("dev", folder)
    server.call("mutation", "notes:add", text="one")
    server.call("mutation", "notes:crash")
    server.wait_for_error_line("the inner working")
    server.end()
    log = "".join(server.errors)
    assert "mutation notes:add" in log
    assert "'adding' 'one'" in log


def test_a_call_that_is_refused_before_it_runs_is_logged_too(folder: Path, start: StartServer) -> None:
    server = start("dev", folder)
    server.call("mutation", "notes:add", txt="one")
    server.call("query", "notes:add", text="one")
    server.call("query", "notes:nothing")
    finished("run", "notes:nowhere", "--data", server.data)
    with connect(server.url.replace("http", "ws") + "/api/sync") as socket:
        session = "00000000-0000-4000-8000-000000000000"
        socket.send(json.dumps({"type": "Connect", "sessionId": session, "connectionCount": 0}))
        for number, kind in enumerate(("Mutation", "Action")):
            path = f"notes:\x1b[31m{kind}"
            call: dict[str, object] = {"type": kind, "requestId": number, "udfPath": path, "args": [{}]}
            socket.send(json.dumps(call))
        server.wait_for_error_line("notes:\\x1b[31mAction")
    server.end()
    log = "".join(server.errors)
    assert "ArgumentValidationError: expected `v.string()` at `.text`" in log
    assert "WrongKind: `notes:add` is a mutation" in log
    assert "Could not find public function for 'notes:nothing'" in log
    assert "call     notes:nowhere" in log
    assert "mutation notes:\\x1b[31mMutation" in log
    assert "\x1b[31m" not in log


def test_a_token_that_an_error_quotes_is_not_logged(folder: Path, start: StartServer) -> None:
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
    server = start("dev", folder)
    server.call("mutation", "notes:add", text=token)
    server.wait_for_error_line("redacted")
    assert token not in "".join(server.errors)


def test_run_prints_json_and_log_lines_apart_and_fails_with_1(folder: Path, start: StartServer) -> None:
    server = start("dev", folder)
    added = finished("run", "notes:add", '{"text": "one"}', "--data", server.data)
    assert (added.returncode, added.stdout) == (0, "null\n")
    assert "[LOG] 'adding' 'one'" in added.stderr
    # The data folder of the working directory is the default one.
    assert finished("run", "notes:count", cwd=folder).stdout == "1\n"
    key = (server.data / "admin_key").read_text().strip()
    assert finished("run", "notes:count", "--url", server.url, "--admin-key", key).stdout == "1\n"
    for words, code, text in [
        (("notes:crash",), 1, "the inner working"),
        (("notes:nothing",), 1, "Could not find function"),
        (("notes:add", "[1]"), 2, "BadArguments"),
        (("notes:count", "--admin-key", "wrong"), 1, "BadDeployKey"),
        (("notes:count", "--url", "nonsense"), 2, "BadURL"),
    ]:
        failed = finished("run", *words, "--data", server.data)
        assert failed.returncode == code
        assert text in failed.stderr
        assert failed.stdout == ""
    server.end()
    assert "NoServer" in finished("run", "notes:count", "--data", server.data).stderr


def test_serve_is_production_and_stores_only_a_hash_of_its_key(folder: Path, start: StartServer) -> None:
    key = "prod|0123456789abcdef"
    server = start("serve", folder, **{**os.environ, "REACTIVEDB_ADMIN_KEY": key})
    assert "the inner working" not in json.dumps(server.call("mutation", "notes:crash"))
    server.wait_for_error_line("the inner working")
    counted = finished("run", "notes:count", "--data", server.data, "--admin-key", key)
    assert counted.stdout == "0\n"
    assert not any(key.encode() in file.read_bytes() for file in server.data.iterdir() if file.is_file())
    server.end()
    again = start("serve", folder)
    counted = finished("run", "notes:count", "--data", again.data, "--admin-key", key)
    assert counted.stdout == "0\n"


def test_compression_is_offered_only_if_asked_for(folder: Path, start: StartServer) -> None:
    for options, extensions in [((), 0), (("--compression",), 1)]:
        server = start("dev", folder, *options)
        with connect(server.url.replace("http", "ws") + "/api/sync") as socket:
            assert len(socket.protocol.extensions) == extensions
        server.end()
