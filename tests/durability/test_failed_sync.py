"""What is told of calls whose sync failed, and is what they wrote there once after the restart?

Whether a write is in the file after a failed sync is not known. So no caller is told that it failed: sockets
are closed without an answer, and their clients send the call again to the restarted server.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import anyio
import apsw
import pytest
from storage.fault_vfs import FaultVFS
from sync.test_session import Peer

import reactivedb as rdb
from reactivedb.app import Database
from reactivedb.errors import StorageError
from reactivedb.storage import Storage, open_sqlite
from reactivedb.testing import FakeClock

from .application import (
    act,
    application,
    http,
    opened,
    put,
    schedule,
    schedule_action,
    texts,
    turns,
    upload_url,
)
from .disk import Disk

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.db"


def responses(peer: Peer) -> list[dict[str, Any]]:
    return [message for message in peer.transport.messages if message["type"].endswith("Response")]


def stored(path: Path) -> list[str]:
    with application().open(path, clock=FakeClock()) as db:
        return db.query(texts)


async def closed(peer: Peer) -> tuple[int, str]:
    with anyio.fail_after(20):
        while peer.transport.closed_with is None:
            await turns(10)
    return peer.transport.closed_with


@pytest.mark.parametrize("slow", [False, True])
async def test_a_mutation_whose_sync_failed_is_not_answered_and_its_replay_gets_the_outcome(
    path: Path, slow: bool
) -> None:
    disk = Disk()
    async with opened(disk.open(path, slow=slow)) as db:
        peer = Peer(db.runtime, session_id="s")
        await db.mutation(put, "before")
        disk.failing = True
        peer.mutate(0, path="notes:put", text="a")
        peer.mutate(1, path="notes:put", text="b")
        assert await closed(peer) == (1013, "OutcomeUnknown")
        assert responses(peer) == []
        # It comes back before the server has ended.
        again = Peer(db.runtime, session_id="s")
        again.mutate(0, path="notes:put", text="a")
        assert await closed(again) == (1013, "OutcomeUnknown")
        assert responses(again) == []
    async with opened(open_sqlite(path)) as db:
        # The write is there, before it is sent again.
        assert await db.query(texts) == ["before", "a", "b"]
        peer = Peer(db.runtime, session_id="s")
        peer.mutate(0, path="notes:put", text="a")
        peer.mutate(1, path="notes:put", text="b")
        await peer.runtime.wait_until_idle()
        assert [(told["success"], told["result"]) for told in responses(peer)] == [(True, 2.0), (True, 3.0)]
        assert await db.query(texts) == ["before", "a", "b"]


async def test_an_action_whose_sync_failed_is_not_answered(path: Path) -> None:
    disk = Disk()
    async with opened(disk.open(path)) as db:
        peer = Peer(db.runtime)
        await db.mutation(put, "before")
        disk.failing = True
        peer.tell(type="Action", requestId=0, udfPath="notes:act", args=[{"text": "a"}])
        assert await closed(peer) == (1013, "OutcomeUnknown")
        assert responses(peer) == []
    assert stored(path) == ["before", "a"]


@pytest.mark.parametrize("kind", ["mutation", "action", "run"])
async def test_over_http_the_outcome_is_unknown_and_later_calls_are_refused_before_they_run(
    path: Path, kind: str
) -> None:
    name = "act" if kind == "action" else "put"

    async def ask(text: str) -> Any:
        body = {"path": f"notes:{name}", "args": {"text": text}}
        return await client.post("/api/run/notes/put" if kind == "run" else f"/api/{kind}", json=body)

    disk = Disk()
    async with opened(disk.open(path)) as db, http(db) as client:
        await db.mutation(put, "before")
        disk.failing = True
        lost = await ask("a")
        assert (lost.status_code, lost.json()["code"]) == (500, "OutcomeUnknown")
        assert "retry-after" not in lost.headers
        assert str(path) not in lost.text
        refused = await ask("b")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        read = await client.post("/api/query", json={"path": "notes:texts", "args": {}})
        assert (read.status_code, read.headers["retry-after"]) == (503, "1")
    assert stored(path) == ["before", "a"]


async def test_a_query_that_saw_what_the_disk_then_lost_may_be_asked_again(path: Path) -> None:
    disk = Disk()
    async with opened(disk.open(path)) as db, http(db) as client, anyio.create_task_group() as tasks:
        answers: list[Any] = []
        await db.mutation(put, "before")

        async def ask() -> None:
            answers.append(await client.post("/api/query", json={"path": "notes:texts", "args": {}}))

        with disk.held():
            Peer(db.runtime).mutate(0, path="notes:put", text="a")
            tasks.start_soon(ask)
            await anyio.to_thread.run_sync(disk.wait_for_sync)
            await turns()
            disk.failing = True
        with anyio.fail_after(20):
            while not answers:
                await turns()
        assert (answers[0].status_code, answers[0].headers["retry-after"]) == (503, "1")


async def test_an_http_action_and_an_upload_say_that_the_outcome_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVEX_CLOUD_URL", "http://here")
    for number, route in enumerate(("/http/put", "/api/storage/upload")):
        disk = Disk()
        async with opened(disk.open(tmp_path / f"{number}.db")) as db, http(db) as client:
            if number:
                made = await db.mutation(upload_url)
                route = made[made.index("/api/") :]
            disk.failing = True
            lost = await client.post(route, content=b"a")
            assert (lost.status_code, lost.json()["code"]) == (500, "OutcomeUnknown"), lost.text
            assert "retry-after" not in lost.headers


async def test_a_job_whose_sync_failed_is_done_or_due_exactly_as_the_file_says(path: Path) -> None:
    disk, clock = Disk(), FakeClock()
    async with opened(disk.open(path), clock=clock) as db:
        await db.mutation(schedule, "job", 5)
        await db.mutation(schedule_action, "action", 5)
        disk.failing = True
        clock.advance(10)
        with anyio.fail_after(20):
            while db.runtime.delivery.broken is None:
                await turns()
    async with opened(open_sqlite(path), clock=clock) as db:
        await db.run_until_idle()
        # The job's row and its write are one commit; the action never began, and is found as it was.
        assert (await db.query(texts)).count("job") == 1
        assert (await db.query(texts)).count("action") <= 1


def test_embedded_callers_are_told_that_the_write_may_be_there(path: Path) -> None:
    disk = Disk()
    storage = disk.open(path, slow=False)
    told: list[StorageError] = []
    db = Database(application().runtime(storage, clock=FakeClock()))
    db.mutation(put, "before")
    disk.failing = True
    for text in ("a", "b"):
        with pytest.raises(StorageError) as caught:
            db.mutation(put, text)
        told.append(caught.value)
    with pytest.raises(StorageError):
        db.action(act, "c")
    with pytest.raises(StorageError):
        db.close()
    assert told[0].code == "SyncFailed"
    assert "what was not acknowledged may be there" in str(told[0])
    # The second did not run.
    assert told[1].code == "StorageClosed"
    assert stored(path) == ["before", "a"]


async def test_a_sync_inside_of_a_checkpoint_that_fails_leaves_nobody_waiting(path: Path) -> None:
    vfs = FaultVFS(f"fault {uuid.uuid4()}")
    storage: Storage = open_sqlite(path, vfs=vfs.vfs_name, checkpoint_pages=1)
    async with opened(storage) as db:
        await db.mutation(put, "before")
        with vfs.failing("sync", "data.db", apsw.SQLITE_IOERR_FSYNC):
            peer = Peer(db.runtime, session_id="s")
            peer.mutate(0, path="notes:put", text="a")
            assert await closed(peer) == (1013, "OutcomeUnknown")
        assert db.runtime.delivery.broken is not None
    async with opened(open_sqlite(path)) as db:
        peer = Peer(db.runtime, session_id="s")
        peer.mutate(0, path="notes:put", text="a")
        await peer.runtime.wait_until_idle()
        assert [told["success"] for told in responses(peer)] == [True]
        assert await db.query(texts) == ["before", "a"]


async def test_everybody_whose_commits_shared_the_failed_sync_is_told_the_same(path: Path) -> None:
    disk = Disk()
    codes: list[str] = []

    async def write(db: rdb.AsyncDatabase, text: str) -> None:
        with pytest.raises(StorageError) as caught:
            await db.mutation(put, text)
        codes.append(caught.value.code)

    async with opened(disk.open(path)) as db:
        await db.mutation(put, "before")
        disk.failing = True
        async with anyio.create_task_group() as tasks:
            for text in "abc":
                tasks.start_soon(write, db, text)
    assert codes == ["SyncFailed"] * 3
    assert stored(path) == ["before", "a", "b", "c"]
