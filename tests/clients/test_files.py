"""h.82, h.91, h.92: what do official clients get of files, and what does a crash leave of them?"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from .conftest import StartsScript, running_server
from .server import DevServer

MIB = 1024 * 1024
KILLS = int(os.environ.get("KILLS", "6"))
ALIVE_S = (0.05, 0.5)
DEADLINE_S = 20.0

Finish = Callable[[str], None]


@pytest.fixture
def js(node: StartsScript, shared_server: DevServer) -> Finish:
    return lambda case: node("files", case, shared_server.url).finish()


def test_h91_a_file_goes_in_is_served_and_goes_with_npm(js: Finish) -> None:
    js("cycle")


def test_h82_a_mutation_that_fails_deletes_no_file(js: Finish) -> None:
    js("rolledBack")


def test_h92_a_wrong_digest_and_a_forged_token_are_refused(js: Finish) -> None:
    js("refused")


def test_actions_store_and_read_files(js: Finish) -> None:
    js("actions")


def test_h91_a_file_goes_in_is_served_and_goes_with_pypi(
    pypi: StartsScript, shared_server: DevServer
) -> None:
    pypi("files", "cycle", shared_server.url).finish()


def upload(server: DevServer, content: bytes | Iterator[bytes], client: httpx.Client | None = None) -> str:
    url = server.mutation("files:generateUploadUrl")
    post = httpx.post if client is None else client.post
    return post(url, content=content, timeout=DEADLINE_S).raise_for_status().json()["storageId"]


def folder(server: DevServer) -> set[str]:
    found = server.data / "data.db.files"
    return set(os.listdir(found)) if found.exists() else set()


# Crashes


def until_only_rows_have_files(server: DevServer) -> dict[str, str]:
    """Every row's digest by id, once what no row knows is swept away."""
    rows = {row["_id"]: row["sha256"] for row in server.query("files:allFiles")}
    deadline_s = time.monotonic() + DEADLINE_S
    while folder(server) != rows.keys():
        assert time.monotonic() < deadline_s, folder(server) ^ rows.keys()
        server.query("files:allFiles")
    return rows


def test_a_kill_in_the_midst_of_an_upload_leaves_nothing_of_it(server: DevServer) -> None:
    kept = upload(server, b"kept")
    url = server.mutation("files:generateUploadUrl")
    begun = threading.Event()
    killed = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"x" * MIB
        begun.set()
        killed.wait(DEADLINE_S)
        yield b"x"

    def send() -> None:
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(url, content=pieces(), timeout=DEADLINE_S)

    sending = threading.Thread(target=send)
    sending.start()
    assert begun.wait(DEADLINE_S)
    deadline_s = time.monotonic() + DEADLINE_S
    while not any(name.endswith(".part") for name in folder(server)):
        assert time.monotonic() < deadline_s
        server.query("files:allFiles")
    server.kill()
    killed.set()
    sending.join()
    assert len(folder(server)) == 2
    server.start()
    assert until_only_rows_have_files(server).keys() == {kept}
    # The token was not used up.
    assert httpx.post(url, content=b"again").status_code == 200


class Writer:
    """Stores and deletes files until it is told to stop, and remembers what it was told of them."""

    def __init__(self, server: DevServer, is_up: threading.Event, seed: int) -> None:
        self._server = server
        self._is_up = is_up
        self._client = httpx.Client()
        self._random = random.Random(seed)
        # Digests by id.
        self.stored: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.stopping = False
        self.failure: Exception | None = None
        # Asked to be deleted, and not answered.
        self.in_doubt: set[str] = set()
        self.thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        with self._client:
            self._store_on()

    def _store_on(self) -> None:
        while not self.stopping and self.failure is None:
            self._is_up.wait(DEADLINE_S)
            try:
                self._store_one()
            except httpx.TransportError:
                pass  # It was killed, or is not back yet.
            except Exception as error:
                self.failure = error

    def _store_one(self) -> None:
        content = self._random.randbytes(self._random.choice((1, 100_000, 5_000_000)))
        id = upload(self._server, content, self._client)
        self.stored[id] = base64.b64encode(hashlib.sha256(content).digest()).decode()
        if self._random.random() < 0.4:
            self.in_doubt.add(id)
            self._server.mutation("files:remove", id=id)
            self.deleted.add(id)


def test_kill_9_leaves_no_row_without_its_file_and_no_file_without_its_row(server: DevServer) -> None:
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    is_up = threading.Event()
    is_up.set()
    writers = [Writer(server, is_up, chance.randrange(2**32)) for _ in range(3)]
    for writer in writers:
        writer.thread.start()
    for _ in range(KILLS):
        # How long it lives is what the test is about.
        threading.Event().wait(chance.uniform(*ALIVE_S))
        is_up.clear()
        server.kill()
        left = folder(server)
        server.start()
        is_up.set()
        print(f"killed with {sum(name.endswith('.part') for name in left)} parts of {len(left)} files")
    for writer in writers:
        writer.stopping = True
    for writer in writers:
        writer.thread.join()
    server.stop()
    server.start()
    assert [writer.failure for writer in writers] == [None, None, None]
    rows = until_only_rows_have_files(server)
    for id, digest in rows.items():
        content = (server.data / "data.db.files" / id).read_bytes()
        assert base64.b64encode(hashlib.sha256(content).digest()).decode() == digest
    for writer in writers:
        assert not writer.deleted & rows.keys()
        assert writer.stored.keys() - writer.in_doubt <= rows.keys()
    print(f"{KILLS} kills, {sum(len(writer.stored) for writer in writers)} files stored, {len(rows)} left")


# Memory


def peak_mib(server: DevServer) -> float:
    """The most that the server's process ever had in memory."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def test_a_file_of_200_mib_passes_through_a_few_pieces_of_memory(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        # What the first file of any size takes: modules, threads, buffers.
        httpx.get(server.query("files:getUrl", id=upload(server, b"x" * MIB))).raise_for_status()
        before_mib = peak_mib(server)
        digest = hashlib.sha256()
        piece = os.urandom(MIB)

        def pieces() -> Iterator[bytes]:
            for _ in range(200):
                digest.update(piece)
                yield piece

        began_s = time.perf_counter()
        id = upload(server, pieces())
        sent_s = time.perf_counter()
        received = hashlib.sha256()
        with httpx.stream("GET", server.query("files:getUrl", id=id)) as answer:
            for part in answer.iter_bytes():
                received.update(part)
        done_s = time.perf_counter()
        assert received.digest() == digest.digest()
        grown_mib = peak_mib(server) - before_mib
    print(f"up {sent_s - began_s:.2f} s, down {done_s - sent_s:.2f} s, {grown_mib:.1f} MiB more at its peak")
    assert grown_mib < 16
