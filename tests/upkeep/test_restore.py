"""Does a restored database show what the old one showed then, and is nothing replaced unasked?"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.functions import RequestKey
from reactivedb.storage import back_up, open_sqlite

from . import diary
from .diary import diary as app
from .diary import file_size_limit
from .test_erasure import as_client

KILLED = Path(__file__).parent / "killed.py"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backup"


def shown(path: Path) -> list[str]:
    with app().open(path) as db:
        assert db.runtime.engine.storage.check() == []
        return db.query(diary.entries)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_database_restored_to_any_timestamp_is_what_it_was_then(
    path: Path, folder: Path, seed: int
) -> None:
    choice = random.Random(seed)
    with app().open(path, durability="relaxed") as db:
        ids: list[rdb.Id[diary.Entry]] = []
        moments = [db.latest_ts]
        for number in range(40):
            if ids and choice.random() < 0.3:
                db.mutation(diary.tear_out, ids.pop(choice.randrange(len(ids))))
            elif ids and choice.random() < 0.4:
                db.mutation(diary.rewrite, choice.choice(ids), f"version {number}")
            else:
                ids.append(db.mutation(diary.write, choice.randrange(100), f"number {number}"))
            moments.append(db.latest_ts)
            if number in (13, 26):
                db.backup(folder)
        db.backup(folder)
        db.mutation(diary.write, 1, "not in the backup")
        for number, ts in enumerate([*choice.sample(moments, 2), moments[0], moments[-1], moments[20] + 1]):
            place = path.with_name(f"{number}.db")
            assert rdb.restore(folder, place, at=ts).ts == ts
            with db.at(ts) as past:
                assert shown(place) == past.query(diary.entries)


def test_a_restored_database_goes_on_and_keeps_its_past(path: Path, folder: Path) -> None:
    place = path.with_name("restored.db")
    with app().open(path) as db:
        id = db.mutation(diary.write, 1, "one")
        first = db.latest_ts
        db.mutation(diary.rewrite, id, "two")
        db.backup(folder)
        db.mutation(diary.rewrite, id, "three")
    rdb.restore(folder, place)
    with app().open(place) as db:
        with db.at(first) as past:
            assert past.query(diary.entries) == ["1 one"]
        db.mutation(diary.rewrite, id, "another")
        texts = [version.fields["text"] for version in db.history(id) if version.fields]
        assert texts == ["another", "two", "one"]
        db.erase(id)
        db.compact()
        assert not db.backup(folder.with_name("its own")).ts < first
        assert db.runtime.engine.storage.check() == []


def test_a_timestamp_outside_of_the_backup_is_refused(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        db.mutation(diary.write, 1, "one")
        report = db.backup(folder)
    place = path.with_name("restored.db")
    for ts, code in (
        (report.ts + 1, "TimestampOutOfRange"),
        (-1, "TimestampOutOfRange"),
        (1.5, "InvalidTimestamp"),
    ):
        with pytest.raises(rdb.ValidationError) as caught:
            rdb.restore(folder, place, at=ts)  # pyright: ignore[reportArgumentType]
        assert caught.value.code == code
    assert not place.exists()


def test_a_database_that_is_there_is_replaced_only_when_asked(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        db.mutation(diary.write, 1, "one")
        db.backup(folder)
        db.mutation(diary.write, 2, "two")
    with pytest.raises(rdb.StorageError) as caught:
        rdb.restore(folder, path)
    assert caught.value.code == "TargetExists"
    assert shown(path) == ["1 one", "2 two"]
    rdb.restore(folder, path, overwrite=True)
    assert shown(path) == ["1 one"]


def test_a_database_that_is_open_is_not_replaced(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        db.mutation(diary.write, 1, "one")
        db.backup(folder)
        with pytest.raises(rdb.StorageError) as caught:
            rdb.restore(folder, path, overwrite=True)
        assert caught.value.code == "DatabaseInUse"
        db.mutation(diary.write, 2, "two")
    assert shown(path) == ["1 one", "2 two"]


def test_a_damaged_database_with_a_wal_is_put_aside(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        db.mutation(diary.write, 1, "one")
        db.backup(folder)
    storage = open_sqlite(path)
    storage.set_meta("a key", "its value")
    storage.flush()
    wal = Path(f"{path}-wal").read_bytes()
    storage.close()
    path.write_bytes(b"damaged" * 1000)
    Path(f"{path}-wal").write_bytes(wal)
    rdb.restore(folder, path, overwrite=True)
    assert shown(path) == ["1 one"]
    assert Path(f"{path}.before_restore").read_bytes() == b"damaged" * 1000
    assert Path(f"{path}.before_restore-wal").read_bytes() == wal


def test_an_answer_recorded_later_is_not_in_the_past(path: Path, folder: Path) -> None:
    keys = [RequestKey("session", number) for number in (1, 2)]
    moments: list[int] = []
    with app().open(path) as db:
        for key in keys:
            as_client(db, key, diary.write, 1, "text")
            moments.append(db.latest_ts)
        db.backup(folder)
    rdb.restore(folder, path, at=moments[0], overwrite=True)
    with app().open(path) as db:
        assert [db.runtime.runner.recorded(key) is not None for key in keys] == [True, False]


def test_what_is_no_backup_is_refused(path: Path, folder: Path) -> None:
    for make in (lambda: None, folder.mkdir, lambda: open_sqlite(folder / "backup.db").close()):
        make()
        with pytest.raises(rdb.StorageError) as caught:
            rdb.restore(folder, path)
        assert caught.value.code == "BackupMissing"
    assert not path.exists()


def test_a_backup_with_a_damaged_page_is_refused(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        for day in range(50):
            db.mutation(diary.write, day, "x" * 300)
        db.backup(folder)
    saved = bytearray((folder / "backup.db").read_bytes())
    for start in range(4096 * 3, len(saved), 4096):
        saved[start : start + 40] = b"\xff" * 40
    (folder / "backup.db").write_bytes(saved)
    place = path.with_name("restored.db")
    with pytest.raises(rdb.StorageError) as caught:
        rdb.restore(folder, place)
    assert caught.value.code in ("BackupDamaged", "DatabaseCorrupt")
    assert [name for name in os.listdir(path.parent) if name.startswith("restored")] == ["restored.db.lock"]


def test_a_file_that_no_backup_has_is_named(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        db.backup(folder)
        id = db.action(diary.attach, b"short life")
        then = db.latest_ts
        db.mutation(diary.detach, id)
        db.run_until_idle()
        db.backup(folder)
    place = path.with_name("restored.db")
    with pytest.raises(rdb.StorageError) as caught:
        rdb.restore(folder, place, at=then)
    assert caught.value.code == "FileMissing"
    assert not place.exists()
    assert rdb.restore(folder, place, at=then, allow_missing_files=True).missing_file_ids == (id,)


def test_the_keys_that_sign_tokens_come_along(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        keys = path.with_name("data.db.sign_in_keys")
        keys.write_text("secret")
        db.backup(folder)
    place = path.with_name("restored.db")
    rdb.restore(folder, place)
    copied = place.with_name("restored.db.sign_in_keys")
    assert copied.read_text() == "secret"
    assert copied.stat().st_mode & 0o077 == 0


def test_a_full_disk_restores_nothing(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        db.mutation(diary.write, 1, "x" * 50_000)
        db.backup(folder)
    place = path.with_name("restored.db")
    with file_size_limit(30_000), pytest.raises(rdb.StorageError) as caught:
        rdb.restore(folder, place)
    assert caught.value.code == "DiskFull"
    assert [name for name in os.listdir(path.parent) if name.startswith("restored")] == ["restored.db.lock"]


def test_a_migration_that_came_later_runs_again(path: Path, folder: Path) -> None:
    class Entry(rdb.Document, table="entries"):
        day: int
        text: str

        by_day = rdb.Index("day")

    @rdb.migration(Entry)
    def shout(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "text": fields["text"].upper()}

    @rdb.query
    def read(ctx: rdb.QueryCtx) -> list[str]:
        return [entry.text for entry in ctx.db.query(Entry.by_day)]

    with app().open(path) as db:
        db.mutation(diary.write, 1, "one")
        then = db.latest_ts
        db.backup(folder)
    new = app_of(Entry, shout, read)
    with new.open(path) as db:
        db.run_until_idle()
        assert db.query(read) == ["ONE"]
        db.backup(folder)
    rdb.restore(folder, path, at=then, overwrite=True)
    with new.open(path) as db:
        db.run_until_idle()
        assert db.query(read) == ["ONE"]
        assert db.runtime.engine.storage.check() == []


@pytest.mark.slow
@pytest.mark.parametrize("step", ["copy", "undo", "check", "files", "replace"])
@pytest.mark.parametrize("there_is_one", [False, True])
def test_a_restore_killed_at_any_step_leaves_the_place_as_it_was(
    path: Path, folder: Path, step: str, there_is_one: bool
) -> None:
    place = path.with_name("restored.db")
    with app().open(path) as db:
        db.action(diary.attach, b"a file")
        db.mutation(diary.write, 1, "one")
    back_up(path, folder)
    if there_is_one:
        with app().open(place) as db:
            db.mutation(diary.write, 2, "old")
    done = subprocess.run([sys.executable, KILLED, "restore", folder, place, step], timeout=60)
    assert done.returncode == -signal.SIGKILL
    if there_is_one:
        assert shown(place) == ["2 old"]
    else:
        assert not place.exists()
    rdb.restore(folder, place, overwrite=True)
    assert shown(place) == ["1 one"]
    assert not place.with_name("restored.db.restoring").exists()
