"""Are data their owner's alone, whatever the umask, and what was loose before?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import reactivedb as rdb
from reactivedb.cli.data_dir import DataDir
from reactivedb.errors import StorageError
from reactivedb.storage import FileStore, copy_sqlite, open_sqlite, write_private
from reactivedb.storage.lock import FileLock


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): mode(path) for path in sorted(folder.rglob("*"))}


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277], ids=oct)
def umask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """Every file is made under it; the folder of the test itself was made before."""
    before = os.umask(request.param)
    try:
        yield request.param
    finally:
        os.umask(before)


@pytest.mark.usefixtures("umask")
def test_a_database_and_what_lies_beside_it_are_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    storage = open_sqlite(path)
    files = FileStore(storage.files_folder)
    whole = files.create("whole")
    whole.write(b"x")
    whole.finish()
    files.create("half").write(b"x")
    write_private(tmp_path / "data.db.sign_in_keys", "secret")
    try:
        found = modes(tmp_path)
        folders = {name for name in found if (tmp_path / name).is_dir()}
        assert {"data.db", "data.db-wal", "data.db-shm", "data.db.lock", "data.db.files"} < found.keys()
        assert {"data.db.files/whole", "data.db.files/half.part"} < found.keys()
        assert {name: oct(value) for name, value in found.items() if name not in folders} == {
            name: "0o600" for name in found if name not in folders
        }
        assert {name: oct(found[name]) for name in folders} == {"data.db.files": "0o700"}
        copy_sqlite(path, tmp_path / "copy.db")
        assert mode(tmp_path / "copy.db") == 0o600
    finally:
        files.close()
        storage.close()
    assert mode(path) == 0o600


@pytest.mark.usefixtures("umask")
def test_the_files_of_a_database_without_a_file_are_the_owners_alone() -> None:
    files = FileStore(None)
    part = files.create("one")
    part.write(b"x")
    part.finish()
    descriptor = files.open("one")
    try:
        assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
        assert mode(Path(os.readlink(f"/proc/self/fd/{descriptor}")).parent) == 0o700
    finally:
        os.close(descriptor)
        files.close()


def test_what_an_earlier_version_left_to_others_is_taken_back_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    rdb.App().open(path).close()
    (tmp_path / "data.db.files").mkdir(exist_ok=True)
    (tmp_path / "data.db.sign_in_keys").write_text("{}")
    (tmp_path / "notes.txt").write_text("another's")
    loose = ["data.db", "data.db.lock", "data.db.sign_in_keys", "data.db.files", "notes.txt"]
    for name in loose:
        (tmp_path / name).chmod(0o755)
    tmp_path.chmod(0o755)
    with rdb.App().open(path):
        found = modes(tmp_path)
    assert {name: found[name] & 0o077 for name in loose} == dict.fromkeys(loose[:-1], 0) | {
        "notes.txt": 0o055
    }
    # The folder is the user's own choice, and may be shared.
    assert mode(tmp_path) == 0o755


def test_a_loose_database_never_has_a_loose_write_ahead_log(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    open_sqlite(path).close()
    path.chmod(0o644)
    storage = open_sqlite(path)
    try:
        assert modes(tmp_path) == dict.fromkeys(modes(tmp_path), 0o600)
        assert (tmp_path / "data.db-wal").exists()
    finally:
        storage.close()


def test_the_mode_of_what_is_no_database_of_ours_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("not a database, and longer than a header of one hundred bytes would have to be" * 3)
    path.chmod(0o644)
    with pytest.raises(StorageError):
        open_sqlite(path)
    assert mode(path) == 0o644


def test_a_link_to_a_folder_elsewhere_keeps_that_folders_mode(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(0o755)
    shared.chmod(0o755)
    (tmp_path / "data.db.files").symlink_to(shared)
    open_sqlite(tmp_path / "data.db").close()
    assert mode(shared) == 0o755


@pytest.mark.usefixtures("umask")
def test_a_lock_can_be_taken_again_by_its_owner(tmp_path: Path) -> None:
    for _ in range(2):
        lock = FileLock(tmp_path / "data.db")
        assert mode(lock.path) == 0o600
        lock.release()


@pytest.mark.usefixtures("umask")
def test_a_data_folder_that_is_made_is_the_owners_alone_and_ignores_itself(tmp_path: Path) -> None:
    data = DataDir.of(tmp_path, None)
    data.create()
    data.development_key()
    data.identity_key(lambda: "key")
    data.remember_url("http://127.0.0.1:1")
    assert mode(data.path) == 0o700
    assert (data.path / ".gitignore").read_text() == "*\n"
    assert set(modes(data.path).values()) == {0o600}
    chosen = DataDir.of(tmp_path, tmp_path / "chosen")
    chosen.create()
    assert mode(chosen.path) == 0o700
    assert (chosen.path / ".gitignore").read_text() == "*\n"


def test_a_folder_of_the_users_own_keeps_its_mode_and_gets_no_gitignore(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    own.chmod(0o755)
    data = DataDir.of(tmp_path, own)
    data.create()
    assert mode(own) == 0o755
    assert os.listdir(own) == []


def test_a_data_folder_of_an_earlier_version_learns_to_ignore_itself_and_its_keys_are_tightened(
    tmp_path: Path,
) -> None:
    data = DataDir.of(tmp_path, None)
    data.path.mkdir()
    (data.path / "admin_key").write_text("old")
    (data.path / "admin_key").chmod(0o644)
    data.create()
    assert (data.path / ".gitignore").read_text() == "*\n"
    assert mode(data.path / "admin_key") == 0o600
    (data.path / ".gitignore").write_text("data.db\n")
    data.create()
    assert (data.path / ".gitignore").read_text() == "data.db\n"
