"""How does a test run, kill and restart the chat's server?"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx
from websockets.sync.client import connect

APPLICATION = Path(__file__).parent.parent.parent / "examples" / "chat_streaming"
READY = re.compile(r"reactivedb: serving (http://127\.0\.0\.1:(\d+)) ")
DEADLINE_S = 30.0


class ChatServer:
    """`reactivedb dev examples/chat_streaming` in a process of its own; the port is kept across restarts."""

    def __init__(self, data: Path, **environment: str) -> None:
        self.url = ""
        self._data = data
        self._port = "0"
        self._environment = {name: value for name, value in os.environ.items() if name != "OPENAI_BASE_URL"}
        self._environment |= environment
        self._output: list[str] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.end(signal.SIGTERM)

    def start(self) -> None:
        command = [sys.executable, "-m", "reactivedb", "dev", str(APPLICATION), "--no-open"]
        command += ["--port", self._port, "--site-port", "0", "--data", str(self._data)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._environment
        )
        ready = threading.Event()
        threading.Thread(target=self._read, args=(self._process, ready), daemon=True).start()
        assert ready.wait(DEADLINE_S), "the server did not get ready"
        assert self._process.poll() is None, "".join(self._output)

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._output.append(line)
            if found := READY.search(line):
                self.url, self._port = found[1], found[2]
                ready.set()
        ready.set()  # It has ended, and whoever waits must look.

    def end(self, how: signal.Signals) -> None:
        self._process.send_signal(how)
        self._process.wait(DEADLINE_S)

    def call(self, kind: str, path: str, **args: object) -> Any:
        body = {"path": path, "args": args, "format": "convex_encoded_json"}
        answer = httpx.post(f"{self.url}/api/{kind}", json=body, timeout=DEADLINE_S).json()
        assert answer["status"] == "success", answer
        return answer["value"]

    def watch(self, path: str, **args: object) -> Iterator[Any]:
        """Each result of a query as the server sends it."""
        session = {"sessionId": str(uuid.uuid4()), "connectionCount": 0, "lastCloseReason": "InitialConnect"}
        query = {"type": "Add", "queryId": 0, "udfPath": path, "args": [args]}
        watched = {"baseVersion": 0, "newVersion": 1, "modifications": [query]}
        with connect(f"{self.url.replace('http', 'ws')}/api/sync") as socket:
            socket.send(json.dumps({"type": "Connect", "clientTs": 0, **session}))
            socket.send(json.dumps({"type": "ModifyQuerySet", **watched}))
            while True:
                message = json.loads(socket.recv(DEADLINE_S))
                yield from (change["value"] for change in message.get("modifications", []))
