"""How is the ledger served by a process that may die at any moment?"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx

LEDGER = Path(__file__).parent.parent / "apps" / "ledger"
DEADLINE_S = 20.0
_READY = re.compile(r"serving http://127\.0\.0\.1:(\d+) ")


class LedgerServer:
    """`reactivedb dev` over one data folder, on the port that the first start was given."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._port = "0"
        self._output: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "reactivedb", "dev", str(LEDGER), "--no-open"]
        command += ["--port", self._port, "--site-port", "0", "--data", str(self._data)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        ready = threading.Event()
        threading.Thread(target=self._read, args=(self._process, ready), daemon=True).start()
        assert ready.wait(DEADLINE_S), "the server did not get ready"
        assert self._process.poll() is None, "".join(self._output[-20:])

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._output.append(line)
            if found := _READY.search(line):
                self._port = found[1]
                ready.set()
        ready.set()  # It has ended, and whoever waits must look.

    def end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(DEADLINE_S)

    def call(self, kind: str, path: str, **args: object) -> Any:
        body = {"path": path, "args": args, "format": "convex_encoded_json"}
        answer = httpx.post(f"{self.url}/api/{kind}", json=body, timeout=DEADLINE_S).json()
        assert answer["status"] == "success", answer
        return answer["value"]
