"""What `reactivedb dev` says when it cannot start: one readable reason, and an exit code."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from .conftest import StartServer, finished

pytestmark = pytest.mark.slow


def dev(folder: Path, *options: object) -> tuple[int, str]:
    done = finished("dev", folder, "--no-open", "--port", 0, "--site-port", 0, *options)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_folder_without_an_app_is_a_wrong_command_line(tmp_path: Path) -> None:
    code, shown = dev(tmp_path)
    assert code == 2
    assert len(shown.splitlines()) == 1
    assert "app.py" in shown
    assert dev(tmp_path / "none")[0] == 2


def test_a_module_without_an_app_is_named(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("application = 1\n")
    code, shown = dev(tmp_path)
    assert code == 1
    assert "NoApp" in shown


def test_a_port_in_use_is_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for option in ("--port", "--site-port"):
            done = finished("dev", folder, "--no-open", "--port", 0, "--site-port", 0, option, port)
            assert done.returncode == 1
            assert len(done.stderr.splitlines()) == 1
            assert str(port) in done.stderr
            assert option in done.stderr


def test_an_import_error_is_shown_from_the_applications_own_line_on(folder: Path) -> None:
    (folder / "notes.py").write_text("import a_module_that_is_not_there\n")
    code, shown = dev(folder)
    assert code == 1
    assert "a_module_that_is_not_there" in shown
    assert "notes.py" in shown
    assert "importlib" not in shown


def test_a_wrong_declaration_is_one_line_with_its_place(folder: Path) -> None:
    (folder / "notes.py").write_text(
        "import reactivedb as rdb\n\n\n@rdb.query\nasync def slow(ctx: rdb.QueryCtx) -> int:\n    return 1\n"
    )
    code, shown = dev(folder)
    assert code == 1
    assert len(shown.splitlines()) == 1
    assert "TransactionAsync" in shown
    assert "notes.py:" in shown


def test_data_that_another_process_holds_are_one_line(folder: Path, start: StartServer) -> None:
    server = start("dev", folder)
    code, shown = dev(folder)
    assert code == 1
    assert len(shown.splitlines()) == 1
    assert str(server.data) in shown
    # The one that runs is not disturbed.
    assert server.call("query", "notes:greeting")["value"] == "first"


def test_data_that_are_no_database_are_one_line(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "data.db").write_bytes(b"not a database " * 1000)
    code, shown = dev(folder, "--data", data)
    assert code == 1
    assert len(shown.splitlines()) == 1
