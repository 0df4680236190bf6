"""Does the server's memory stay flat, whatever its clients do not do?

Clients that never read: they follow a page of 16 KB that changes all the while, take nothing, and are cut
off in the end. And one client that follows 10,000 queries, one after the other. Memory is the server's
process's, beside what it was before; another client's mutations are timed meanwhile, beside the same
without the others.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .measure import Effort, Figure, at_most, median, ms, spread
from .peer import DeafPeer, SyncPeer
from .processes import ServerProcess, allow_sockets, reactive_server

SLOW_CLIENTS = 500
RESULT_BYTES = 16 * 1024
CYCLES = 10_000
_WARM_UP = 1200
_WRITES_PER_POINT = 150
_DEADLINE_S = 120
_MIB = 1024 * 1024


def run(effort: Effort) -> list[Figure]:
    allow_sockets(SLOW_CLIENTS + 500)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        return [
            *never_reading(Path(folder) / "one", 1),
            *never_reading(Path(folder) / "many", SLOW_CLIENTS),
            following_in_turn(Path(folder) / "cycles", effort.pick(CYCLES, 4 * CYCLES)),
        ]


def never_reading(folder: Path, count: int) -> list[Figure]:
    with reactive_server(folder, "impatient") as server:
        writer, other = SyncPeer(server.url), SyncPeer(server.url)
        page_id = writer.mutate("ledger:writePage", {"text": ""})
        others_page_id = other.mutate("ledger:writePage", {"text": ""})

        def write(times: int) -> list[float]:
            """Change the page as fast as it goes; how long each of another client's mutations took."""
            taken: list[float] = []
            for number in range(times):
                text = f"{number:016}" * (RESULT_BYTES // 16)
                writer.send_mutation("ledger:writePage", {"text": text, "pageId": page_id})
                began_s = time.perf_counter()
                other.mutate("ledger:writePage", {"text": "hi", "pageId": others_page_id})
                taken.append(time.perf_counter() - began_s)
                writer.response()
            return taken

        # The newest commits are kept in memory, up to a bound that is reached by then.
        alone_s = write(_WARM_UP)
        deaf = [DeafPeer(server.url) for _ in range(count)]
        for peer in deaf:
            # The last that it takes.
            peer.subscribe("ledger:readPage", {"pageId": page_id})
        before = server.resident_bytes()
        taken_s: list[float] = []
        points: list[int] = []
        deadline_s = time.perf_counter() + _DEADLINE_S
        while server.connection_count() > 2:
            assert time.perf_counter() < deadline_s, "not all of them are cut off"
            taken_s += write(_WRITES_PER_POINT)
            points.append(server.resident_bytes())
        write(_WRITES_PER_POINT)
        points.append(server.resident_bytes())
        for peer in (*deaf, writer, other):
            peer.close()
    who = "1 client that never reads" if count == 1 else f"{count} clients that never read"
    return [
        flat(f"memory beside {who}", before, points),
        Figure(
            f"another's mutation beside {who}",
            spread(taken_s, ms),
            f"{spread(alone_s, ms)} alone",
            median(taken_s) / median(alone_s),
        ),
    ]


def following_in_turn(folder: Path, cycles: int) -> Figure:
    with reactive_server(folder) as server:
        peer = SyncPeer(server.url)
        peer.mutate("ledger:openAccount", {"name": "ada"})
        version = 0

        def change(modification: dict[str, object]) -> None:
            nonlocal version
            message = {"type": "ModifyQuerySet", "baseVersion": version, "newVersion": version + 1}
            peer.send(json.dumps({**message, "modifications": [modification]}).encode())
            version += 1
            assert b'"Transition"' in peer.receive()

        def cycle(number: int) -> None:
            added = {
                "type": "Add",
                "queryId": number,
                "udfPath": "ledger:topic",
                "args": [{"number": number}],
            }
            change(added)
            change({"type": "Remove", "queryId": number})

        points = [
            after(lambda start=start: [cycle(number) for number in range(start, start + cycles // 8)], server)
            for start in range(0, cycles, cycles // 8)
        ]
        peer.close()
    # In its first half the server fills what it keeps of idle results, which is bounded.
    half = len(points) // 2
    return flat(f"memory of {cycles:,} subscriptions, one after the other", points[half - 1], points[half:])


def after(work: Callable[[], object], server: ServerProcess) -> int:
    work()
    return server.resident_bytes()


def flat(question: str, before: int, points: Sequence[int]) -> Figure:
    """At the most, and at the end, no more than a fifth above what it was before."""
    shown = (
        f"{points[0] / _MIB:.0f}, at most {max(points) / _MIB:.0f}, at the end {points[-1] / _MIB:.0f} MiB"
    )
    return Figure(question, shown, f"{before / _MIB:.0f} MiB before", max(points) / before, at_most(1.2))
