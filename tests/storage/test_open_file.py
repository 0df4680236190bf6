"""What happens to the file of an open database, and what is said about it?"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reactivedb.errors import StorageError
from reactivedb.storage import SqliteStorage, open_sqlite

from .commits import INDEX, TABLE, insert

OPEN = "import sys; from reactivedb.storage import open_sqlite; open_sqlite(sys.argv[1])"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (folder := tmp_path / "data").mkdir()
    return folder / "data.db"


def begin(storage: SqliteStorage) -> SqliteStorage:
    storage.put_table(TABLE)
    storage.put_index(INDEX)
    acknowledge(storage, 1)
    return storage


def acknowledge(storage: SqliteStorage, ts: int) -> None:
    storage.append(insert(ts, f"id{ts}"))
    storage.flush()
    storage.sync()


def stored_ids(storage: SqliteStorage) -> list[str]:
    return [version.id for version in storage.scan_table(TABLE.number, "", None, limit=1000)]


def reopened_ids(path: Path) -> list[str]:
    again = open_sqlite(path)
    assert again.check() == []
    ids = stored_ids(again)
    again.close()
    return ids


def refusal(name: str | Path) -> StorageError:
    with pytest.raises(StorageError) as raised:
        open_sqlite(name)
    return raised.value


# One holder of one file


def hard_link(path: Path) -> Path:
    (other := path.with_name("other.db")).hardlink_to(path)
    return other


def descriptor(path: Path) -> str:
    return f"/proc/self/fd/{os.open(path.parent, os.O_PATH)}/{path.name}"


def lock_deleted(path: Path) -> Path:
    Path(f"{path}.lock").unlink()
    return path


def lock_replaced(path: Path) -> Path:
    (new := path.with_name("new.lock")).touch()
    new.rename(f"{path}.lock")
    return path


def linked_folder(path: Path) -> Path:
    (link := path.parent.parent / "link").symlink_to(path.parent)
    return link / path.name


def relative(path: Path) -> str:
    return os.path.relpath(path)


NAMES = [hard_link, descriptor, lock_deleted, lock_replaced, linked_folder, relative]


@pytest.mark.parametrize("name_of", NAMES)
def test_another_name_of_an_open_file_is_refused_in_the_same_process(
    path: Path, name_of: Callable[[Path], str | Path]
) -> None:
    storage = begin(open_sqlite(path))
    error = refusal(name_of(path))
    assert (error.code, error.fields["pid"]) == ("DatabaseInUse", os.getpid())
    acknowledge(storage, 2)
    storage.close()
    assert reopened_ids(path) == ["id1", "id2"]


@pytest.mark.slow
@pytest.mark.parametrize("name_of", [hard_link, lock_deleted])
def test_another_name_of_an_open_file_is_refused_in_another_process(
    path: Path, name_of: Callable[[Path], str | Path]
) -> None:
    storage = begin(open_sqlite(path))
    other = subprocess.run(
        [sys.executable, "-c", OPEN, str(name_of(path))], capture_output=True, text=True, timeout=60
    )
    assert other.returncode == 1
    assert f"process {os.getpid()} has it open" in other.stderr
    storage.close()


def test_a_file_that_was_closed_can_be_opened_by_its_other_name(path: Path) -> None:
    begin(open_sqlite(path)).close()
    assert reopened_ids(hard_link(path)) == ["id1"]


def test_a_refused_opening_leaves_the_holder_its_locks(path: Path) -> None:
    storage = begin(open_sqlite(path))
    other = hard_link(path)
    refusal(other)
    # As another process would ask, about the bytes that SQLite locks for a connection.
    asked = "import fcntl, os, struct, sys; lock = struct.pack('hhqqi4x', 1, 0, 0x40000002, 509, 0); "
    asked += "file = os.open(sys.argv[1], os.O_RDWR); lock = fcntl.fcntl(file, fcntl.F_GETLK, lock); "
    asked += "print(struct.unpack('hhqqi4x', lock)[4])"
    said = subprocess.run(
        [sys.executable, "-c", asked, str(path)], capture_output=True, text=True, check=True
    )
    assert int(said.stdout) == os.getpid()
    storage.close()


# The two ways in, and what is harmless


def read_with_the_shell(path: Path) -> None:
    said = subprocess.run(
        ["sqlite3", "-readonly", str(path), "SELECT count(*) FROM documents"], capture_output=True, text=True
    )
    assert (said.stdout, said.stderr) == ("1\n", "")


def back_up_with_the_shell(path: Path) -> None:
    copy = path.with_name("copy.db")
    subprocess.run(["sqlite3", str(path), f".backup {copy}"], check=True, capture_output=True)
    assert reopened_ids(copy) == ["id1"]


def connect_here(path: Path) -> None:
    shell = sqlite3.connect(path)
    assert shell.execute("SELECT count(*) FROM documents").fetchall() == [(1,)]
    shell.close()


def back_up_here(path: Path) -> None:
    shell, copy = sqlite3.connect(path), sqlite3.connect(path.with_name("copy.db"))
    shell.backup(copy)
    copy.close()
    shell.close()
    assert reopened_ids(path.with_name("copy.db")) == ["id1"]


def copy_here(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", ".lock"):
        shutil.copy(f"{path}{suffix}", path.parent.parent / f"copy{suffix}")


def read_here(path: Path) -> None:
    path.read_bytes()


def copy_and_close_a_shell(path: Path) -> None:
    copy_here(path)
    close_a_shell(path)


def close_a_shell(path: Path) -> None:
    subprocess.run(["sqlite3", str(path), "SELECT 1 FROM documents"], check=True, capture_output=True)


def checkpoint_here(path: Path) -> None:
    copy_here(path)
    shell = sqlite3.connect(path, timeout=0)
    [(busy, _, _)] = shell.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    shell.close()
    assert busy == 1


def touch_the_lock(path: Path) -> None:
    Path(f"{path}.lock").unlink()


def link(path: Path) -> None:
    hard_link(path)


def change_rights(path: Path) -> None:
    path.chmod(0o640)


HARMLESS = [
    read_with_the_shell,
    back_up_with_the_shell,
    connect_here,
    back_up_here,
    copy_here,
    read_here,
    copy_and_close_a_shell,
    checkpoint_here,
    touch_the_lock,
    link,
    change_rights,
]


@pytest.mark.parametrize("disturb", HARMLESS)
def test_what_is_allowed_with_an_open_file_loses_nothing(path: Path, disturb: Callable[[Path], None]) -> None:
    storage = begin(open_sqlite(path))
    disturb(path)
    acknowledge(storage, 2)
    # As a killed process leaves it.
    for suffix in ("", "-wal"):
        subprocess.run(["cp", f"{path}{suffix}", f"{path.parent.parent}/killed.db{suffix}"], check=True)
    assert reopened_ids(path.parent.parent / "killed.db") == ["id1", "id2"]
    storage.close()
    assert reopened_ids(path) == ["id1", "id2"]


def test_another_library_in_the_process_cannot_make_the_wal_index_anew(path: Path) -> None:
    storage = begin(open_sqlite(path))
    copy_here(path)
    file = os.open(f"{path}-shm", os.O_RDWR)
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 128, 1, 0)
    kind = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked))[0]
    os.close(file)
    assert kind == fcntl.F_RDLCK
    storage.close()


def test_our_own_checkpoints_go_on_while_the_file_is_guarded(path: Path) -> None:
    storage = begin(open_sqlite(path, checkpoint_pages=1))
    before = path.stat().st_mtime_ns
    for ts in range(2, 40):
        acknowledge(storage, ts)
    assert path.stat().st_mtime_ns > before
    storage.close()
    assert not Path(f"{path}-wal").exists()
    assert len(reopened_ids(path)) == 39


# What is not the database any more


def move(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    other = path.with_name("other.db")
    begin(open_sqlite(other)).close()
    other.rename(path)


def remove_the_wal(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def replace_the_wal(path: Path) -> None:
    shutil.copy(f"{path}-wal", f"{path}-new")
    Path(f"{path}-new").rename(f"{path}-wal")


def remove_the_wal_index(path: Path) -> None:
    Path(f"{path}-shm").unlink()


def rename_the_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def make_the_folder_a_link_elsewhere(path: Path) -> None:
    rename_the_folder(path)
    shutil.copytree(path.parent.with_name("elsewhere"), path.parent.with_name("copy"))
    path.parent.symlink_to(path.parent.with_name("copy"))


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def cut_the_wal_short(path: Path) -> None:
    os.truncate(f"{path}-wal", Path(f"{path}-wal").stat().st_size - 1)


def overwrite(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content)


def copy_another_over_it(path: Path) -> None:
    other = path.parent.parent / "other.db"
    begin(open_sqlite(other)).close()
    subprocess.run(["cp", "-p", str(other), str(path)], check=True)


def flip_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(b"?")


LOST = [
    (move, "FileMoved"),
    (remove, "FileMoved"),
    (replace, "FileMoved"),
    (remove_the_wal, "FileMoved"),
    (replace_the_wal, "FileMoved"),
    (remove_the_wal_index, "FileMoved"),
    (rename_the_folder, "FileMoved"),
    (make_the_folder_a_link_elsewhere, "FileMoved"),
    (cut_short, "FileChanged"),
    (empty, "FileChanged"),
    (cut_the_wal_short, "FileChanged"),
    (overwrite, "FileChanged"),
    (copy_another_over_it, "FileChanged"),
    (flip_a_byte, "FileChanged"),
]


@pytest.mark.parametrize(("disturb", "code"), LOST)
@pytest.mark.parametrize("durability", ["full", "relaxed"])
def test_what_would_be_lost_is_not_acknowledged_and_nothing_is_after_it(
    path: Path, disturb: Callable[[Path], None], code: str, durability: str
) -> None:
    storage = begin(open_sqlite(path, durability="full" if durability == "full" else "relaxed"))
    acknowledge(storage, 2)
    disturb(path)
    with pytest.raises(StorageError) as raised:
        acknowledge(storage, 3)
    assert raised.value.code == code
    assert raised.value.fields["path"] == str(path)
    for call in (lambda: stored_ids(storage), storage.sync, lambda: acknowledge(storage, 4)):
        with pytest.raises(StorageError) as raised:
            call()
        assert raised.value.code == "StorageClosed"
    storage.close()


@pytest.mark.parametrize("disturb", [move, remove_the_wal, replace_the_wal])
def test_all_that_was_acknowledged_is_in_a_file_that_was_only_moved(
    path: Path, disturb: Callable[[Path], None]
) -> None:
    storage = begin(open_sqlite(path))
    for ts in range(2, 20):
        acknowledge(storage, ts)
    disturb(path)
    with pytest.raises(StorageError):
        acknowledge(storage, 20)
    storage.close()
    if disturb is move:
        path.with_name("moved.db").rename(path)
    assert {f"id{ts}" for ts in range(1, 20)} <= set(reopened_ids(path))


def test_a_file_put_in_the_place_of_an_open_one_stays_as_it_is(path: Path) -> None:
    storage = begin(open_sqlite(path, checkpoint_pages=1))
    other = path.with_name("other.db")
    begin(open_sqlite(other)).close()
    content = other.read_bytes()
    other.rename(path)
    with pytest.raises(StorageError):
        acknowledge(storage, 7)
    storage.close()
    assert path.read_bytes() == content
    assert reopened_ids(path) == ["id1"]


def test_a_checkpoint_does_not_write_over_what_was_copied_into_the_file(path: Path) -> None:
    storage = begin(open_sqlite(path, checkpoint_pages=1))
    copy_another_over_it(path)
    content = path.read_bytes()
    storage.append(insert(2, "id2"))
    with pytest.raises(StorageError) as raised:
        storage.flush()
    assert raised.value.code == "FileChanged"
    with pytest.raises(StorageError):
        storage.sync()
    storage.close()
    assert path.read_bytes() == content
