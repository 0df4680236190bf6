"""How long are history and recorded answers kept, to the moment? With a clock that the test moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sync.test_session import Peer

import reactivedb as rdb
from reactivedb.app import Database
from reactivedb.storage import open_sqlite
from reactivedb.testing import FakeClock

from .application import application, opened, put, texts

RETENTION_S = 16 * 3600


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.slow
def test_history_is_kept_for_all_of_its_time_and_given_up_a_sixteenth_later(tmp_path: Path) -> None:
    clock = FakeClock()
    app = application(rdb.Limits(log_retention_s=RETENTION_S))
    runtime = app.runtime(open_sqlite(tmp_path / "data.db"), clock=clock)
    with Database(runtime) as db:
        db.mutation(put, "first")
        first_ts = db.latest_ts
        oldest = db.retention_report().oldest_ts
        passed_s = 0
        # A commit each tenth of a sixteenth, so that every look at the log is taken.
        while passed_s + 360 < RETENTION_S:
            clock.advance(360)
            passed_s += 360
            db.mutation(put, "next")
            assert db.retention_report().oldest_ts == oldest, f"given up after {passed_s} s"
            assert db.at(first_ts).query(texts) == ["first"]
        clock.advance(RETENTION_S // 16 + 720)
        db.mutation(put, "last")
        assert db.retention_report().oldest_ts >= first_ts


@pytest.mark.anyio
@pytest.mark.slow
@pytest.mark.parametrize("reopens", [False, True])
async def test_a_recorded_answer_is_given_until_its_time_is_over(tmp_path: Path, reopens: bool) -> None:
    clock, path = FakeClock(), tmp_path / "data.db"
    kept_s = rdb.Limits().outcome_retention_s

    async def answers_again(db: rdb.AsyncDatabase, count: float) -> None:
        peer = Peer(db.runtime, session_id="s")
        peer.mutate(0, path="notes:put", text="once")
        told: list[dict[str, Any]] = [each for each in await peer.settled() if "requestId" in each]
        assert [(each["success"], each["result"]) for each in told] == [(True, count)]
        peer.session.closed()

    async with opened(open_sqlite(path), clock=clock) as db:
        await answers_again(db, 1.0)
        if not reopens:
            # Looked through beside commits, once an hour.
            for _ in range(4):
                clock.advance((kept_s - 60) / 4)
                await db.mutation(put, "another")
            await answers_again(db, 1.0)
            return
    clock.advance(kept_s - 60)
    async with opened(open_sqlite(path), clock=clock) as db:
        await answers_again(db, 1.0)
