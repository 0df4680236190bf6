"""Which files does the SQLite storage open, and what does it leave of those it refuses?"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from reactivedb.errors import StorageError
from reactivedb.storage import Outcome, SqliteStorage, TableRow, open_sqlite
from reactivedb.storage.sqlite_schema import FORMAT_VERSION

from .commits import INDEX, TABLE, commit, insert, text_of, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.db"


def refusal(path: Path) -> StorageError:
    with pytest.raises(StorageError) as raised:
        open_sqlite(path)
    return raised.value


def after_a_crash(path: Path, folder: Path) -> Path:
    """A copy of the files of an open database: what a killed process would have left."""
    folder.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", folder / f"{path.name}{suffix}")
    return folder / path.name


# Reopening


def test_what_was_flushed_is_there_when_opened_again(path: Path) -> None:
    with_outcome = commit(3, outcome=Outcome("session", 1, 3, b"1", ()))
    first = open_sqlite(path)
    first.put_table(TABLE)
    first.put_index(INDEX)
    first.append(insert(1, "a", "b", creation_time=17.25))
    first.append(with_outcome)
    first.flush()
    first.append(insert(4, "open group"))
    before = first.log(0, limit=2)
    first.close()
    assert sorted(os.listdir(path.parent)) == ["data.db", "data.db.lock"]

    again = open_sqlite(path)
    assert again.catalog().tables == [TABLE]
    assert again.catalog().indexes == [INDEX]
    assert (again.catalog().last_ts, again.catalog().last_creation_time) == (3, 17.25)
    assert again.log(0, limit=9) == before
    assert again.outcome("session", 1) == with_outcome.outcome
    assert again.check() == []
    again.close()


def test_a_crash_takes_the_open_group_and_nothing_else(path: Path, tmp_path: Path) -> None:
    crashed = open_sqlite(path)
    crashed.put_index(INDEX)
    crashed.append(insert(1, "a", creation_time=5.0))
    crashed.flush()
    crashed.append(insert(2, "b"))
    copy = after_a_crash(path, tmp_path / "copy")
    crashed.close()

    again = open_sqlite(copy)
    assert again.catalog().last_ts == 1
    assert again.catalog().last_creation_time == 5.0
    assert [ts for ts, _ in again.log(0, limit=9)] == [1]
    assert again.check() == []
    again.close()


def test_an_empty_file_is_laid_out(path: Path) -> None:
    path.touch()
    open_sqlite(str(path)).close()
    open_sqlite(path).close()


@pytest.mark.slow
def test_a_reader_in_the_shell_does_not_keep_a_crashed_file_shut(path: Path, tmp_path: Path) -> None:
    crashed = open_sqlite(path)
    crashed.append(insert(1, "a"))
    crashed.flush()
    copy = after_a_crash(path, tmp_path / "copy")
    crashed.close()
    shell = sqlite3.connect(copy, isolation_level=None)
    shell.execute("BEGIN")
    assert shell.execute("SELECT id FROM documents").fetchall() == [("a",)]

    again = open_sqlite(copy)
    again.append(insert(2, "b"))
    again.flush()
    again.sync()
    assert shell.execute("SELECT id FROM documents").fetchall() == [("a",)]
    shell.execute("COMMIT")
    assert shell.execute("SELECT id FROM documents").fetchall() == [("a",), ("b",)]
    shell.close()
    again.close()


# One holder


def test_a_second_opening_is_refused_and_names_the_holder(path: Path, tmp_path: Path) -> None:
    first = open_sqlite(path)
    (link := tmp_path / "link.db").symlink_to(path)
    for name in (path, link):
        error = refusal(name)
        assert error.code == "DatabaseInUse"
        assert error.fields["pid"] == os.getpid()
        assert str(os.getpid()) in error.message
    first.append(insert(1, "a"))
    first.close()
    open_sqlite(link).close()


@pytest.mark.slow
def test_another_process_is_refused_until_the_holder_is_gone(path: Path) -> None:
    program = (
        "import sys; from reactivedb.storage import open_sqlite; open_sqlite(sys.argv[1]); "
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        error = refusal(path)
        assert (error.code, error.fields["pid"]) == ("DatabaseInUse", holder.pid)
        holder.kill()
    open_sqlite(path).close()


# Refused files


def _text(path: Path) -> None:
    path.write_text("Dear diary, today I did not write a database.\n" * 100)


def _short_text(path: Path) -> None:
    path.write_text("hi")


def _cut_short(path: Path) -> None:
    storage = open_sqlite(path)
    storage.append(insert(1, *(f"id{n}" for n in range(500))))
    storage.flush()
    storage.close()
    os.truncate(path, path.stat().st_size // 2)


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE todo (item)")


def _newer(path: Path) -> None:
    open_sqlite(path).close()
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    other.close()


def _read_only(path: Path) -> None:
    open_sqlite(path).close()
    path.chmod(0o444)


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (_text, "DatabaseCorrupt"),
        (_short_text, "DatabaseCorrupt"),
        (_cut_short, "DatabaseCorrupt"),
        (_foreign, "ForeignDatabase"),
        (_newer, "NewerFormat"),
        (_read_only, "ReadOnly"),
        (_folder, "ForeignDatabase"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_not_touched(
    path: Path, make: Callable[[Path], None], code: str
) -> None:
    make(path)
    before = None if path.is_dir() else path.read_bytes()
    for _ in range(2):  # The second time shows that the first one holds nothing.
        error = refusal(path)
        assert error.code == code
        assert f"`{path}`" in error.message
        assert " - " in error.message
    if before is not None:
        assert path.read_bytes() == before
        path.unlink()
        open_sqlite(path).close()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere" / "data.db").code == "FolderMissing"


def test_a_read_only_folder_is_refused(path: Path) -> None:
    path.parent.chmod(0o555)
    assert refusal(path).code == "ReadOnly"
    path.parent.chmod(0o755)
    assert os.listdir(path.parent) == []


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that not even root can write")
def test_a_folder_that_the_system_keeps_from_writing_is_refused() -> None:
    assert refusal(Path("/sys/kernel/data.db")).code == "ReadOnly"


def _read_all(storage: SqliteStorage) -> None:
    storage.scan_table(TABLE.number, "", None, limit=9999)
    storage.scan(INDEX.number, b"", b"\xff", limit=9999)
    storage.log(0, limit=9999)


def test_a_damaged_page_is_reported_by_reading_and_by_the_check(path: Path) -> None:
    storage = open_sqlite(path)
    storage.append(insert(1, *(f"id{n:05}" for n in range(2000))))
    storage.flush()
    storage.close()
    content = bytearray(path.read_bytes())
    # Past the catalog's pages, within those of documents, entries and log.
    content[len(content) // 2 : len(content) // 2 + 8 * 4096] = b"\xee" * 8 * 4096
    path.write_bytes(content)

    damaged = open_sqlite(path)
    assert damaged.check() != []
    with pytest.raises(StorageError) as raised:
        _read_all(damaged)
    assert raised.value.code == "DatabaseCorrupt"
    damaged.close()


# What people see


def test_people_read_a_table_through_its_view_while_it_is_open(path: Path) -> None:
    storage = open_sqlite(path)
    storage.put_table(TABLE)
    text = text_of("a", 1763912345678.25, body="hi")
    storage.append(commit(1, [write("a", text)]))
    storage.flush()
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as shell:
        rows = shell.execute("SELECT id, creation_time, ts, value ->> 'body', value FROM messages").fetchall()
    shell.close()
    assert rows == [("a", 1763912345678.25, 1, "hi", text.decode())]
    storage.close()


def test_a_view_gives_way_to_a_name_that_is_taken(path: Path) -> None:
    storage = open_sqlite(path)
    names = ["documents", "Users", "users", "sqlite_master", "_scheduled_functions", 'odd "name']
    for number, name in enumerate(names, start=1):
        storage.put_table(TableRow(number, name))
    storage.flush()
    storage.close()
    with apsw.Connection(str(path)) as shell:
        views = shell.execute("SELECT name FROM sqlite_schema WHERE type = 'view' ORDER BY rowid").fetchall()
        for (view,) in views:
            quoted = view.replace('"', '""')
            assert shell.execute(f'SELECT * FROM "{quoted}"').fetchall() == []
    shell.close()
    assert [view for (view,) in views] == [
        "documents_1",
        "Users",
        "users_3",
        "table_4_1",
        "_scheduled_functions",
        'odd "name',
    ]


def test_the_format_document_shows_the_tables_as_they_are(path: Path) -> None:
    open_sqlite(path).close()
    with sqlite3.connect(path) as shell:
        statements = [
            sql for (sql,) in shell.execute("SELECT sql FROM sqlite_schema WHERE sql LIKE 'CREATE TABLE%'")
        ]
    shell.close()
    document = (Path(__file__).parents[2] / "docs" / "storage_format.md").read_text()
    assert len(statements) == 7
    for statement in statements:
        assert statement in document


def test_the_statements_of_the_format_document_run(path: Path) -> None:
    storage = open_sqlite(path)
    for number, name in enumerate(("messages", "users"), start=TABLE.number):
        storage.put_table(TableRow(number, name))
    storage.append(insert(1, "a", "b"))
    storage.flush()
    storage.close()
    document = (Path(__file__).parents[2] / "docs" / "storage_format.md").read_text()
    statements = re.findall(r"^sqlite> (.*;)$", document, re.MULTILINE)
    assert len(statements) == 4
    with sqlite3.connect(path) as shell:
        answers = [shell.execute(statement).fetchall() for statement in statements]
    shell.close()
    assert ("messages", 2) in answers[2]
