"""What is left of a document that was erased, and where?"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import apsw
import pytest

import reactivedb as rdb
from reactivedb.functions import ANONYMOUS, Kind, RegisteredMutation, RequestKey, RunResult
from reactivedb.storage import compact_file
from reactivedb.storage.page_checksums import ChecksumVFS
from reactivedb.testing import FakeClock

from . import diary
from .diary import MARKER, files_with

OTHER = "what stays in the diary"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.db"


def as_client(
    db: rdb.Database, key: RequestKey, function: RegisteredMutation[..., Any], *args: object
) -> RunResult:
    """Run a mutation as a socket does, which records its answer."""
    runner = db.runtime.runner
    definition = runner.registry.of(function, Kind.MUTATION)
    result = runner.mutation(definition, runner.bind(definition, args, {}), ANONYMOUS, key=key)
    db.runtime.engine.make_durable()
    return result


def test_an_erased_text_is_in_no_file_of_the_database(path: Path) -> None:
    with diary.diary().open(path, durability="relaxed") as db:
        others = [db.mutation(diary.write, day, OTHER + " " * day * 40) for day in range(50)]
        id = db.mutation(diary.write, 5, MARKER)
        for version in range(40):
            # Versions of many sizes lie on pages of many kinds, and move between them.
            db.mutation(diary.rewrite, id, f"{MARKER} {'x' * version * 97} {MARKER}")
            db.mutation(diary.rewrite, others[version], f"{OTHER} {version * 'y' * 50}")
        assert files_with(MARKER, path.parent)
        report = db.erase(id)
        assert files_with(MARKER, path.parent) == []
        assert (report.version_count, report.deleted_ids) == (41, (id,))
        assert len(db.query(diary.texts)) == 50
        assert db.runtime.engine.storage.check() == []
    assert files_with(MARKER, path.parent) == []


def test_the_past_has_only_the_deletion_of_an_erased_document() -> None:
    with diary.diary().open() as db:
        id = db.mutation(diary.write, 1, MARKER)
        then = db.latest_ts
        db.mutation(diary.write, 2, OTHER)
        report = db.erase(id)
        with db.at(then) as past:
            assert past.query(diary.entries) == []
        with db.at(report.tombstone_ts - 1) as past:
            assert past.query(diary.entries) == [f"2 {OTHER}"]
        assert [(version.ts, version.is_deleted) for version in db.history(id)] == [
            (report.tombstone_ts, True)
        ]


def test_a_document_that_was_deleted_before_can_be_erased(path: Path) -> None:
    with diary.diary().open(path) as db:
        id = db.mutation(diary.write, 1, MARKER)
        db.mutation(diary.tear_out, id)
        assert db.history(id)[1].fields is not None
        report = db.erase(id)
        assert (report.version_count, report.deleted_ids) == (1, ())
        assert files_with(MARKER, path.parent) == []
        again = db.erase(id)
        assert again.version_count == 0
        assert db.runtime.engine.storage.check() == []


def test_a_live_query_sees_that_a_document_was_erased() -> None:
    with diary.diary().open() as db, db.subscribe(diary.texts) as live:
        id = db.mutation(diary.write, 1, MARKER)
        assert live.value == [MARKER]
        db.erase(id)
        assert live.value == []


def test_a_recorded_answer_is_erased_and_its_request_still_does_not_run_again(path: Path) -> None:
    key, other = RequestKey("session", 1), RequestKey("session", 2)
    with diary.diary().open(path) as db:
        id = db.mutation(diary.write, 1, "before")
        as_client(db, key, diary.rewrite, id, f"{MARKER} \u00e9")
        as_client(db, other, diary.write, 2, OTHER)
        assert db.erase(id).answer_count == 1
        assert files_with(MARKER, path.parent) == []
        replayed = db.runtime.runner.recorded(key)
        kept = db.runtime.runner.recorded(other)
        assert replayed is not None
        assert kept is not None
        assert kept.error is None
        assert isinstance(replayed.error, rdb.RequestError)
        assert replayed.error.code == "AnswerErased"
        assert replayed.log_lines == []


def test_an_answer_with_the_id_alone_is_erased_too() -> None:
    key = RequestKey("session", 1)
    with diary.diary().open() as db:
        id = as_client(db, key, diary.write, 1, "short").unwrap()
        assert db.erase(id).answer_count == 1


def test_jobs_that_hold_the_text_are_erased_and_pending_ones_never_run(path: Path) -> None:
    clock = FakeClock()
    with diary.diary().open(path, clock=clock) as db:
        id = db.mutation(diary.write, 1, MARKER)
        db.mutation(diary.publish_later, MARKER, 0)
        db.run_until_idle()
        db.mutation(diary.publish_later, MARKER, 3600)
        db.mutation(diary.publish_later, OTHER, 3600)
        report = db.erase(id)
        assert (report.job_count, report.running_job_ids) == (2, ())
        assert db.query(diary.jobs) == 1
        assert files_with(MARKER, path.parent) == []
        assert db.runtime.engine.storage.check() == []


def test_an_erased_file_leaves_neither_its_row_nor_its_bytes(path: Path) -> None:
    with diary.diary().open(path) as db:
        id = db.action(diary.attach, MARKER.encode())
        assert files_with(MARKER, path.parent)
        db.erase(id)
        assert db.action(diary.attached, id) is None
        assert files_with(MARKER, path.parent) == []


def test_a_rule_that_restricts_the_deletion_refuses_the_erasure() -> None:
    with diary.diary().open() as db:
        id = db.mutation(diary.write, 1, MARKER)
        db.mutation(diary.seal, id)
        with pytest.raises(rdb.RequestError) as caught:
            db.erase(id)
        assert caught.value.code == "DeleteRestricted"
        assert db.query(diary.texts) == [MARKER]
        assert len(db.history(id)) == 1


def test_what_a_deletion_takes_along_is_named_and_can_be_erased(path: Path) -> None:
    with diary.diary().open(path) as db:
        writer = db.mutation(diary.enroll, "ada lovelace")
        ids = [db.mutation(diary.write, day, f"{MARKER} {day}", writer) for day in range(3)]
        report = db.erase(writer)
        assert report.deleted_ids[0] == writer
        assert set(report.deleted_ids[1:]) == set(ids)
        assert db.query(diary.texts) == []
        assert files_with(MARKER, path.parent)
        for id in report.deleted_ids[1:]:
            db.erase(rdb.Id[Any](id))
        assert files_with(MARKER, path.parent) == []


def test_no_memory_keeps_an_erased_document() -> None:
    with diary.diary().open() as db:
        id = db.mutation(diary.write, 1, MARKER)
        db.query(diary.texts)
        db.erase(id)
        engine = db.runtime.engine
        assert engine.cache.get(id) is None
        assert all(
            change.id != id for record in engine.committer.history for change in record.write_set.changes
        )


def test_what_is_no_id_is_refused() -> None:
    with diary.diary().open() as db, pytest.raises(rdb.ValidationError) as caught:
        db.erase(rdb.Id[Any]("no id"))
    assert caught.value.code == "InvalidId"


@pytest.mark.slow
def test_a_reader_that_keeps_old_bytes_in_the_wal_is_named(path: Path) -> None:
    with diary.diary().open(path) as db:
        id = db.mutation(diary.write, 1, MARKER)
        reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM documents").fetchall()
        with pytest.raises(rdb.StorageError) as caught:
            db.erase(id)
        assert caught.value.code == "DatabaseBusy"
        reader.close()
        db.erase(id)
        assert files_with(MARKER, path.parent) == []


def test_a_file_with_old_bytes_is_written_anew_when_it_is_opened(path: Path) -> None:
    with diary.diary().open(path) as db:
        id = db.mutation(diary.write, 1, MARKER)
        db.mutation(diary.write, 2, OTHER)
    make_old(path)
    with diary.diary().open(path) as db:
        db.erase(id)
        db.compact()
        assert db.query(diary.texts) == [OTHER]
        assert db.check() == []
    assert files_with(MARKER, path.parent) == []


def test_a_file_that_cannot_shrink_is_written_anew_before_anything_is_erased(path: Path) -> None:
    with diary.diary().open(path) as db:
        id = db.mutation(diary.write, 1, MARKER)
        db.mutation(diary.write, 2, OTHER)
    make_unshrinkable(path)
    with diary.diary().open(path) as db:
        for refused in (lambda: db.erase(id), db.compact):
            with pytest.raises(rdb.StorageError) as caught:
                refused()
            assert caught.value.code == "RewriteNeeded"
            assert "reactivedb compact" in caught.value.message
        assert db.query(diary.texts) == sorted([MARKER, OTHER])
    compact_file(path)
    with diary.diary().open(path) as db:
        db.erase(id)
        assert db.query(diary.texts) == [OTHER]
    assert files_with(MARKER, path.parent) == []


def make_unshrinkable(path: Path) -> None:
    """Its pages have checksums, so that opening leaves it as it is."""
    checked = ChecksumVFS(path)
    connection = apsw.Connection(str(path), vfs=checked.vfs_name)
    connection.pragma("journal_mode", "DELETE")
    connection.pragma("auto_vacuum", "NONE")
    connection.execute("VACUUM")
    connection.close()


def make_old(path: Path) -> None:
    """Lay the file out as earlier versions did."""
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("PRAGMA journal_mode = DELETE")
    shell.execute("PRAGMA auto_vacuum = NONE")
    shell.execute("VACUUM")
    shell.close()


def test_others_go_on_while_an_asynchronous_database_erases(path: Path) -> None:
    asyncio.run(_erase_beside_others(path))


async def _erase_beside_others(path: Path) -> None:
    async with diary.diary().open_async(path, durability="relaxed") as db:
        id = await db.mutation(diary.write, 1, MARKER)
        for day in range(600):
            await db.mutation(diary.write, day, OTHER)
        erasing = asyncio.create_task(db.erase(id))
        turns = 0
        while not erasing.done():
            await db.mutation(diary.write, 0, OTHER)
            turns += 1
        assert (await erasing).version_count == 1
        assert turns >= 3
        assert files_with(MARKER, path.parent) == []
