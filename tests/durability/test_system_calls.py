"""Does a running server sync what it acknowledges? Told by its system calls, as `strace` writes them down.

Every answer that is written to a socket has to come after an `fdatasync` of the WAL that began after the last
write into the WAL, and the names of the files have to be durable: the folder is synced once the WAL exists.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.slow

LEDGER = Path(__file__).parent.parent / "apps" / "ledger"
_READY = re.compile(r"serving http://127\.0\.0\.1:(\d+) ")
_TRACED = "openat,pwrite64,write,sendto,sendmsg,writev,fsync,fdatasync,close"
_CALL = re.compile(r"^(\d+) +(\w+)\((?:AT_FDCWD, )?(.*)$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>")
_OF_FILE = re.compile(r"^\d+<([^>]*)>")
_DEADLINE_S = 60.0
CALLS = 8


@dataclass(frozen=True, slots=True)
class SystemCall:
    """`begin` and `end` are lines of the trace; calls of other threads may lie between them."""

    begin: int
    end: int
    name: str
    path: str
    text: str


def parse(trace: str) -> list[SystemCall]:
    calls: list[SystemCall] = []
    unfinished: dict[str, tuple[int, str, str]] = {}
    for number, line in enumerate(trace.splitlines()):
        if (resumed := _RESUMED.match(line)) and resumed[1] in unfinished:
            begin, name, text = unfinished.pop(resumed[1])
            calls.append(SystemCall(begin, number, name, _path(name, text), text))
        elif found := _CALL.match(line):
            if line.endswith("<unfinished ...>"):
                unfinished[found[1]] = (number, found[2], found[3])
            else:
                calls.append(SystemCall(number, number, found[2], _path(found[2], found[3]), found[3]))
    return sorted(calls, key=lambda call: call.end)


def _path(name: str, text: str) -> str:
    if name == "openat":
        return text.split('"')[1] if '"' in text else ""
    found = _OF_FILE.match(text)
    return found[1] if found else ""


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[SystemCall]]:
    """The data folder of a server that answered some mutations, and its system calls."""
    strace = shutil.which("strace")
    assert strace is not None, "this test traces system calls with `strace` - `apt-get install strace`"
    folder = tmp_path_factory.mktemp("traced")
    trace, data = folder / "trace", folder / "data"
    command = [strace, "-f", "-y", "-s", "200", "-e", f"trace={_TRACED}", "-o", str(trace), sys.executable]
    command += ["-m", "reactivedb", "dev", str(LEDGER), "--no-open", "--port", "0", "--site-port", "0"]
    server = subprocess.Popen(
        [*command, "--data", str(data)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    output: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert server.stdout is not None
        for line in server.stdout:
            output.append(line)
            if _READY.search(line):
                ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        assert ready.wait(_DEADLINE_S)
        found = [port for line in output if (port := _READY.search(line))]
        assert found, "".join(output)
        url = f"http://127.0.0.1:{found[0][1]}/api/mutation"
        for number in range(CALLS):
            body = {"path": "entries:add", "args": {"name": f"entry {number}"}}
            assert httpx.post(url, json=body, timeout=_DEADLINE_S).json()["status"] == "success"
    finally:
        # strace hands the signal on to nobody; its child is the server.
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        for child in children:
            subprocess.run(["kill", f"-{signal.SIGTERM.value}", child], check=False)
        server.wait(_DEADLINE_S)
    return data, parse(trace.read_text(errors="replace"))


def test_each_acknowledgement_comes_after_a_sync_that_covers_its_commit(
    traced: tuple[Path, list[SystemCall]],
) -> None:
    data, calls = traced
    wal = str(data / "data.db-wal")
    answers = [call for call in calls if "success" in call.text and call.name != "pwrite64"]
    answers = [call for call in answers if "socket:" in call.path or "TCP" in call.path]
    assert len(answers) == CALLS
    previous = 0
    for answer in answers:
        between = [call for call in calls if previous < call.end < answer.begin]
        written = [call for call in between if call.name == "pwrite64" and call.path == wal]
        assert written, "a mutation was acknowledged that was not in the WAL"
        synced = [call for call in between if call.name == "fdatasync" and call.path == wal]
        assert any(call.begin > written[-1].end for call in synced), "acknowledged before it was synced"
        previous = answer.end


def test_the_folder_is_synced_once_the_wal_is_made_and_before_the_first_acknowledgement(
    traced: tuple[Path, list[SystemCall]],
) -> None:
    data, calls = traced
    made = [call for call in calls if call.name == "openat" and call.path == str(data / "data.db-wal")]
    folder = [call for call in calls if call.name == "fsync" and call.path == str(data)]
    first = next(call for call in calls if "success" in call.text and call.name != "pwrite64")
    assert made
    assert any(made[0].end < call.begin and call.end < first.begin for call in folder)


def test_no_commit_moves_the_wal_into_the_database_by_itself(
    traced: tuple[Path, list[SystemCall]],
) -> None:
    """A checkpoint writes the database file; so few commits are far from the pages that call for one."""
    data, calls = traced
    answers = [call.begin for call in calls if "success" in call.text and call.name != "pwrite64"]
    moved = [call for call in calls if call.name == "pwrite64" and call.path == str(data / "data.db")]
    assert [call for call in moved if answers[0] < call.begin < answers[-1]] == []
