"""How does a benchmark start a server in a process of its own, and look at its memory?"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

_APPLICATIONS = Path(__file__).parent
_SERVING = re.compile(r"serving (http://\S+)")
_STOPS_WITHIN_S = 20


class ServerProcess:
    """A running server."""

    def __init__(self, pid: int, url: str) -> None:
        self._process = psutil.Process(pid)
        self.url = url

    def kill(self) -> None:
        """End it at once: one that does not answer any more would not end by itself."""
        self._process.kill()

    def resident_bytes(self) -> int:
        return self._process.memory_info().rss

    def connection_count(self) -> int:
        """The clients that are connected now."""
        return sum(one.status == psutil.CONN_ESTABLISHED for one in self._process.net_connections("tcp"))


@contextmanager
def reactive_server(
    data: Path,
    application: str = "application",
    *,
    command: str = "reactivedb",
    options: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Generator[ServerProcess]:
    """reactivedb as in production, by the module `command`, over `data`; it logs to the file `log`."""
    words = ["--port", "0", "--site-port", "0", "--data", str(data), *options]
    serve = ("-m", command, "serve", str(_APPLICATIONS / application), *words)
    with _serving(*serve, environment=environment, log=log) as server:
        yield server


@contextmanager
def bare_server() -> Generator[ServerProcess]:
    """`bare_socket`."""
    with _serving("-m", "benchmarks.bare_socket") as server:
        yield server


@contextmanager
def _serving(
    *words: str, environment: Mapping[str, str] | None = None, log: Path | None = None
) -> Generator[ServerProcess]:
    with (log or Path(os.devnull)).open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, *words],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        assert process.stdout is not None
        found = _SERVING.search(process.stdout.readline())
        assert found is not None, f"{words} did not start"
        yield ServerProcess(process.pid, found[1])
    finally:
        process.terminate()
        try:
            process.wait(_STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            # A server that is busy in one long call does not see the signal.
            process.kill()
            process.wait()


def allow_sockets(count: int) -> None:
    """Raise this process's limit on open files, and with it that of the servers it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
