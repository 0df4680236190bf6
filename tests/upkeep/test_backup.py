"""Is a backup true at one moment, small when little has changed, and never half?"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import reactivedb as rdb
from reactivedb.storage import back_up
from reactivedb.testing import FakeClock

from . import diary
from .diary import MARKER, file_size_limit, files_with
from .diary import diary as app

KILLED = Path(__file__).parent / "killed.py"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backup"


def restored(folder: Path, *, at: int | None = None) -> list[str]:
    """What a query of the restored database gives; it is checked too."""
    place = folder.parent / f"restored {random.random()}.db"
    rdb.restore(folder, place, at=at)
    with app().open(place) as db:
        assert db.runtime.engine.storage.check() == []
        return db.query(diary.entries)


def test_a_backup_of_an_open_database_is_its_state_at_one_timestamp(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        for day in range(20):
            db.mutation(diary.write, day, f"day {day}")
        report = db.backup(folder)
        assert (report.ts, report.is_whole, report.document_count) == (db.latest_ts, True, 20)
        kept = db.query(diary.entries)
        db.mutation(diary.write, 21, "after the backup")
    assert restored(folder) == kept


def test_a_second_backup_copies_only_what_has_changed(path: Path, folder: Path) -> None:
    with app().open(path, durability="relaxed") as db:
        ids = [db.mutation(diary.write, day, f"day {day} {'x' * 2000}") for day in range(60)]
        db.backup(folder)
        size = (folder / "backup.db").stat().st_size
        inode = (folder / "backup.db").stat().st_ino
        db.mutation(diary.rewrite, ids[3], "changed")
        db.mutation(diary.tear_out, ids[4])
        db.mutation(diary.write, 99, "new")
        report = db.backup(folder)
        assert (report.is_whole, report.write_count, report.document_count) == (False, 3, 60)
        assert (folder / "backup.db").stat().st_ino == inode
        assert (folder / "backup.db").stat().st_size < size + 20_000
        assert restored(folder) == db.query(diary.entries)
        assert db.backup(folder).write_count == 0


@pytest.mark.parametrize("change", ["index", "table"])
def test_a_backup_follows_what_changes_in_the_schema(path: Path, folder: Path, change: str) -> None:
    class Entry(rdb.Document, table="entries"):
        day: int
        text: str

        by_day = rdb.Index("text") if change == "index" else rdb.Index("day")

    class Extra(rdb.Document, table="extras"):
        name: str

    @rdb.mutation
    def add(ctx: rdb.MutationCtx) -> None:
        ctx.db.insert(Entry(day=7, text="seven"))
        ctx.db.insert(Extra(name="extra"))

    @rdb.query
    def all_texts(ctx: rdb.QueryCtx) -> list[str]:
        extras = [extra.name for extra in ctx.db.query(Extra)]
        return [entry.text for entry in ctx.db.query(Entry.by_day)] + extras

    from inline_app import app_of

    with app().open(path) as db:
        for day in range(5):
            db.mutation(diary.write, day, f"day {9 - day}")
        db.backup(folder)
    with app_of(Entry, Extra, add, all_texts).open(path) as db:
        db.mutation(add)
        kept = db.query(all_texts)
        assert not db.backup(folder).is_whole
    rdb.restore(folder, folder.parent / "restored.db")
    with app_of(Entry, Extra, add, all_texts).open(folder.parent / "restored.db") as db:
        assert db.query(all_texts) == kept
        assert db.runtime.engine.storage.check() == []


def test_a_backup_has_the_files_and_is_for_its_owner_alone(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        first = db.action(diary.attach, b"first")
        assert db.backup(folder).file_count == 1
        second = db.action(diary.attach, b"second")
        db.mutation(diary.detach, first)
        then = db.latest_ts
        assert db.backup(folder).file_count == 1
    for place in [folder, folder / "backup.db", folder / "files", *(folder / "files").iterdir()]:
        assert place.stat().st_mode & 0o077 == 0, place
    assert {file.name for file in (folder / "files").iterdir()} == {first, second}
    rdb.restore(folder, path.parent / "again.db", at=then)
    with app().open(path.parent / "again.db") as db:
        assert db.action(diary.attached, second) == b"second"
        assert db.action(diary.attached, first) is None


def test_a_file_that_is_damaged_is_not_backed_up(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        id = db.action(diary.attach, b"as it was")
        (path.parent / "data.db.files" / id).write_bytes(b"as it is.")
        with pytest.raises(rdb.StorageError) as caught:
            db.backup(folder)
        assert caught.value.code == "FileDamaged"
        assert not (folder / "backup.db").exists()


def test_a_file_that_is_missing_is_named(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        id = db.action(diary.attach, b"gone")
        (path.parent / "data.db.files" / id).unlink()
        with pytest.raises(rdb.StorageError) as caught:
            db.backup(folder)
        assert caught.value.code == "FileMissing"


def test_an_erased_document_leaves_the_backup_with_the_next_one(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        id = db.mutation(diary.write, 1, MARKER)
        file = db.action(diary.attach, MARKER.encode())
        db.mutation(diary.write, 2, "stays")
        db.backup(folder)
        assert len(files_with(MARKER, folder)) == 2
        report = db.erase(id)
        assert id in report.backups
        db.erase(file)
        db.backup(folder)
        assert files_with(MARKER, folder, path.parent) == []
    assert restored(folder) == ["2 stays"]


def test_a_log_that_has_forgotten_too_much_is_copied_whole(path: Path, folder: Path) -> None:
    clock = FakeClock()
    bounds = {"log_retention_s": 3600.0}
    with app(**bounds).open(path, clock=clock) as db:
        id = db.mutation(diary.write, 1, "first")
        first = db.backup(folder)
        for version in range(5):
            clock.advance(7200)
            db.mutation(diary.rewrite, id, f"version {version}")
        again = db.backup(folder)
        assert again.is_whole
        assert again.oldest_ts > first.ts
    assert restored(folder) == ["1 version 4"]


def test_a_backup_keeps_a_past_that_the_database_has_forgotten(path: Path, folder: Path) -> None:
    clock = FakeClock()
    with app(log_retention_s=3600.0).open(path, clock=clock) as db:
        id = db.mutation(diary.write, 1, "first")
        then = db.latest_ts
        for version in range(5):
            db.backup(folder)
            clock.advance(1800)
            db.mutation(diary.rewrite, id, f"version {version}")
        assert not db.backup(folder).is_whole
        assert db.retention_report().oldest_ts > then
    assert restored(folder, at=then) == ["1 first"]


def test_a_backup_of_another_database_is_refused(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        db.mutation(diary.write, 1, "one")
        db.backup(folder)
    with app().open(path.with_name("other.db")) as db:
        db.mutation(diary.write, 1, "other")
        with pytest.raises(rdb.StorageError) as caught:
            db.backup(folder)
        assert caught.value.code == "OtherBackup"
    assert restored(folder) == ["1 one"]


@pytest.mark.slow
def test_a_database_that_was_restored_to_the_past_needs_another_folder(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        db.mutation(diary.write, 1, "one")
        then = db.latest_ts
        db.mutation(diary.write, 2, "two")
        db.backup(folder)
    rdb.restore(folder, path, at=then, overwrite=True)
    with app().open(path) as db:
        db.mutation(diary.write, 3, "instead")
        with pytest.raises(rdb.StorageError) as caught:
            db.backup(folder)
        assert caught.value.code == "OtherBackup"
        db.backup(folder.with_name("another"))
    assert restored(folder) == ["1 one", "2 two"]
    assert restored(folder.with_name("another")) == ["1 one", "3 instead"]


def test_a_backup_that_was_changed_by_others_is_noticed(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        db.mutation(diary.write, 1, "one")
        db.backup(folder)
        with sqlite3.connect(folder / "backup.db") as shell:
            shell.execute("UPDATE documents SET value = replace(value, 'one', 'two')")
        shell.close()
        with pytest.raises(rdb.StorageError) as caught:
            db.backup(folder)
        assert caught.value.code in ("BackupDamaged", "DatabaseCorrupt")
        with pytest.raises(rdb.StorageError) as refused:
            rdb.restore(folder, path.with_name("restored.db"))
        assert refused.value.code in ("BackupDamaged", "DatabaseCorrupt")
        assert not path.with_name("restored.db").exists()


def test_a_backup_is_no_database_and_a_database_in_memory_has_none(path: Path, folder: Path) -> None:
    with app().open(path) as db:
        db.backup(folder)
    with pytest.raises(rdb.StorageError) as caught:
        app().open(folder / "backup.db")
    assert caught.value.code == "ForeignDatabase"
    with app().open() as db, pytest.raises(rdb.StorageError) as refused:
        db.backup(folder)
    assert refused.value.code == "NoFile"


@pytest.mark.slow
@pytest.mark.parametrize("room", [10_000, 100_000])
def test_a_full_disk_leaves_the_last_backup_as_it_was(path: Path, folder: Path, room: int) -> None:
    with app().open(path, durability="relaxed") as db:
        with file_size_limit(2_000), pytest.raises(rdb.StorageError) as first:
            db.backup(folder)
        assert first.value.code == "DiskFull"
        assert os.listdir(folder) == ["backup.db.lock"]
        db.mutation(diary.write, 1, "x" * 1000)
        db.backup(folder)
        kept = restored(folder)
        for day in range(20):
            db.mutation(diary.write, day, "y" * 20_000)
        with (
            file_size_limit((folder / "backup.db").stat().st_size + room),
            pytest.raises(rdb.StorageError) as caught,
        ):
            db.backup(folder)
        assert caught.value.code == "DiskFull"
        assert restored(folder) == kept
        db.backup(folder)
        assert restored(folder) == db.query(diary.entries)


STEPS = pytest.mark.parametrize("step", ["files", "copy", "check", "commit", "rename"])


@pytest.mark.slow
@STEPS
@pytest.mark.parametrize("there_is_one", [False, True])
def test_a_backup_killed_at_any_step_leaves_the_old_one_or_none(
    path: Path, folder: Path, step: str, there_is_one: bool
) -> None:
    with app().open(path) as db:
        db.action(diary.attach, b"a file")
        db.mutation(diary.write, 1, "one")
        if there_is_one:
            db.backup(folder)
        db.mutation(diary.write, 2, "two")
    done = subprocess.run([sys.executable, KILLED, "backup", path, folder, step], timeout=60)
    # Nothing is renamed when what is there is brought up to date.
    assert done.returncode == (0 if there_is_one and step == "rename" else -signal.SIGKILL)
    if there_is_one:
        assert restored(folder) == (["1 one", "2 two"] if step == "rename" else ["1 one"])
    else:
        with pytest.raises(rdb.StorageError) as caught:
            restored(folder)
        assert caught.value.code in ("BackupMissing", "BackupUnfinished")
    back_up(path, folder)
    assert restored(folder) == ["1 one", "2 two"]
    assert set(os.listdir(folder)) == {"backup.db", "backup.db.lock", "files"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_backups_by_another_process_killed_at_random_are_always_a_state_of_the_database(
    path: Path, folder: Path, seed: int
) -> None:
    """The state after each commit is known: entry `n` is there from the nth commit on, its neighbour gone."""
    with app().open(path) as db:
        states = {db.latest_ts: db.query(diary.entries)}
        process = subprocess.Popen(
            [sys.executable, KILLED, "backup again and again", path, folder, str(seed)]
        )
        choice = random.Random(seed)
        ids: list[rdb.Id[diary.Entry]] = []
        while process.poll() is None or len(states) < 50:
            if ids and choice.random() < 0.3:
                db.mutation(diary.tear_out, ids.pop(choice.randrange(len(ids))))
            elif ids and choice.random() < 0.5:
                db.mutation(diary.rewrite, choice.choice(ids), f"again {len(states)} {'z' * 500}")
            else:
                ids.append(db.mutation(diary.write, len(states), "w" * choice.randrange(3000)))
            states[db.latest_ts] = sorted(db.query(diary.texts))
        assert process.returncode == -signal.SIGKILL
        report = back_up(path, folder)
        assert report.ts == db.latest_ts
    for ts in choice.sample(sorted(states), 6):
        if ts >= report.oldest_ts:
            place = path.with_name(f"{ts}.db")
            rdb.restore(folder, place, at=ts)
            with app().open(place) as again:
                assert again.query(diary.texts) == states[ts], ts
                assert again.runtime.engine.storage.check() == []


@pytest.mark.slow
def test_backups_beside_a_writer_and_a_compaction_are_each_a_state_of_the_database(
    path: Path, folder: Path
) -> None:
    states: dict[int, list[str]] = {}
    stop = threading.Event()
    with app(log_retention_size_bytes_max=20_000).open(path, durability="relaxed") as db:

        def write() -> None:
            number = 0
            ids: list[rdb.Id[diary.Entry]] = []
            while not stop.is_set():
                ids.append(db.mutation(diary.write, number, f"{number} {'w' * 400}"))
                states[db.latest_ts] = db.query(diary.texts)
                number += 1
                if len(ids) > 20:
                    db.mutation(diary.tear_out, ids.pop(0))
                    states[db.latest_ts] = db.query(diary.texts)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(8):
                report = db.backup(folder)
                db.compact()
                place = path.with_name(f"{number}.db")
                rdb.restore(folder, place)
                with app().open(place) as again:
                    if report.document_count:
                        assert again.query(diary.texts) == states[report.ts]
                    assert again.runtime.engine.storage.check() == []
        finally:
            stop.set()
            writer.join()
        assert db.runtime.engine.storage.check() == []
