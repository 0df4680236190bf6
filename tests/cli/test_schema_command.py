"""What does `reactivedb schema` say and do?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import StartServer, finished

NEW_NOTES = """
import reactivedb as rdb


class Note(rdb.Document, table="notes"):
    body: str

    by_body = rdb.Index("body")


@rdb.internal_query
def bodies(ctx: rdb.QueryCtx) -> list[str]:
    return [note.body for note in ctx.db.query(Note.by_body)]
"""
MIGRATION = """

@rdb.migration(Note)
def rename_text(old):
    return {"body": old["text"].upper()}
"""


@pytest.fixture
def with_notes(folder: Path, start: StartServer) -> Path:
    """The application's folder, with twelve notes in it."""
    server = start("dev", folder)
    for number in range(12):
        server.call("mutation", "notes:add", text=f"note {number:02}")
    server.end()
    return folder


@pytest.mark.slow
def test_a_check_lists_what_would_break_and_fails_with_1(with_notes: Path) -> None:
    (with_notes / "notes.py").write_text(NEW_NOTES)
    data = with_notes / ".reactivedb" / "data.db"
    before = data.read_bytes()
    done = finished("schema", "check", with_notes)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert lines[:2] == ["index `notes.by_body` is added", "12 stored documents do not fit:"]
    assert re.fullmatch(r"  notes \w{32} \.body: expected v\.string\(\), got nothing", lines[2])
    assert lines[-1] == "  ... and 2 more"
    assert len(lines) == 13
    assert data.read_bytes() == before


@pytest.mark.slow
def test_a_check_of_what_fits_ends_with_0_beside_a_running_server(folder: Path, start: StartServer) -> None:
    server = start("dev", folder)
    server.call("mutation", "notes:add", text="hello")
    done = finished("schema", "check", folder)
    assert (done.returncode, done.stdout) == (0, "every stored document fits\n")
    assert server.call("query", "notes:greeting")["status"] == "success"


@pytest.mark.slow
def test_a_migration_is_shown_then_run_with_its_progress(with_notes: Path) -> None:
    (with_notes / "notes.py").write_text(NEW_NOTES + MIGRATION)
    checked = finished("schema", "check", with_notes)
    assert (checked.returncode, checked.stdout.splitlines()[-2:]) == (
        0,
        ["migration `rename_text` is to run", "every stored document fits"],
    )
    shown = finished("schema", "migrate", with_notes, "--dry-run")
    assert shown.returncode == 0
    assert shown.stdout.startswith(
        "`rename_text` of `notes`: 12 of 12 documents would change, 0 would be deleted\n"
    )
    assert '"text": "note 0' in shown.stdout
    assert '"body": "NOTE 0' in shown.stdout
    done = finished("schema", "migrate", with_notes)
    assert done.returncode == 0
    assert done.stdout == "migration `rename_text` of `notes`: 12 documents\nnothing is left to do\n"
    assert "12/12" in done.stderr
    again = finished("schema", "migrate", with_notes)
    assert (again.returncode, again.stdout) == (0, "nothing is left to do\n")
    assert finished("schema", "migrate", with_notes, "--dry-run").stdout == "no migration is to run\n"


@pytest.mark.slow
def test_a_server_that_holds_the_data_is_named(folder: Path, start: StartServer) -> None:
    start("dev", folder)
    done = finished("schema", "migrate", folder)
    assert done.returncode == 1
    assert "DatabaseInUse" in done.stderr


def test_without_data_there_is_nothing_to_migrate(folder: Path) -> None:
    done = finished("schema", "migrate", folder)
    assert (done.returncode, done.stdout) == (0, "nothing is stored yet\n")
    assert not (folder / ".reactivedb").exists()


@pytest.mark.slow
def test_dev_migrates_after_an_edit_and_serves_on_if_it_does_not_fit(
    with_notes: Path, start: StartServer
) -> None:
    server = start("dev", with_notes)
    server.call("mutation", "notes:add", text="while it serves")
    (with_notes / "notes.py").write_text(NEW_NOTES)
    server.wait_for_error_line("not reloaded")
    assert "do not fit the schema" in "".join(server.errors)
    assert server.call("query", "notes:greeting")["value"] == "first"
    (with_notes / "notes.py").write_text((NEW_NOTES + MIGRATION).replace("internal_query", "query"))
    server.wait_for_error_line("reloaded in")
    bodies = server.call("query", "notes:bodies")["value"]
    assert (len(bodies), bodies[-1]) == (13, "WHILE IT SERVES")
