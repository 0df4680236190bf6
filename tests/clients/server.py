"""How does a test run, kill and restart a real server?

`DevServer` is `python -m reactivedb dev` in a process of its own (the PyPI client holds the GIL, so nothing
may share its process). Ports are chosen by the system at the first start and kept across restarts.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx

APPS = Path(__file__).parent.parent / "apps"
CONFORMANCE = APPS / "conformance"
READY = re.compile(rb"reactivedb: serving http://127\.0\.0\.1:(\d+) site http://127\.0\.0\.1:(\d+) data ")
START_DEADLINE_S = 20.0
STOP_DEADLINE_S = 10.0
# One for all: a client of its own for each call would read the certificates of the system, 20 ms each time.
CALLER = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=30)


class DevServer:
    """One server over one data folder; `start` again after `stop` or `kill` serves the same data."""

    def __init__(self, data: Path, *options: str, app: Path = CONFORMANCE) -> None:
        self.app = app
        self.data = data
        self.options = options
        self.port = 0
        self.site_port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.output: list[bytes] = []
        self._ready = threading.Event()
        self._reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def site_url(self) -> str:
        return f"http://127.0.0.1:{self.site_port}"

    @property
    def admin_key(self) -> str:
        return (self.data / "admin_key").read_text().strip()

    def start(self) -> None:
        command = [sys.executable, "-m", "reactivedb", "dev", str(self.app), "--no-open"]
        command += ["--port", str(self.port), "--site-port", str(self.site_port)]
        command += ["--data", str(self.data), *self.options]
        self._ready.clear()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        if not self._ready.wait(START_DEADLINE_S) or self.process.poll() is not None:
            self.kill()
            raise RuntimeError(f"the server did not get ready:\n{self.log}")

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.output.append(line)
            if found := READY.search(line):
                self.port, self.site_port = int(found[1]), int(found[2])
                self._ready.set()
        self._ready.set()  # It ended: whoever waits for readiness must look.

    @property
    def log(self) -> str:
        return b"".join(self.output).decode(errors="replace")

    def stop(self) -> int:
        """Ask it to end as an operator would; the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """End it as a crash would."""
        return self._end(signal.SIGKILL)

    def _end(self, signal_number: signal.Signals) -> int:
        assert self.process is not None
        assert self._reader is not None
        self.process.send_signal(signal_number)
        try:
            code = self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_DEADLINE_S)
            raise RuntimeError(f"the server did not end after {signal_number.name}:\n{self.log}") from None
        self._reader.join(STOP_DEADLINE_S)
        return code

    def request(self, kind: str, path: str, args: object = None, **extra: object) -> httpx.Response:
        body = {"path": path, "args": args if args is not None else {}, "format": "convex_encoded_json"}
        return CALLER.post(f"{self.url}/api/{kind}", json=body | extra)

    def call(self, kind: str, path: str, **args: object) -> Any:
        """The value of a function called by an uninvolved HTTP client; its failure fails the test."""
        answer = self.request(kind, path, args).json()
        assert answer.get("status") == "success", answer
        return answer["value"]

    def query(self, path: str, **args: object) -> Any:
        return self.call("query", path, **args)

    def mutation(self, path: str, **args: object) -> Any:
        return self.call("mutation", path, **args)

    def action(self, path: str, **args: object) -> Any:
        return self.call("action", path, **args)
