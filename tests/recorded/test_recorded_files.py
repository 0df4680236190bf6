"""Does a file of every earlier format, made by that release itself, answer as it did?

Documents, the past, cursors, file addresses, answers to clients' sessions, pending jobs. `record` makes them.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest

import reactivedb as rdb
from reactivedb.functions import ANONYMOUS, RequestKey
from reactivedb.functions.file_links import links_of
from reactivedb.storage.sqlite_schema import FORMAT_VERSION
from reactivedb.testing import FakeClock

from . import application as notes
from .record import app, as_json

ARCHIVES = sorted(Path(__file__).parent.glob("format_*.tar.xz"))


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def expected(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "expected.json").read_text())


def open_recorded(folder: Path, expected: dict[str, Any]) -> tuple[rdb.Database, FakeClock]:
    clock = FakeClock(expected["now_ns"])
    return app.open(folder / "data.db", clock=clock), clock


def test_there_is_a_recorded_file_of_every_format() -> None:
    versions = [int(re.findall(r"\d+", path.name)[0]) for path in ARCHIVES]
    assert versions == list(range(1, FORMAT_VERSION + 1))


def test_a_recorded_file_has_the_format_that_it_is_named_after(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    header = (folder / "data.db").read_bytes()[:100]
    assert f"format_{int.from_bytes(header[60:64], 'big')}]" in request.node.name


def test_documents_and_the_past_are_what_they_were(folder: Path, expected: dict[str, Any]) -> None:
    for _ in range(2):  # The second time it has the present format.
        database, _ = open_recorded(folder, expected)
        with database:
            for author, found in expected["notes"].items():
                assert as_json(database.query(notes.notes_of, author)) == found
            before = database.at(expected["before_ts"]).query(notes.notes_of, "ada")
            assert as_json(before) == expected["before"]
            assert len(database.history(expected["changed"])) == 2
            assert database.check() == []
    header = (folder / "data.db").read_bytes()[:100]
    assert int.from_bytes(header[60:64], "big") == FORMAT_VERSION


def test_a_cursor_goes_on_where_it_was(folder: Path, expected: dict[str, Any]) -> None:
    database, _ = open_recorded(folder, expected)
    with database:
        everything = database.query(notes.page, rdb.PaginationOptions(num_items=99, cursor=None)).page
        rest = rdb.PaginationOptions(num_items=99, cursor=expected["cursor"])
        found = [note.id for note in database.query(notes.page, rest).page]
        assert expected["page"] + found == [note.id for note in everything]
        assert len(found) == 16


def test_a_file_has_its_address_and_its_bytes(folder: Path, expected: dict[str, Any]) -> None:
    database, _ = open_recorded(folder, expected)
    with database:
        links = links_of(database.runtime.engine.cursor_secret)
        assert links.id_at(expected["address"]) == expected["file"]
        assert database.action(notes.read, expected["file"]) == b"the bytes of a file"


def test_a_session_gets_its_recorded_answer_and_nothing_runs_twice(
    folder: Path, expected: dict[str, Any]
) -> None:
    database, _ = open_recorded(folder, expected)
    with database:
        runner = database.runtime.runner
        known = runner.recorded(RequestKey("the session", 7))
        assert known is not None
        assert [known.ts, known.value] == expected["answer"]
        assert database.query(notes.counted) == 1
        counting = runner.registry.of(notes.count_up)
        named = runner.bind(counting, (), {})
        assert runner.mutation(counting, named, ANONYMOUS, key=RequestKey("the session", 8)).value == 2


def test_a_pending_job_runs_when_it_is_due_and_once(folder: Path, expected: dict[str, Any]) -> None:
    database, clock = open_recorded(folder, expected)
    with database:
        database.run_until_idle()
        assert database.query(notes.counted) == 1
        clock.advance(3600)
        database.run_until_idle()
        assert database.query(notes.counted) == 2
    with app.open(folder / "data.db", clock=clock) as again:
        again.run_until_idle()
        assert again.query(notes.counted) == 2


def test_a_newer_file_is_refused_and_left_as_it_was(folder: Path, expected: dict[str, Any]) -> None:
    database, clock = open_recorded(folder, expected)
    database.close()
    path = folder / "data.db"
    with sqlite3.connect(path) as shell:
        shell.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    shell.close()
    for name in ("data.db-wal", "data.db-shm", "data.db.lock"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy(path, folder / "before.db")
    with pytest.raises(rdb.StorageError) as raised:
        app.open(path, clock=clock)
    assert raised.value.code == "NewerFormat"
    assert path.read_bytes() == (folder / "before.db").read_bytes()
    assert not (folder / "data.db-wal").exists()
