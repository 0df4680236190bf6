"""The command as people run it: a process of its own over a folder of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

DEADLINE_S = 20.0
READY = re.compile(
    r"^reactivedb: serving (http://127\.0\.0\.1:\d+) site (http://127\.0\.0\.1:\d+) data (.+)$"
)

APP = """
import reactivedb as rdb
import notes

app = rdb.App(notes)
"""
NOTES = """
import reactivedb as rdb


class Note(rdb.Document, table="notes"):
    text: str


@rdb.query
def greeting(ctx: rdb.QueryCtx) -> str:
    return "first"


@rdb.mutation
def add(ctx: rdb.MutationCtx, text: str) -> None:
    print("adding", text)
    ctx.db.insert(Note(text=text))


@rdb.mutation
def crash(ctx: rdb.MutationCtx) -> None:
    raise RuntimeError("the inner working")


@rdb.internal_query
def count(ctx: rdb.QueryCtx) -> int:
    return len(ctx.db.query(Note).collect())
"""


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "reactivedb", *map(str, words)]


class Server:
    """One running `dev` or `serve`."""

    def __init__(self, *words: object, under: Sequence[str] = (), **environment: str) -> None:
        """`under` is a command that runs the one behind it."""
        self.process = subprocess.Popen(
            [*under, *command(*words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment or None,
        )
        self.errors: list[str] = []
        self._error_came = threading.Condition()
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()
        assert self.process.stdout is not None
        found = READY.match(self.process.stdout.readline().rstrip("\n"))
        if found is None:
            self.process.kill()
            raise AssertionError(f"not ready: {''.join(self.errors)}")
        self.url, self.site_url, self.data = found[1], found[2], Path(found[3])

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._error_came:
                self.errors.append(line)
                self._error_came.notify_all()

    def wait_for_error_line(self, text: str) -> None:
        with self._error_came:
            came = self._error_came.wait_for(lambda: text in "".join(self.errors), DEADLINE_S)
        assert came, "".join(self.errors)

    def call(self, kind: str, path: str, **args: object) -> Any:
        answer = httpx.post(f"{self.url}/api/{kind}", json={"path": path, "args": args}, timeout=DEADLINE_S)
        return answer.json()

    def end(self, signal_number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(signal_number)
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An application's folder."""
    made = tmp_path / "plain"
    made.mkdir()
    (made / "app.py").write_text(APP)
    (made / "notes.py").write_text(NOTES)
    return made


StartServer = Callable[..., Server]


@pytest.fixture
def start() -> Iterator[StartServer]:
    """`start("dev", folder)` gives a running server; it ends with the test."""
    running: list[Server] = []

    def start_one(
        name: str, folder: Path, *options: object, under: Sequence[str] = (), **environment: str
    ) -> Server:
        browser = ["--no-open"] if name == "dev" else []
        server = Server(
            name, folder, "--port", 0, "--site-port", 0, *browser, *options, under=under, **environment
        )
        running.append(server)
        return server

    yield start_one
    for server in running:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait(DEADLINE_S)


def finished(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        command(*words), capture_output=True, text=True, timeout=DEADLINE_S, cwd=cwd, check=False
    )
