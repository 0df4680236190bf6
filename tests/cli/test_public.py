"""Is a server reachable where it is served, and does it keep its secrets to itself?"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from .conftest import DEADLINE_S, StartServer, command, finished

pytestmark = pytest.mark.slow

STRONG = "Vq3hT7wZ1nLx9KpB4sYd"


def test_a_server_on_every_address_is_run_against_by_address_and_by_told_names(
    folder: Path, start: StartServer
) -> None:
    environment = {**os.environ, "REACTIVEDB_ADMIN_KEY": STRONG, "CONVEX_CLOUD_URL": "https://cloud.example"}
    options = ("--host", "0.0.0.0", "--allowed-host", "db.example.com", "--allowed-host", "*.inner.example")
    server = start("serve", folder, *options, **environment)
    port = server.url.rpartition(":")[2]
    for url in (server.url, f"http://localhost:{port}", f"http://127.0.0.2:{port}"):
        ran = finished("run", "notes:count", "--url", url, "--admin-key", STRONG)
        assert (ran.returncode, ran.stdout) == (0, "0\n"), ran.stderr
    without_option = subprocess.run(
        command("run", "notes:count", "--url", server.url),
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert without_option.stdout == "0\n"
    headers = {"Authorization": f"Convex {STRONG}"}
    for host in ("DB.example.com.", "a.inner.example:443", "cloud.example", "192.168.1.5"):
        for path in ("/metrics", "/api/check_admin_key"):
            answer = httpx.get(server.url + path, headers={**headers, "Host": host})
            assert answer.status_code == 200, (host, answer.text)
    refused = httpx.get(f"{server.url}/metrics", headers={**headers, "Host": "evil.example"})
    assert (refused.status_code, refused.json()["code"]) == (403, "ForeignHost")
    assert "`--allowed-host evil.example`" in refused.json()["message"]
    assert server.end() == 0
    assert STRONG not in "".join(server.errors)


def test_dev_takes_allowed_hosts_too(folder: Path, start: StartServer) -> None:
    server = start("dev", folder, "--allowed-host", "dev.example")
    status = {
        host: httpx.get(f"{server.url}/metrics", headers={"Host": host}).status_code
        for host in ("dev.example", "other.example")
    }
    assert status == {"dev.example": 200, "other.example": 403}
    wrong = finished("dev", folder, "--no-open", "--allowed-host", "http://dev.example")
    assert (wrong.returncode, "InvalidAllowedHost" in wrong.stderr) == (2, True)
    server.end()
    (server.data / "admin_key").write_text("hunter2")
    weak = finished("dev", folder, "--no-open", "--host", "0.0.0.0", "--port", 0, "--site-port", 0)
    assert (weak.returncode, "WeakAdminKey" in weak.stderr) == (1, True)
    assert "hunter2" not in weak.stderr


def test_a_guessable_key_is_served_on_this_machine_and_refused_to_others_also_once_remembered(
    folder: Path, start: StartServer
) -> None:
    weak = {**os.environ, "REACTIVEDB_ADMIN_KEY": "hunter2"}
    server = start("serve", folder, **weak)
    server.end()
    ports = ("--port", 0, "--site-port", 0)
    for options in (("--host", "0.0.0.0"), ("--allowed-host", "db.example.com")):
        # By now only its digest is known.
        refused = finished("serve", folder, *ports, *options)
        assert refused.returncode == 1
        assert "WeakAdminKey" in refused.stderr
        assert "secrets.token_urlsafe" in refused.stderr
    # The one that serves is the one that is remembered, and a blank one is none.
    start("serve", folder, **{**os.environ, "REACTIVEDB_ADMIN_KEY": STRONG}).end()
    public = start("serve", folder, "--host", "0.0.0.0")
    assert finished("run", "notes:count", "--url", public.url, "--admin-key", STRONG).stdout == "0\n"
    public.end()


def test_a_blank_key_in_the_environment_is_an_error(folder: Path) -> None:
    environment = {**os.environ, "REACTIVEDB_ADMIN_KEY": "  "}
    refused = subprocess.run(
        command("serve", folder, "--port", 0, "--site-port", 0),
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert refused.returncode == 1
    assert "WeakAdminKey" in refused.stderr


def test_everything_in_a_data_folder_is_the_owners_alone_and_out_of_version_control(
    folder: Path, start: StartServer
) -> None:
    before = os.umask(0)
    try:
        server = start("dev", folder)
    finally:
        os.umask(before)
    server.call("mutation", "notes:add", text="one")
    made = [server.data, *server.data.rglob("*")]
    loose = {
        str(path): oct(path.stat().st_mode) for path in made if stat.S_IMODE(path.stat().st_mode) & 0o077
    }
    assert loose == {}
    assert {"data.db", "data.db-wal", "data.db-shm", "admin_key", ".gitignore"} <= {
        path.name for path in made
    }
    if git := shutil.which("git"):
        subprocess.run([git, "init", "-q", folder], check=True)
        status = subprocess.run(
            [git, "-C", folder, "status", "--porcelain", "-uall"], capture_output=True, text=True, check=True
        )
        assert ".reactivedb" not in status.stdout
        assert "app.py" in status.stdout


SIGN_IN_APP = """
import reactivedb as rdb
import notes

app = rdb.App(notes, sign_in=rdb.SignIn(password=True))
"""
# Of a caller's own function: it quotes its arguments in an error and in what it prints.
LEAKY = """

@rdb.mutation
def leak(ctx: rdb.MutationCtx, name: str, password: str) -> None:
    print({"password": password}, "Authorization: Bearer " + password)
    raise RuntimeError(f"no such user: password={password!r}")
"""


def test_no_password_or_token_reaches_the_log_of_a_server_whatever_its_type(
    folder: Path, start: StartServer
) -> None:
    (folder / "app.py").write_text(SIGN_IN_APP)
    (folder / "notes.py").write_text((folder / "notes.py").read_text() + LEAKY)
    secret = "hunter2-0815"
    environment = {**os.environ, "REACTIVEDB_ADMIN_KEY": STRONG, "OPENAI_API_KEY": "not-a-known-kind-of-key"}
    server = start("serve", folder, **environment)
    wrong: list[object] = [
        [secret],
        {"text": secret},
        {"$bytes": secret},
        {"$integer": secret},
        770077.5,
        None,
    ]
    for value in wrong:
        for path, args in [
            ("signIn:withPassword", {"name": "ada", "password": value}),
            ("signIn:withPassword", {"name": value, "password": secret}),
            ("signIn:signUp", {"name": "ada", "password": value, secret: secret}),
            ("signIn:changePassword", {"currentPassword": value, "newPassword": value}),
            ("signIn:refresh", {"refreshToken": value}),
        ]:
            server.call("action", path, **args)
        server.call("mutation", "notes:leak", name="ada", password=value)
        httpx.post(
            f"{server.url}/api/update_environment_variables",
            json={"changes": [{"name": "OPENAI_API_KEY", "value": value}]},
            headers={"Authorization": f"Convex {STRONG}"},
        )
    server.call("mutation", "notes:leak", name="ada", password=secret)
    for header in (f"Bearer {secret}", f"Convex {secret}", f"Basic {secret}", secret):
        body = {"path": "notes:greeting", "args": {}}
        httpx.post(f"{server.url}/api/query", json=body, headers={"Authorization": header})
    httpx.get(f"{server.url}/api/check_admin_key", params={"adminKey": secret})
    httpx.post(f"{server.url}/api/storage/upload", params={"token": secret}, content=b"x")
    with connect(server.url.replace("http", "ws") + "/api/sync") as socket:
        session = "00000000-0000-4000-8000-000000000000"
        socket.send(json.dumps({"type": "Connect", "sessionId": session, "connectionCount": 0}))
        path = "signIn:withPassword"
        call = {
            "type": "Action",
            "requestId": 0,
            "udfPath": path,
            "args": [{"name": "a", "password": [secret]}],
        }
        socket.send(json.dumps(call))
        socket.recv(timeout=DEADLINE_S)
        token = {"type": "Authenticate", "baseVersion": 0, "tokenType": "User", "value": [secret]}
        socket.send(json.dumps(token))
    server.call("mutation", "notes:crash")
    server.wait_for_error_line("the inner working")
    assert server.end(signal.SIGTERM) == 0
    log = "".join(server.errors)
    assert "no such user: password=" in log
    assert "signIn:withPassword" in log
    assert "is not shown" in log
    found = [
        line for line in log.splitlines() if re.search(f"{secret}|770077|{STRONG}|not-a-known-kind", line)
    ]
    assert found == []
