"""What can a function see of jobs and files, and do ids keep their tables?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.testing import FakeClock
from reactivedb.values import decode_id

JOBS = "_scheduled_functions"
FILES = rdb.Table("_storage")


class Note(rdb.Document, table="notes"):
    text: str = ""


other = rdb.Table("other")


@rdb.mutation
def add(ctx: rdb.MutationCtx) -> rdb.Id[Note]:
    return ctx.db.insert(Note())


@rdb.mutation
def later(ctx: rdb.MutationCtx, delay_s: float) -> str:
    return ctx.scheduler.run_after(delay_s, add)


@rdb.mutation
def cancel(ctx: rdb.MutationCtx, id: str) -> None:
    ctx.scheduler.cancel(id)


@rdb.query
def jobs(ctx: rdb.QueryCtx) -> list[str]:
    return [job["state"]["kind"] for job in ctx.db.system.query(JOBS)]


@rdb.query
def job(ctx: rdb.QueryCtx, id: str) -> Any:
    return ctx.db.system.get(id)


@rdb.query
def ordered(ctx: rdb.QueryCtx) -> list[list[str]]:
    by_id = ctx.db.system.query(JOBS, index="by_id").collect()
    newest = ctx.db.system.query(JOBS).order("desc").take(10)
    return [[job["_id"] for job in by_id], [job["_id"] for job in newest]]


@rdb.query
def files(ctx: rdb.QueryCtx) -> int:
    return ctx.db.system.query("_storage").count()


def opened(*functions: Any, clock: FakeClock | None = None) -> rdb.Database:
    app = app_of(Note, other, add, later, cancel, jobs, job, ordered, files, *functions)
    return app.open(clock=clock or FakeClock())


def test_a_job_is_read_as_the_document_the_protocol_has() -> None:
    with opened() as db:
        id = db.mutation(later, 10)
        found = db.query(job, id)
        assert found["_id"] == id
        assert found["name"] == "notes.js:add"
        assert found["args"] == [{}]
        assert found["state"] == {"kind": "pending"}
        assert found["scheduledTime"] == found["_creationTime"] + 10_000
        assert "completedTime" not in found


def test_a_query_of_jobs_runs_again_when_one_changes() -> None:
    clock = FakeClock()
    with opened(clock=clock) as db, db.subscribe(jobs) as live:
        assert live.wait_for_change(timeout_s=5) == []
        db.mutation(later, 10)
        assert live.wait_for_change(timeout_s=5) == ["pending"]
        second = db.mutation(later, 20)
        assert live.wait_for_change(timeout_s=5) == ["pending", "pending"]
        db.mutation(cancel, second)
        assert live.wait_for_change(timeout_s=5) == ["pending", "canceled"]
        clock.advance(10)
        assert live.wait_for_change(timeout_s=5) == ["success", "canceled"]


def test_jobs_come_in_the_order_of_creation_or_of_their_ids() -> None:
    with opened() as db:
        ids = [db.mutation(later, 10) for _ in range(5)]
        assert db.query(ordered) == [sorted(ids), ids[::-1]]


def test_the_table_of_files_is_there_and_empty() -> None:
    with opened() as db:
        assert db.query(files) == 0
        assert db.runtime.engine.catalog.table("_storage").number == 513


def refusal(function: rdb.RegisteredMutation[..., Any], *args: Any) -> str:
    with opened(function) as db:
        known = {"job": db.mutation(later, 10), "note": db.mutation(add)}
        with pytest.raises(rdb.ReactiveDBError) as caught:
            db.mutation(function, *[known.get(arg, arg) for arg in args])
    return caught.value.code


@rdb.mutation
def get_plainly(ctx: rdb.MutationCtx, id: str) -> Any:
    return ctx.db.get(id)


@rdb.mutation
def get_note_from_system(ctx: rdb.MutationCtx, id: str) -> Any:
    return ctx.db.system.get(id)


@rdb.mutation
def delete(ctx: rdb.MutationCtx, id: rdb.Id[Any]) -> None:
    ctx.db.delete(id)


@rdb.mutation
def query_plainly(ctx: rdb.MutationCtx) -> int:
    return ctx.db.query(FILES).count()


@rdb.mutation
def query_class(ctx: rdb.MutationCtx) -> int:
    return ctx.db.query(rdb.StoredFile).count()


@rdb.mutation
def insert_table(ctx: rdb.MutationCtx) -> None:
    ctx.db.insert(rdb.Table(JOBS), {"name": "notes.js:add"})


@rdb.mutation
def insert_class(ctx: rdb.MutationCtx) -> None:
    ctx.db.insert(rdb.StoredFile(sha256="", size=0, content_type=None))


@rdb.mutation
def query_user_table_as_system(ctx: rdb.MutationCtx) -> None:
    ctx.db.system.query("notes")  # pyright: ignore[reportArgumentType]


@rdb.mutation
def query_by_another_index(ctx: rdb.MutationCtx) -> None:
    ctx.db.system.query(JOBS, index="by_state")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("function", "args", "code"),
    [
        (get_plainly, ["job"], "SystemTable"),
        (get_note_from_system, ["note"], "NotASystemTable"),
        (get_note_from_system, ["nonsense"], "InvalidId"),
        (delete, ["job"], "SystemTable"),
        (query_plainly, [], "SystemTable"),
        (query_class, [], "SystemTable"),
        (insert_table, [], "SystemTable"),
        (insert_class, [], "SystemTable"),
        (query_user_table_as_system, [], "UnknownTable"),
        (query_by_another_index, [], "UnknownIndex"),
    ],
)
def test_user_tables_and_system_tables_are_reached_by_their_own_door(
    function: rdb.RegisteredMutation[..., Any], args: list[str], code: str
) -> None:
    assert refusal(function, *args) == code


# Ids


@rdb.query
def normalized(ctx: rdb.QueryCtx, text: str) -> list[str | None]:
    db = ctx.db
    return [
        db.normalize_id(Note, text),
        db.normalize_id(other, text),
        db.normalize_id("notes", text),
        db.normalize_id(JOBS, text),
        db.normalize_id("_storage", text),
    ]


def test_h16_an_id_is_normalized_by_its_own_table_only() -> None:
    with opened(normalized) as db:
        note_id, job_id = db.mutation(add), db.mutation(later, 10)
        assert db.query(normalized, note_id) == [note_id, None, note_id, None, None]
        assert db.query(normalized, job_id) == [None, None, None, job_id, None]
        for malformed in ("", "x", note_id[:-1], note_id.upper(), note_id[::-1], note_id + "0", "é" * 32):
            assert db.query(normalized, malformed) == [None] * 5
        for place in range(len(note_id)):
            changed = "0" if note_id[place] != "0" else "1"
            text = note_id[:place] + changed + note_id[place + 1 :]
            assert db.query(normalized, text) == [None] * 5, f"changed at {place}"


@rdb.query
def normalized_by_nobody(ctx: rdb.QueryCtx, text: str) -> str | None:
    return ctx.db.normalize_id("nobody", text)


def test_normalizing_by_a_table_that_is_not_there_is_an_error() -> None:
    with opened(normalized_by_nobody) as db, pytest.raises(rdb.SchemaError) as caught:
        db.query(normalized_by_nobody, db.mutation(add))
    assert caught.value.code == "UnknownTable"


def numbers(path: Path, *names: str) -> dict[str, int]:
    with app_of(*(rdb.Table(name) for name in names)).open(path) as db:
        return {table.name: table.number for table in db.runtime.engine.catalog if not table.is_system}


def test_a_table_keeps_its_number_for_the_life_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    assert numbers(path, "a", "b") == {"a": 10_001, "b": 10_002}
    # Another order of declaration, a table gone, one more: nobody else's number changes or is given again.
    assert numbers(path, "b", "a") == {"a": 10_001, "b": 10_002}
    assert numbers(path, "c", "b") == {"b": 10_002, "c": 10_003}
    assert numbers(path, "b") == {"b": 10_002}
    assert numbers(path, "d", "c", "b", "a") == {"a": 10_001, "b": 10_002, "c": 10_003, "d": 10_004}


def test_documents_of_a_table_that_comes_back_keep_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    with app_of(Note, add).open(path) as db:
        id = db.mutation(add)
    with app_of(other, name="others").open(path) as db:
        assert db.runtime.engine.catalog.by_number(decode_id(id)[0]) is None
    with app_of(other, Note, add, get_plainly).open(path) as db:
        assert db.mutation(get_plainly, id).id == id
