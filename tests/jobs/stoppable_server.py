"""How does a test stop, kill and resume a process at one point of a job's life?"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

from clients.script import Script

from reactivedb.storage import open_sqlite

SCRIPT = Path(__file__).with_name("stoppable.py")
DEADLINE_S = 20.0
_ACTIONS = ("work.js:once", "work.js:again")


class StoppableServer:
    """`stoppable.py` over one file, on the port that the first start was given."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = 0
        self.refused_count = 0
        self._lines: queue.Queue[str] = queue.Queue()
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process

    def start(self) -> None:
        command = [sys.executable, str(SCRIPT), str(self.path), str(self.port)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._lines = queue.Queue()
        threading.Thread(target=self._read, args=(self._process, self._lines), daemon=True).start()
        self.port = int(self.hear("ready").rpartition(":")[2])

    @staticmethod
    def _read(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line.rstrip())
        lines.put("ended")

    def hear(self, word: str) -> str:
        """The next line that begins with that word; what comes before it is counted or passed over."""
        seen: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=DEADLINE_S)
            except queue.Empty:
                line = "ended"
            if line.startswith(word):
                return line
            if line == "refused":
                self.refused_count += 1
            seen.append(line)
            assert line != "ended", f"waiting for `{word}`:\n" + "\n".join(seen)

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def stop_at(self, point: int) -> None:
        """Have the next run wait at that point."""
        self.tell(f"stop {point}")
        self.hear("set")

    def suspend(self) -> None:
        """SIGSTOP, and wait until it stands."""
        self.process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)


class Subscriber:
    """An official client, which follows the state of the newest job."""

    def __init__(self, language: str, url: str) -> None:
        self.script = Script(language, "jobs", "follow", url)
        # Its id and its state.
        self.newest: list[str] = []

    def until(self, job: str, *ends: str) -> str:
        """Wait for one of these states of that job."""
        while self.newest[:1] != [job] or self.newest[1] not in ends:
            self.newest = self.script.hear("newest")["newest"]
        return self.newest[1]


def check_fencing(path: Path) -> int:
    """Every write of a run lies between the mark that gave it its lease and the next change of its job's row.

    Gives the number of runs that wrote.
    """
    leases: list[tuple[int, int]] = []
    marks: dict[str, int] = {}
    writes: dict[str, list[int]] = defaultdict(list)
    storage = open_sqlite(path)
    try:
        assert storage.check() == []
        for ts, write in storage.log(0, limit=10**9):
            row = json.loads(write.value or b"{}")
            if row.get("name") in _ACTIONS:
                if write.id in marks:
                    leases.append((marks.pop(write.id), ts))
                if row["state"]["kind"] == "inProgress":
                    marks[write.id] = ts
            elif "run" in row:
                assert row["text"] != "stolen"
                writes[row["run"]].append(ts)
            elif row.get("name") == "work.js:write":
                assert row["args"][0]["text"] != "stolen"
                writes[row["args"][0]["run"]].append(ts)
    finally:
        storage.close()
    assert marks == {}, "a job says that it runs, and nothing runs any more"
    held = {
        run: [lease for lease in leases if all(lease[0] < ts < lease[1] for ts in stamps)]
        for run, stamps in writes.items()
    }
    assert all(len(found) == 1 for found in held.values()), held
    # No two runs wrote under the same lease.
    assert len({found[0] for found in held.values()}) == len(held)
    return len(held)
