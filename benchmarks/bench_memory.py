"""How much memory do 100,000 documents take, and how much an idle socket?

Documents: what a fresh process grows by when they are inserted, beside the size of their text. Sockets:
what the server's process grows by for each connection that follows one query and is silent; beside a bare
WebSocket server's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .measure import Effort, Figure
from .peer import Peer, SyncPeer
from .processes import ServerProcess, allow_sockets, bare_server, reactive_server

DOCUMENTS = 100_000
_BATCH = 1_000
_TEXT = "x" * 100
_MIB = 1024 * 1024

_OURS = f"""
import sys, psutil
from benchmarks.application import ledger
from benchmarks.application.app import app

def resident():
    return psutil.Process().memory_info().rss

with app.open(sys.argv[1]) as database:
    database.mutation(ledger.write_topics, 0, {_BATCH}, "{_TEXT}")
    before = resident()
    for first in range({_BATCH}, {DOCUMENTS + _BATCH}, {_BATCH}):
        database.mutation(ledger.write_topics, first, {_BATCH}, "{_TEXT}")
    grown = resident() - before
    text_bytes = sum(len(write.value) for _, write in database.runtime.engine.storage.log(0, limit=10**9))
    print(grown, text_bytes)
"""


def run(effort: Effort) -> list[Figure]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        return [
            documents("in a file", Path(folder) / "ours.db"),
            documents("in memory", Path(":memory:")),
            sockets(Path(folder), effort.pick(500, 1000)),
        ]


def documents(where: str, path: Path) -> Figure:
    words = [sys.executable, "-c", _OURS, str(path)]
    grown_bytes, text_bytes = subprocess.run(
        words, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    return Figure(
        f"memory of {DOCUMENTS:,} documents, {where}",
        f"{int(grown_bytes) / _MIB:.0f} MiB",
        f"{int(text_bytes) / _MIB:.0f} MiB of text",
        int(grown_bytes) / int(text_bytes),
    )


def sockets(folder: Path, count: int) -> Figure:
    allow_sockets(2 * count + 500)
    with reactive_server(folder / "data") as ours, bare_server() as bare:
        page_id = SyncPeer(ours.url).mutate("ledger:writePage", {"text": "hi"})

        def follower() -> Peer:
            peer = SyncPeer(ours.url)
            peer.subscribe("ledger:readPage", {"pageId": page_id})
            return peer

        our_bytes = bytes_per_socket(ours, follower, count)
        bare_bytes = bytes_per_socket(bare, lambda: Peer(bare.url, "/"), count)
    return Figure(
        "memory of an idle socket with one query",
        f"{our_bytes / 1024:.1f} KiB",
        f"{bare_bytes / 1024:.1f} KiB bare websocket",
        our_bytes / bare_bytes,
    )


def bytes_per_socket(server: ServerProcess, connect: Callable[[], Peer], count: int) -> float:
    # The first ones fill pools that the rest shares.
    peers = [connect() for _ in range(100)]
    before = server.resident_bytes()
    peers += [connect() for _ in range(count)]
    grown = server.resident_bytes() - before
    for peer in peers:
        peer.close()
    return grown / count
