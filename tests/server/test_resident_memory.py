"""Does a server's process take what its bounds say, up to half as much again, and give it back?"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from clients.server import DevServer

from reactivedb.limits import MIB

from .test_websocket import masked, upgrade

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is told by Linux"),
]
SIZES = Path(__file__).parent.parent / "apps" / "sizes"
TIMEOUT_S = 60.0
# The bounds of `tests/apps/sizes`, and what a process may take for them.
LIVE_BYTES, IDLE_BYTES, HELD_BYTES = 32 * MIB, 8 * MIB, 64 * MIB
FACTOR = 1.5
# SQLite's own, which recorded answers pass through.
PAGES_BYTES = 64 * MIB


class SizesServer(DevServer):
    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def resident_bytes(self) -> int:
        return psutil.Process(self.pid).memory_info().rss

    @property
    def peak_bytes(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def forget_peak(self) -> int:
        """Begin a new peak; what is resident now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self.resident_bytes

    def call(self, kind: str, name: str, **args: Any) -> httpx.Response:
        body = {"path": f"results:{name}", "args": args}
        return httpx.post(f"{self.url}/api/{kind}", json=body, timeout=TIMEOUT_S)

    def connected(self) -> socket.socket:
        """A socket whose kernel takes little for it."""
        raw = socket.socket()
        raw.settimeout(TIMEOUT_S)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", self.port))
        return raw

    def follower(self, *queries: tuple[str, dict[str, Any]]) -> socket.socket:
        raw = self.connected()
        upgrade(raw, "/api/1.48.0/sync")
        added = [
            {"type": "Add", "queryId": number, "udfPath": f"results:{name}", "args": [args]}
            for number, (name, args) in enumerate(queries)
        ]
        change = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": added}
        raw.sendall(masked(b'{"type":"Connect","sessionId":"s"}') + masked(json.dumps(change).encode()))
        return raw

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Each question gives the server time."""
        ends_s = time.monotonic() + TIMEOUT_S
        while not holds():
            assert time.monotonic() < ends_s, self.log[-2000:]
            httpx.get(f"{self.url}/version", timeout=TIMEOUT_S)

    @property
    def socket_count(self) -> int:
        return sum(one.status == psutil.CONN_ESTABLISHED for one in self._connections())

    def _connections(self) -> list[Any]:
        return psutil.Process(self.pid).net_connections("tcp")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SizesServer]:
    running = SizesServer(tmp_path / "data", app=SIZES)
    running.start()
    running.call("mutation", "resize", size_bytes=1)
    running.call("query", "small_lists", number=0)
    running.call("query", "text", number=0, size_bytes=8 * MIB)
    yield running
    running.kill()


def take(raw: socket.socket, size_bytes: int) -> None:
    while size_bytes > 0:
        piece = raw.recv(65536)
        assert piece
        size_bytes -= len(piece)


def test_live_results_take_what_their_text_takes_and_are_given_back(server: SizesServer) -> None:
    before_bytes = server.resident_bytes
    with server.follower(*(("small_lists", {"number": number}) for number in range(12))) as raw:
        take(raw, 12 * 960_000)
        assert server.resident_bytes - before_bytes < FACTOR * LIVE_BYTES
    # Some of it stays, in case it is asked for again.
    server.wait_until(lambda: server.resident_bytes - before_bytes < FACTOR * IDLE_BYTES + 8 * MIB)


def test_an_update_for_many_that_never_read_stays_within_the_bounds(server: SizesServer) -> None:
    with contextlib.ExitStack() as raws:
        for _ in range(40):
            raw = raws.enter_context(server.follower(*(("sized", {"number": n}) for n in range(4))))
            take(raw, 200)
        before_bytes = server.forget_peak()
        count = server.socket_count
        server.call("mutation", "resize", size_bytes=MIB)
        # There is no room for all of them; after a moment the first ones are cut off for the others.
        server.wait_until(lambda: server.socket_count < count - 5)
        assert server.call("mutation", "resize", size_bytes=1).status_code == 200
        assert server.peak_bytes - before_bytes < FACTOR * (LIVE_BYTES + HELD_BYTES)
    server.wait_until(lambda: server.resident_bytes - before_bytes < FACTOR * IDLE_BYTES)


def test_answers_over_http_that_are_never_read_stay_within_the_bounds(server: SizesServer) -> None:
    with contextlib.ExitStack() as raws:
        before_bytes = server.forget_peak()
        for number in range(40):
            raw = raws.enter_context(server.connected())
            args = {"number": number, "size_bytes": 6 * MIB}
            body = json.dumps({"path": "results:text", "args": args}).encode()
            head = f"POST /api/query HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n"
            raw.sendall(head.encode() + body)
        server.wait_until(lambda: httpx.post(f"{server.url}/api/query", json={}).status_code == 503)
        assert server.peak_bytes - before_bytes < FACTOR * HELD_BYTES
    server.wait_until(lambda: server.call("query", "text", number=0, size_bytes=1).status_code == 200)
    server.wait_until(lambda: server.resident_bytes - before_bytes < 8 * MIB)


def test_a_peer_that_asks_for_large_answers_without_reading_is_answered_no_further(
    server: SizesServer,
) -> None:
    with server.follower() as raw:
        before_bytes = server.forget_peak()
        call = {"type": "Mutation", "udfPath": "results:answer", "args": [{"size_bytes": 4 * MIB}]}
        raw.sendall(b"".join(masked(json.dumps({**call, "requestId": n}).encode()) for n in range(100)))
        take(raw, 200)
        for _ in range(20):
            assert server.call("query", "text", number=0, size_bytes=1).status_code == 200
        assert server.peak_bytes - before_bytes < FACTOR * (HELD_BYTES + PAGES_BYTES)


def test_recorded_answers_do_not_stay_in_memory(server: SizesServer) -> None:
    call = {"type": "Mutation", "udfPath": "results:answer", "args": [{"size_bytes": 960_000}]}
    with server.follower() as raw:
        before_bytes = server.resident_bytes
        for number in range(40):
            raw.sendall(masked(json.dumps({**call, "requestId": number}).encode()))
            take(raw, 960_000)
        assert server.resident_bytes - before_bytes < 16 * MIB
