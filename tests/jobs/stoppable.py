"""How does a real server come to stand at one chosen point of a job's life?

    python stoppable.py DATA_FILE PORT

It serves `tests/apps/leases` over SQLite, with a clock that moves when told to, and counts the points of each
run where it can stand: every call of the storage from the mark of the job to its end state, and where the
action waits. It says `point N NAME` on a line of its stdout when it waits at one, `refused` when a write was.
On stdin it takes `stop N` (wait at the Nth point of the next run), `hold` (from then on at every point of the
action too) and `go SECONDS` (the clock moves, the wait is over).
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

import reactivedb as rdb
from reactivedb.server.serving import Listeners, run, serve_on
from reactivedb.storage import Commit, SqliteStorage, open_sqlite
from reactivedb.testing import FakeClock
from reactivedb.testing.fake_clock import START_NS

sys.path.insert(0, str(Path(__file__).parent.parent / "apps"))
from leases import work


class Stage:
    """The points of one run at a time, and the conversation with the test."""

    def __init__(self, clock: FakeClock) -> None:
        # Set by the storage when a job is marked as running.
        self.runs = False
        self._clock = clock
        self._count = 0
        self._stop_at = 0
        self._holding = False
        self._go = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            match line.split():
                case ["stop", number]:
                    self.runs = False
                    self._stop_at, self._count, self._holding = int(number), 0, False
                    say("set")
                case ["hold"]:
                    self._holding = True
                case ["go", seconds]:
                    self._clock.advance(float(seconds))
                    self._go.set()
                case words:
                    say(f"not understood: {words}")

    def _reach(self, name: str, *, of_action: bool = False) -> bool:
        self._count += 1
        stops = self._count == self._stop_at
        if stops or (of_action and self._holding and self._count > self._stop_at):
            self._go.clear()
            say(f"point {self._count} {name}")
            return True
        say(f"passed {self._count} {name}")
        return False

    def stand(self, name: str) -> None:
        """A point inside the storage: the whole loop waits."""
        if self.runs and self._reach(name):
            self._go.wait()

    async def pause(self, name: str) -> None:
        """A point of the action: nobody else waits."""
        if self._reach(name, of_action=True):
            await anyio.to_thread.run_sync(self._go.wait, abandon_on_cancel=True)


class StoppingStorage:
    """A storage that stands still before and after what it does, while an action runs."""

    def __init__(self, storage: SqliteStorage, stage: Stage) -> None:
        self._storage = storage
        self._stage = stage
        # Nothing is done in another thread, so that the whole process stands at a point.
        self.sync_cost_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def append(self, commit: Commit) -> None:
        written = [write.value or b"" for write in commit.writes]
        self._stage.runs |= any(b'"kind":"inProgress"' in value for value in written)
        self._stage.stand("before the write")
        self._storage.append(commit)

    def flush(self) -> None:
        self._stage.stand("after the write, before it is in the file")
        self._storage.flush()

    def sync(self) -> None:
        self._stage.stand("in the file, before it is synced")
        self._storage.sync()
        self._stage.stand("synced, before the acknowledgement")


def say(text: str) -> None:
    # In one piece, for two threads speak; and what a function prints to `sys.stdout` is a line of its log.
    os.write(1, f"{text}\n".encode())


async def main(path: Path, port: int) -> None:
    stored = open_sqlite(path)
    # Time goes on where the process before this one ended, in whole milliseconds as ever.
    clock = FakeClock(max(START_NS, -(-stored.catalog().last_ts // 1_000_000) * 1_000_000))
    stage = Stage(clock)
    work.Stage.pause = stage.pause
    work.Stage.refused = lambda text: say("refused")
    storage = StoppingStorage(stored, stage)
    app = rdb.App(work, root="leases")
    listeners = Listeners.bind("127.0.0.1", port, 0)
    async with rdb.AsyncDatabase(lambda: app.runtime(storage, clock=clock)) as database:
        await serve_on(
            listeners, rdb.asgi(database), on_ready=lambda addresses: say(f"ready {addresses.cloud_url}")
        )


if __name__ == "__main__":
    run(lambda: main(Path(sys.argv[1]), int(sys.argv[2])))
