"""What do `db.check()` and `reactivedb doctor` say of a file, and what does an error of damage name?"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import reactivedb as rdb
from reactivedb.storage import examine
from reactivedb.storage.page_checksums import PAGE_SIZE_BYTES, seal

from . import application as notes
from .record import app

TEXT = "the text that is looked for "


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed file; each note is larger than a page, so that damage hits one."""
    path = tmp_path / "data.db"
    with app.open(path) as database:
        for number in range(8):
            database.mutation(notes.add, "ada", f"note {number} " + "x" * 5000, float(number))
        database.mutation(notes.add, "ada", TEXT * 200, 99.0)
        database.action(notes.store, b"a file")
        assert database.check() == []
    return path


def ids_of(path: Path, text: str) -> str:
    with sqlite3.connect(path) as shell:
        [(id,)] = shell.execute("SELECT id FROM documents WHERE value LIKE ?", (f"%{text}%",)).fetchall()
    shell.close()
    return id


def change(path: Path, statement: str, *, sealed: bool = True) -> None:
    """With SQLite alone; `sealed` then makes the checksums anew, as if we had written it."""
    with sqlite3.connect(path) as shell:
        shell.execute(statement)
    shell.close()
    if sealed:
        content = bytearray(path.read_bytes())
        for start in range(0, len(content), PAGE_SIZE_BYTES):
            page = bytes(content[start : start + PAGE_SIZE_BYTES])
            content[start : start + PAGE_SIZE_BYTES] = seal(page, start // PAGE_SIZE_BYTES + 1)
        path.write_bytes(content)


def damage_text(path: Path, *, which: int) -> None:
    """One bit of the text in `documents` or in `log`, which both have it."""
    content = bytearray(path.read_bytes())
    places: list[int] = []
    start = 0
    while (start := content.find(TEXT.encode() * 20, start)) >= 0:
        places.append(start)
        start += len(TEXT) * 190
    content[places[which] + 100] ^= 4
    path.write_bytes(content)


def test_damage_names_document_commit_and_page_and_the_way_out(path: Path) -> None:
    id = ids_of(path, TEXT)
    for which in range(2):
        copy = path.with_name(f"copy{which}.db")
        shutil.copy(path, copy)
        damage_text(copy, which=which)
        problems = examine(copy).problems
        assert any("does not match its checksum" in problem for problem in problems)
        named = [problem for problem in problems if f"`{id}` of table `notes` cannot be read" in problem]
        logged = [problem for problem in problems if "write 0 of the commit at " in problem]
        assert bool(named) != bool(logged)
        errors = errors_of(copy)
        assert errors
        for error in errors:
            assert error.code == "DatabaseCorrupt"
            # Others may lie on the same page.
            what = (id, "of table `notes`") if named else ("the commit at",)
            assert all(word in error.message for word in what)
            assert "page " in error.message
            assert "reactivedb doctor" in error.message


def errors_of(path: Path) -> list[rdb.StorageError]:
    """Why it does not open; or what questions are answered with that need the damaged page."""
    try:
        database = app.open(path, jobs=False)
    except rdb.StorageError as error:
        return [error]
    options = rdb.PaginationOptions(num_items=99, cursor=None)
    with database:
        questions: list[Callable[[], Any]] = [
            lambda: database.query(notes.notes_of, "ada"),
            lambda: database.query(notes.page, options),
            lambda: database.runtime.engine.storage.log(0, limit=999),
        ]
        return [error for ask in questions if (error := error_of(ask)) is not None]


def error_of(ask: Callable[[], Any]) -> rdb.StorageError | None:
    try:
        ask()
    except rdb.StorageError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM index_entries WHERE document_number = 4", "entries for"),
        ("DELETE FROM documents WHERE number = 4", "is in the log, but not stored"),
        (
            "UPDATE documents SET value = replace(value, 'ada', 'bob') WHERE number = 4",
            "differs from its text",
        ),
        (
            "UPDATE index_entries SET id = (SELECT max(id) FROM documents) WHERE document_number = 4",
            "leads to",
        ),
        ("UPDATE index_entries SET key = CAST(key || x'00' AS BLOB)", "a key that is not"),
        ("UPDATE log SET ts = ts - 1 WHERE rowid = 9", "the log"),
        ("UPDATE log SET prev_ts = 5 WHERE rowid = 9", "as its previous version"),
    ],
)
def test_what_does_not_fit_together_is_said(path: Path, statement: str, said: str) -> None:
    change(path, statement)
    problems = examine(path).problems
    assert any(said in problem for problem in problems), problems
    with app.open(path, jobs=False) as database:
        assert database.check() == problems


def test_what_another_program_wrote_into_a_page_is_noticed(path: Path) -> None:
    change(path, "UPDATE documents SET ts = ts + 1 WHERE number = 4", sealed=False)
    assert any("checksum" in problem for problem in examine(path).problems)


def test_a_check_sees_a_database_that_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with app.open_async(tmp_path / "data.db") as database:
            for number in range(30):
                await database.mutation(notes.add, "ada", f"{number}", 1.0)
            found: list[list[str]] = []

            async def check() -> None:
                found.append(await database.check())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(check)
                while not found:
                    await database.mutation(notes.add, "bob", "meanwhile", 1.0)
            assert found == [[]]

    anyio.run(main)


def test_a_database_in_memory_is_checked_too() -> None:
    with app.open() as database:
        database.mutation(notes.add, "ada", "text", 1.0)
        assert database.check() == []


def doctor(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reactivedb", "doctor", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_the_doctor_reads_a_file_changes_nothing_and_tells_by_its_exit_code(path: Path) -> None:
    before = path.read_bytes()
    sound = doctor(path)
    assert (sound.returncode, sound.stderr) == (0, "")
    assert "table `notes`: 9 documents" in sound.stdout
    assert "no problem was found" in sound.stdout
    damage_text(path, which=0)
    damaged = path.read_bytes()
    found = doctor(path)
    assert found.returncode == 1
    assert "PROBLEM page " in found.stdout
    assert ".recover" in found.stderr
    assert path.read_bytes() == damaged != before
    assert doctor(path.with_name("nothing.db")).returncode == 2


@pytest.mark.slow
def test_the_doctor_goes_as_far_as_it_gets_in_a_file_that_does_not_open(path: Path) -> None:
    id = ids_of(path, TEXT)
    whole = path.read_bytes()
    with app.open(path, jobs=False) as database:
        database.mutation(notes.change, id, "changed")
        database.mutation(notes.change, id, "changed again")
        (copy := path.with_name("copy.db")).write_bytes(path.read_bytes())
        wal = bytearray(path.with_name("data.db-wal").read_bytes())
    wal[3000] ^= 1
    copy.with_name("copy.db-wal").write_bytes(wal)
    with pytest.raises(rdb.StorageError) as raised:
        app.open(copy)
    assert raised.value.code == "DatabaseCorrupt"
    assert "truncate -s" in raised.value.message
    found = doctor(copy)
    assert found.returncode == 1
    assert "copy.db-wal" in found.stdout
    assert "table `notes`: 9 documents" in found.stdout

    unopenable = ((b"no database", "not a database"), (b"\0" * 8192, "not a database"), (whole[:5000], ""))
    for content, said in unopenable:
        copy.with_name("copy.db-wal").unlink(missing_ok=True)
        copy.write_bytes(content)
        found = doctor(copy)
        assert found.returncode == 1
        assert said in found.stdout
        assert "Traceback" not in found.stderr


@pytest.mark.slow
def test_the_doctor_examines_a_file_that_is_open(path: Path) -> None:
    with app.open(path) as database:
        database.mutation(notes.add, "bob", "new", 1.0)
        found = doctor(path)
        assert found.returncode == 0, found.stdout
        assert "table `notes`: 10 documents" in found.stdout
        database.mutation(notes.add, "bob", "newer", 1.0)
        assert database.check() == []
    assert os.listdir(path.parent) == ["data.db"] or "data.db-wal" not in os.listdir(path.parent)
