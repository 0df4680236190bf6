"""How long from a mutation to another subscriber who knows, durably?

In-process: from the call to the value in another task's hand. Over loopback: from the sender's frame to the
subscriber's, the server in a process of its own; beside one WebSocket echo plus one commit with sync of the
same rows by bare SQLite.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anyio

from reactivedb.app import Runtime
from reactivedb.functions import ANONYMOUS, RequestKey

from .application import ledger
from .application.app import app
from .bare_sqlite import BareSqlite, recorded
from .bench_commit_rate import TEXT
from .measure import Effort, Figure, at_most, in_turns, median, seconds, spread
from .peer import Peer, SyncPeer, session_id
from .processes import bare_server, reactive_server

_WARM_UP = 50
_DEADLINE_S = 10


def run(effort: Effort) -> list[Figure]:
    count = effort.pick(1000, 8000)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        return [over_loopback(Path(folder), count), asyncio.run(in_process(Path(folder), count))]


def bare_commits(path: Path, count: int) -> Callable[[], float]:
    """Each call writes the rows of the next `add` by a client, durably."""
    session = session_id()

    def fill(runtime: Runtime) -> None:
        runner = runtime.runner
        opened, added = runner.registry.of(ledger.open_account), runner.registry.of(ledger.add)
        account_id = runner.mutation(opened, runner.bind(opened, ("ada",), {}), ANONYMOUS).unwrap()
        for number in range(count):
            key = RequestKey(session, number)
            runner.mutation(added, runner.bind(added, (account_id, TEXT), {}), ANONYMOUS, key=key).unwrap()

    first, *rest = recorded(fill)
    sqlite = BareSqlite(path)
    sqlite.write([first])
    following = iter(rest)
    return lambda: seconds(lambda: sqlite.write([next(following)]))


def over_loopback(folder: Path, count: int) -> Figure:
    with reactive_server(folder / "data") as ours, bare_server() as bare:
        sender, subscriber, echo = SyncPeer(ours.url), SyncPeer(ours.url), Peer(bare.url, "/")
        account_id = sender.mutate("ledger:openAccount", {"name": "ada"})
        subscriber.subscribe("ledger:newest", {"accountId": account_id})
        size = len(json.dumps({"accountId": account_id, "text": TEXT}))

        def round_trip() -> float:
            began = time.perf_counter()
            sender.send_mutation("ledger:add", {"accountId": account_id, "text": TEXT})
            transition = subscriber.receive()
            taken = time.perf_counter() - began
            assert b'"QueryUpdated"' in transition
            sender.response()
            return taken

        def echoed() -> float:
            began = time.perf_counter()
            echo.send(b"x" * size)
            echo.receive()
            return time.perf_counter() - began

        works = {
            "ours": round_trip,
            "echo": echoed,
            "commit": bare_commits(folder / "bare.db", count + _WARM_UP),
        }
        in_turns(_WARM_UP, works)
        taken = in_turns(count, works)
    limits_s = [echo_s + commit_s for echo_s, commit_s in zip(taken["echo"], taken["commit"], strict=True)]
    return Figure(
        "mutation → other subscriber, loopback",
        spread(taken["ours"]),
        f"{spread(limits_s)} echo + commit",
        median(taken["ours"]) / median(limits_s),
        at_most(3),
    )


async def in_process(folder: Path, count: int) -> Figure:
    commit = bare_commits(folder / "bare-in-process.db", count)
    ours: list[float] = []
    bare: list[float] = []
    async with app.open_async(folder / "in-process.db") as database:
        account_id = await database.mutation(ledger.open_account, "ada")
        arrived = asyncio.Event()
        arrived_at_s = 0.0

        async def follow() -> None:
            nonlocal arrived_at_s
            async with database.subscribe(ledger.newest, account_id) as results:
                async for _ in results:
                    arrived_at_s = time.perf_counter()
                    arrived.set()

        following = asyncio.create_task(follow())
        await arrived.wait()
        for _ in range(count):
            arrived.clear()
            began = time.perf_counter()
            # A follower that fails must not keep this one waiting for ever.
            with anyio.fail_after(_DEADLINE_S):
                await asyncio.gather(database.mutation(ledger.add, account_id, TEXT), arrived.wait())
            ours.append(arrived_at_s - began)
            bare.append(commit())
        following.cancel()
    return Figure(
        "mutation → other subscriber, in-process",
        spread(ours),
        f"{spread(bare)} commit",
        median(ours) / median(bare),
    )
