"""How does a test drive a client that lives in another process?

A script is `node js/run.mjs TOPIC CASE URL PARAMS` or `python py/run.py ...`. It ends with 0 when its own
assertions held. Where a test has to act in between (cut a connection, restart the server), the script says
`@{"said": NAME, ...}` on a line of its stdout, and the test answers with a word on its stdin.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).parent
RUNNERS = {
    "js": ["node", "--unhandled-rejections=strict", str(HERE / "js" / "run.mjs")],
    "py": [sys.executable, str(HERE / "py" / "run.py")],
}
DEADLINE_S = 20.0


class Script:
    def __init__(self, language: str, topic: str, case: str, url: str, **params: object) -> None:
        self.name = f"{topic}.{case}"
        command = [*RUNNERS[language], topic, case, url, json.dumps(params)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.output: list[str] = []
        self._said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, stdout: IO[str]) -> None:
        for line in stdout:
            if line.startswith("@"):
                self._said.put(json.loads(line[1:]))
            else:
                self.output.append(line)
        self._said.put(None)

    def hear(self, name: str, *, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        """What the script says next, which has to be `name`."""
        try:
            message = self._said.get(timeout=timeout_s)
        except queue.Empty:
            message = None
        if message is None or message["said"] != name:
            self.end()
            raise AssertionError(f"`{self.name}` was to say `{name}`, got {message}:\n{''.join(self.output)}")
        return message

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def finish(self, *, timeout_s: float = DEADLINE_S) -> None:
        """Wait for the script's end; whatever it printed is the reason if it failed."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        self.end()
        if code != 0:
            reason = f"no end within {timeout_s} s" if code is None else f"exit code {code}"
            raise AssertionError(f"`{self.name}`: {reason}\n{''.join(self.output)}")

    def end(self) -> None:
        """Idempotent; the script's process is gone afterwards."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)
        if self.process.stdin is not None and not self.process.stdin.closed:
            # It may have ended without reading the last word; its exit code tells the story.
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
