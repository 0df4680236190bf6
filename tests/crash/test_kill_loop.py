"""What is left of acknowledged mutations when the server is killed, again and again?"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from itertools import pairwise
from pathlib import Path

import pytest

from reactivedb.storage import open_sqlite

from .server import LedgerServer
from .writer import Writer

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("KILLS", "30"))
# Between a moment after the first connection and a few hundred commits later.
ALIVE_S = (0.02, 0.6)
STREAM_DEADLINE_S = 15.0


def test_kill_9_loses_no_acknowledged_mutation_and_doubles_none(tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    print(f"SEED={seed}")
    server = LedgerServer(tmp_path / "data")
    server.start()
    writer = Writer(server.url)
    writer.start()
    streams_begun = kill_and_restart(server, writer, random.Random(seed))
    try:
        writer.join()
        names, total = all_names(server), server.call("query", "entries:total")
        statuses = wait_for_silence(server)
    finally:
        server.end(signal.SIGTERM)

    assert writer.failures == []
    assert len(writer.acknowledged) > KILLS
    assert writer.replays > 0
    # None is there twice, also not those that were sent twice; the counter agrees with the rows.
    assert len(names) == len(set(names)) == total
    number_of = {name: number for number, name in enumerate(names, start=1)}
    assert writer.acknowledged.items() <= number_of.items()
    # What is there without an acknowledgement was in flight at the last kill.
    assert number_of.keys() - writer.acknowledged.keys() <= set(writer.pending.values())
    # Over all restarts; a replay is answered with the timestamp of the run that counted.
    assert all(earlier < later for earlier, later in pairwise(writer.seen_ts))
    assert set(statuses) == {"failed"}
    assert len(statuses) == streams_begun
    check_file(tmp_path / "data" / "data.db")
    print(f"{KILLS} kills, {total} commits, {writer.replays} sent again, {streams_begun} streams failed")


def all_names(server: LedgerServer) -> list[str]:
    """The names of all rows in the order of their numbers, a page at a time."""
    names: list[str] = []
    while page := server.call("query", "entries:namesAfter", number=len(names)):
        names += page
    return names


def kill_and_restart(server: LedgerServer, writer: Writer, chance: random.Random) -> int:
    """Kill the server at random moments; gives the number of streams that were begun."""
    begun = 0
    for kill in range(1, KILLS + 1):
        if kill == 1 or chance.random() < 0.3:
            server.call("mutation", "streams:start")
            begun += 1
        # The one sleep that is meant: how long the server lives is what is random.
        time.sleep(chance.uniform(*ALIVE_S))
        if kill == KILLS:
            writer.give_up_at_next_loss()
        server.end(signal.SIGKILL)
        server.start()
    return begun


def wait_for_silence(server: LedgerServer) -> list[str]:
    """The streams' states once none is streaming; the processes that typed them are dead."""
    deadline_s = time.monotonic() + STREAM_DEADLINE_S
    while "streaming" in (statuses := server.call("query", "streams:statuses")):
        assert time.monotonic() < deadline_s, "a stream outlived its process"
        time.sleep(0.05)
    return statuses


def check_file(path: Path) -> None:
    storage = open_sqlite(path)
    try:
        assert storage.check() == []
        timestamps = [ts for ts, _ in storage.log(0, limit=10**9)]
        assert timestamps == sorted(timestamps)
    finally:
        storage.close()
    with sqlite3.connect(path) as shell:
        assert shell.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    shell.close()
