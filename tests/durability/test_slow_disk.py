"""Does anything leave the process before the disk has it? A sync takes until the test lets it go."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from sync.test_session import Peer

import reactivedb as rdb
from reactivedb.app import Database
from reactivedb.testing import FakeClock

from .application import act, application, http, opened, put, schedule_action, started, texts, turns
from .disk import Disk

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def slow(path: Path, disk: Disk, **more: Any) -> AsyncIterator[rdb.AsyncDatabase]:
    """An open database whose opening is on the disk."""
    async with opened(disk.open(path), **more) as db:
        await db.mutation(put, "first")
        yield db


async def sync_waits(disk: Disk) -> None:
    await anyio.to_thread.run_sync(disk.wait_for_sync)
    await turns()


async def test_neither_the_answer_nor_a_transition_is_sent_before_the_commit_is_on_the_disk(
    tmp_path: Path,
) -> None:
    disk = Disk()
    async with slow(tmp_path / "data.db", disk) as db:
        writer, follower, late = (Peer(db.runtime, session_id=name) for name in ("w", "f", "l"))
        for peer in (writer, follower):
            peer.follow(0)
            await peer.settled()
        late.transport.take()
        with disk.held():
            writer.mutate(0, path="notes:put", text="held")
            await sync_waits(disk)
            # What it reads is in no file yet.
            late.follow(0)
            writer.mutate(1, path="notes:put", text="behind it")
            await turns()
            assert [peer.transport.messages for peer in (writer, follower, late)] == [[], [], []]
        told = await writer.settled()
        kinds = [message["type"] for message in told]
        assert kinds.count("MutationResponse") == 2
        # The answer comes before a transition that covers it.
        assert kinds[0] == "MutationResponse"
        for peer in (follower, late):
            newest = [*peer.transport.take()][-1]["modifications"][0]["value"]
            assert newest == ["first", "held", "behind it"]


async def test_a_commit_behind_the_sync_that_is_going_on_waits_for_the_next_one(tmp_path: Path) -> None:
    disk = Disk()
    async with slow(tmp_path / "data.db", disk) as db:
        peer = Peer(db.runtime)
        with disk.held():
            peer.mutate(0, path="notes:put", text="covered")
            await sync_waits(disk)
            peer.mutate(1, path="notes:put", text="behind")
            disk.hold_next()
        await sync_waits(disk)
        answered = [told["requestId"] for told in peer.transport.messages if "requestId" in told]
        assert answered == [0]
        disk.let_go()
        await db.runtime.wait_until_idle()
        answered = [told["requestId"] for told in peer.transport.messages if "requestId" in told]
        assert answered == [0, 1]


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/api/mutation", {"path": "notes:put", "args": {"text": "x"}}),
        ("/api/action", {"path": "notes:act", "args": {"text": "x"}}),
        ("/api/run/notes/put", {"args": {"text": "x"}}),
        ("/http/put", {}),
        ("/api/query", {"path": "notes:texts", "args": {}}),
    ],
)
async def test_no_http_answer_is_sent_before_what_it_rests_on_is_on_the_disk(
    tmp_path: Path, route: str, body: dict[str, Any]
) -> None:
    disk = Disk()
    answers: list[int] = []
    async with slow(tmp_path / "data.db", disk) as db, http(db) as client:

        async def ask() -> None:
            answers.append((await client.post(route, json=body)).status_code)

        async with anyio.create_task_group() as tasks:
            with disk.held():
                if route == "/api/query":
                    Peer(db.runtime).mutate(0, path="notes:put", text="x")
                tasks.start_soon(ask)
                await sync_waits(disk)
                await turns()
                assert answers == []
        assert answers == [200]


async def test_a_query_of_before_is_answered_while_the_disk_is_slow(tmp_path: Path) -> None:
    disk = Disk()
    async with slow(tmp_path / "data.db", disk) as db, http(db) as client:
        before_ts = (await client.post("/api/query_ts")).json()["ts"]
        with disk.held():
            Peer(db.runtime).mutate(0, path="notes:put", text="x")
            await sync_waits(disk)
            body = {"path": "notes:texts", "args": {}, "ts": before_ts}
            assert (await client.post("/api/query_ts")).json()["ts"] == before_ts
        assert (await client.post("/api/query_at_ts", json=body)).json()["value"] == ["first"]


async def test_tasks_and_live_values_wait_for_the_disk(tmp_path: Path) -> None:
    disk = Disk()
    ended: list[object] = []
    async with slow(tmp_path / "data.db", disk) as db, db.subscribe(texts) as results:
        assert await anext(results) == ["first"]

        async def note(call: Any) -> None:
            ended.append(await call)

        async with anyio.create_task_group() as tasks:
            with disk.held():
                tasks.start_soon(note, db.mutation(put, "a"))
                tasks.start_soon(note, db.action(act, "b"))
                await sync_waits(disk)
                tasks.start_soon(note, db.query(texts))
                tasks.start_soon(note, anext(results))
                await turns()
                assert ended == []
        assert len(ended) == 4


async def test_an_action_begins_as_a_job_once_its_mark_is_on_the_disk(tmp_path: Path) -> None:
    disk, clock = Disk(), FakeClock()
    async with slow(tmp_path / "data.db", disk, clock=clock) as db:
        await db.mutation(schedule_action, "job", 5)
        started.clear()
        with disk.held():
            clock.advance(10)
            await sync_waits(disk)
            await turns()
            assert started == []
        await db.run_until_idle()
        assert started == ["job"]


def test_threads_of_an_embedded_database_wait_for_the_disk(tmp_path: Path) -> None:
    disk = Disk()
    ended: list[object] = []
    with Database(application().runtime(disk.open(tmp_path / "data.db"), clock=FakeClock())) as db:
        db.mutation(put, "first")
        with db.subscribe(texts) as live:
            assert live.value == ["first"]
            calls = (lambda: db.mutation(put, "held"), lambda: db.query(texts), lambda: live.value)
            threads = [threading.Thread(target=lambda call=call: ended.append(call())) for call in calls]
            with disk.held():
                threads[0].start()
                disk.wait_for_sync()
                for thread in threads[1:]:
                    thread.start()
                assert ended == []
                assert db.latest_ts < db.runtime.engine.committer.applied_ts
            for thread in threads:
                thread.join(20)
            assert ["first", "held"] in ended
            assert len(ended) == 3
