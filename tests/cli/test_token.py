"""`reactivedb token`: a user of the application under development, and of no other."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import httpx
import pytest

from .conftest import Server, StartServer, finished

pytestmark = pytest.mark.slow

NOTES = """
import reactivedb as rdb


@rdb.query
def who(ctx: rdb.QueryCtx) -> list[str | None]:
    user = ctx.auth.get_user_identity()
    return [user.token_identifier, user.get("role")] if user else []
"""


@pytest.fixture
def folder(folder: Path) -> Path:
    (folder / "notes.py").write_text(NOTES)
    return folder


def ask(server: Server, token: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.post(f"{server.url}/api/query", json={"path": "notes:who", "args": {}}, headers=headers)


def made(*words: object, data: Path) -> str:
    printed = finished("token", *words, "--data", data)
    assert printed.returncode == 0, printed.stderr
    return printed.stdout.strip()


def test_a_development_server_accepts_the_tokens_of_its_data_folder(
    folder: Path, tmp_path: Path, start: StartServer
) -> None:
    data = tmp_path / "data"
    early = made("ada", '{"role": "admin", "sub": "eve"}', data=data)
    server = start("dev", folder, "--data", data)
    assert ask(server, early).json()["value"] == ["urn:reactivedb:dev|ada", "admin"]
    assert ask(server, made("bob", data=data)).json()["value"] == ["urn:reactivedb:dev|bob", None]
    assert stat.S_IMODE((data / "identity_key").stat().st_mode) == 0o600
    elsewhere = ask(server, made("ada", data=tmp_path / "other"))
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (401, "InvalidSignature")
    # They outlive an edit of the application, and a restart.
    server.end()
    assert ask(start("dev", folder, "--data", data), early).status_code == 200
    assert early not in "".join(server.errors)


def test_a_production_server_accepts_none_of_them(folder: Path, tmp_path: Path, start: StartServer) -> None:
    data = tmp_path / "data"
    token = made("ada", data=data)
    server = start("serve", folder, "--data", data, **os.environ)
    assert ask(server, token).json()["code"] == "NoAuthProvider"


def test_claims_are_one_json_object(tmp_path: Path) -> None:
    refused = finished("token", "ada", "[]", "--data", tmp_path)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
