"""How long until one result of 16 KB has reached 1,000 sockets?

One mutation changes one document; 1,000 clients follow it. Beside a bare broadcast of as many bytes to as
many sockets by `websockets`. The same receiver, in this process, stands at the other end of both.
"""

from __future__ import annotations

import selectors
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .measure import Effort, Figure, at_most, in_turns, median, ms, spread
from .peer import Peer, SyncPeer, parse
from .processes import allow_sockets, bare_server, reactive_server

SOCKETS = 1000
RESULT_BYTES = 16 * 1024
_READ_BYTES = 64 * 1024


class Receivers:
    """Waits until each of many peers has received one more message."""

    def __init__(self, peers: Sequence[Peer]) -> None:
        self._peers = peers
        self._selector = selectors.EpollSelector()
        self._buffers: dict[Peer, bytearray] = {}
        for peer in peers:
            peer.socket.setblocking(False)
            self._selector.register(peer.socket, selectors.EVENT_READ, peer)
            self._buffers[peer] = bytearray()

    def wait(self) -> None:
        waiting = set(self._buffers)
        while waiting:
            for key, _ in self._selector.select():
                peer: Peer = key.data
                buffer = self._buffers[peer]
                buffer += peer.socket.recv(_READ_BYTES)
                while (found := parse(buffer)) is not None:
                    first, _, end = found
                    del buffer[:end]
                    if first & 0x0F <= 0x2:  # A ping of the server is no message.
                        waiting.discard(peer)

    def close(self) -> None:
        self._selector.close()
        for peer in self._peers:
            peer.close()


def run(effort: Effort) -> list[Figure]:
    rounds = effort.pick(15, 60)
    allow_sockets(2 * SOCKETS + 500)
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        reactive_server(Path(folder)) as ours,
        bare_server() as bare,
    ):
        return [compare(ours.url, bare.url, rounds)]


def compare(our_url: str, bare_url: str, rounds: int) -> Figure:
    sender, trigger = SyncPeer(our_url), Peer(bare_url, "/")
    page_id = sender.mutate("ledger:writePage", {"text": ""})
    followers: list[SyncPeer] = []
    for _ in range(SOCKETS):
        follower = SyncPeer(our_url)
        follower.subscribe("ledger:readPage", {"pageId": page_id})
        followers.append(follower)
    listeners = [Peer(bare_url, "/") for _ in range(SOCKETS)]
    ours, bare = Receivers(followers), Receivers(listeners)
    letters = iter(range(10**6))

    def publish() -> None:
        text = f"{next(letters):016}" * (RESULT_BYTES // 16)
        sender.send_mutation("ledger:writePage", {"text": text, "pageId": page_id})

    def broadcast() -> None:
        trigger.send(b"broadcast %d" % RESULT_BYTES)

    works = {
        "ours": lambda: until_received(publish, ours, sender.response),
        "bare": lambda: until_received(broadcast, bare, trigger.receive),
    }
    in_turns(2, works)
    taken = in_turns(rounds, works)
    ours.close()
    bare.close()
    return Figure(
        f"16 KB result → {SOCKETS:,} sockets",
        spread(taken["ours"], ms),
        f"{spread(taken['bare'], ms)} bare broadcast",
        median(taken["ours"]) / median(taken["bare"]),
        at_most(3),
    )


def until_received(start: Callable[[], object], receivers: Receivers, settle: Callable[[], object]) -> float:
    """Seconds until every receiver has it; what the starter itself is sent is taken afterwards."""
    began = time.perf_counter()
    start()
    receivers.wait()
    taken = time.perf_counter() - began
    settle()
    return taken
