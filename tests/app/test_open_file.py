"""What does a program or a server say when the file of its open database is not the database any more?"""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.app.runtime import Runtime
from reactivedb.clock import SystemClock
from reactivedb.storage import open_sqlite


class Line(rdb.Document, table="lines"):
    text: str


@rdb.mutation
def put(ctx: rdb.MutationCtx, text: str) -> None:
    ctx.db.insert(Line(text=text))


@rdb.query
def count(ctx: rdb.QueryCtx) -> int:
    return ctx.db.query(Line).count()


def test_after_the_file_was_moved_a_program_is_told_nothing_but_that(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    app = app_of(put, count, Line)
    db = app.open(path)
    db.mutation(put, "a")
    assert db.query(count) == 1
    path.rename(tmp_path / "moved.db")
    for call in (lambda: db.mutation(put, "b"), lambda: db.query(count), lambda: db.mutation(put, "c")):
        with pytest.raises(rdb.StorageError) as raised:
            call()
        assert raised.value.code in ("FileMoved", "StorageClosed")
        assert "moved" in raised.value.message or "`-wal`" in raised.value.message
    with pytest.raises(rdb.StorageError):
        db.close()
    with app.open(tmp_path / "moved.db") as again:
        assert again.query(count) in (1, 2)


def test_a_server_whose_file_was_changed_ends_itself(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    ended: list[rdb.StorageError] = []

    def runtime() -> Runtime:
        opened = Runtime(app_of(put, count, Line), open_sqlite(path), clock=SystemClock())
        opened.delivery.on_broken = ended.append
        return opened

    async def serve() -> None:
        async with rdb.AsyncDatabase(runtime) as db:
            await db.mutation(put, "a")
            os.utime(path, ns=(0, 0))
            with pytest.raises(rdb.StorageError) as raised:
                await db.mutation(put, "b")
            assert raised.value.code == "FileChanged"
            with pytest.raises(rdb.StorageError) as raised:
                await db.query(count)
            assert raised.value.code == "FileChanged"

    with pytest.raises((rdb.StorageError, ExceptionGroup)):
        anyio.run(serve)
    assert [error.code for error in ended] == ["FileChanged"]
