"""What does somebody see who opens a database that cannot be opened, or that has no room left?"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from apps.ledger import entries
from apps.ledger.app import app

import reactivedb as rdb
from reactivedb.functions import ANONYMOUS, RequestKey, RunResult

from .server import DEADLINE_S, LEDGER

FULL_DISK = Path(__file__).parent / "full_disk.py"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed database with one row in it."""
    path = tmp_path / "data.db"
    with app.open(path) as database:
        database.mutation(entries.add, "before")
    return path


# Refused


def _corrupt(path: Path) -> None:
    path.write_bytes(b"no database at all " * 500)


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as shell:
        shell.execute("PRAGMA user_version = 99")
    shell.close()


def _read_only(path: Path) -> None:
    path.chmod(0o444)


def _foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as shell:
        shell.execute("CREATE TABLE todo (item)")
    shell.close()


REFUSED = pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_corrupt, "DatabaseCorrupt"),
        (_newer, "NewerFormat"),
        (_read_only, "ReadOnly"),
        (_foreign, "ForeignDatabase"),
    ],
)


@REFUSED
def test_open_names_the_file_and_the_reason_and_changes_nothing(
    path: Path, spoil: Callable[[Path], None], code: str
) -> None:
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(rdb.StorageError) as raised:
        app.open(path)
    assert raised.value.code == code
    assert str(path) in raised.value.message
    assert path.read_bytes() == before


def test_open_refuses_a_file_that_is_open_and_opens_it_once_it_is_closed(path: Path) -> None:
    with app.open(path) as database:
        with pytest.raises(rdb.StorageError) as raised:
            app.open(path)
        assert raised.value.code == "DatabaseInUse"
        assert database.mutation(entries.add, "undisturbed") == 2
    with app.open(path) as database:
        assert database.query(entries.names) == ["before", "undisturbed"]


async def _open_async(path: Path) -> None:
    async with app.open_async(path):
        raise AssertionError("opened")


@REFUSED
@pytest.mark.anyio
async def test_open_async_refuses_alike(path: Path, spoil: Callable[[Path], None], code: str) -> None:
    spoil(path)
    with pytest.raises(rdb.StorageError) as raised:
        await _open_async(path)
    assert raised.value.code == code


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def dev(data: Path) -> subprocess.CompletedProcess[str]:
    """`reactivedb dev` that is expected to end by itself."""
    words = [sys.executable, "-m", "reactivedb", "dev", str(LEDGER), "--no-open", "--data", str(data)]
    words += ["--port", "0", "--site-port", "0"]
    return subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def assert_one_readable_line(done: subprocess.CompletedProcess[str], *expected: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    for text in expected:
        assert text in line


@pytest.mark.slow
@REFUSED
def test_dev_says_it_in_one_line_and_fails(path: Path, spoil: Callable[[Path], None], code: str) -> None:
    spoil(path)
    assert_one_readable_line(dev(path.parent), str(path), code)


@pytest.mark.slow
def test_dev_names_the_process_that_holds_the_file(path: Path) -> None:
    with app.open(path):
        assert_one_readable_line(dev(path.parent), str(path), "DatabaseInUse")


# No room left


def on_a_small_disk(place: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a shell program with a file system of 3 MiB mounted at `place`, which nobody else sees."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs `unshare` to mount a small disk")
    words = [unshare, "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=3m tmpfs '{place}' || exit 77\n"
    done = subprocess.run([*words, mount + program], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"this system mounts nothing: {done.stderr}")
    return done


@pytest.mark.slow
def test_a_disk_that_runs_full_fails_the_mutation_and_loses_nothing(tmp_path: Path) -> None:
    done = on_a_small_disk(tmp_path, f"exec '{sys.executable}' '{FULL_DISK}' '{tmp_path}'")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["codes"] == ["DiskFull"]
    assert seen["stored_while_full"] == seen["acknowledged"]
    assert seen["stored_after_reopening"] == seen["acknowledged"] + ["with room again"]
    assert seen["problems"] == []


@pytest.mark.slow
def test_dev_on_a_full_disk_says_it_in_one_line_and_fails(tmp_path: Path) -> None:
    words = f"'{sys.executable}' -m reactivedb dev '{LEDGER}' --no-open --port 0 --site-port 0"
    fill = f"head -c 4M /dev/zero > filler 2>/dev/null; {words} --data data"
    done = on_a_small_disk(tmp_path, f"cd '{tmp_path}' && mkdir data; {fill}")
    assert_one_readable_line(done, "data", "DiskFull")


# Across restarts


def test_a_scheduled_mutation_runs_exactly_once_across_restarts(path: Path) -> None:
    with app.open(path, jobs=False) as database:
        database.mutation(entries.add_later, "scheduled", 0.0)
    for _ in range(3):
        with app.open(path) as database:
            database.run_until_idle()
            assert database.query(entries.names) == ["before", "scheduled"]


def send(database: rdb.Database, key: RequestKey, name: str) -> RunResult:
    """A client's mutation, durable."""
    runner = database.runtime.runner
    definition = runner.registry.of(entries.add)
    named = runner.bind(definition, (name,), {})
    result = runner.recorded(key) or runner.mutation(definition, named, ANONYMOUS, key=key)
    database.runtime.engine.make_durable()
    return result


def test_a_replay_after_a_restart_gets_the_recorded_answer_and_runs_nothing(path: Path) -> None:
    key = RequestKey("session", 7)
    with app.open(path) as database:
        first = send(database, key, "once")
    with app.open(path) as database:
        again = send(database, key, "once")
        assert (again.value, again.ts) == (first.value, first.ts)
        other = send(database, RequestKey("session", 8), "another")
        assert other.ts > first.ts
        assert database.query(entries.names) == ["before", "once", "another"]
