"""Does a write of an action land after its process was killed, or after it lost its job while it stood?

At every point of a run where its process can stand: in each call of the storage that the run makes, from the
mark of the job to its end state, and where the action waits for something. One file has one process, so a job
is taken over by the next process, or in the same one by the clock, by a new attempt or by a cancellation
while the process stands (SIGSTOP). What is under way in the storage when the process is stopped comes before
the change that takes the job away, and lands; nothing after that does. Subscribers are shown the end state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from clients.conftest import npm_client
from clients.probe import Probe, probe

from .stoppable_server import StoppableServer, Subscriber, check_fencing

__all__ = ["npm_client"]

pytestmark = pytest.mark.slow

_OF_STORAGE = [
    "before the write",
    "after the write, before it is in the file",
    "in the file, before it is synced",
    "synced, before the acknowledgement",
]
POINTS = [
    *_OF_STORAGE,  # the mark
    "before the first mutation",
    *_OF_STORAGE,  # a mutation
    "between mutations",
    *_OF_STORAGE,  # a nested mutation of a nested action
    *_OF_STORAGE,  # scheduling
    "after the last mutation",
    *_OF_STORAGE,  # the end state
]
NUMBERS = range(1, len(POINTS) + 1)
MARKED = 2  # from this point on there is a lease
ENDED = len(POINTS) - len(_OF_STORAGE) + 1  # and from this one the run has ended
LAST_WAIT = ENDED - 1
# Of the four points of one call of the storage, those after this one.
IN_FILE_FROM = 2
# Processes start slowly, so some are killed at the same time.
LANES = 4
# A run that loses its lease before its last write is refused three attempts to write on.
REFUSED = 3 * (ENDED - len(_OF_STORAGE) - 1 - MARKED)


@contextmanager
def running_server(folder: Path) -> Iterator[StoppableServer]:
    folder.mkdir(exist_ok=True)
    server = StoppableServer(folder / "data.db")
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def following(language: str, server: StoppableServer) -> Iterator[Subscriber]:
    subscriber = Subscriber(language, server.url)
    try:
        yield subscriber
    finally:
        subscriber.script.end()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoppableServer]:
    with running_server(tmp_path) as server:
        yield server


@pytest.fixture
def subscriber(npm_client: None, server: StoppableServer) -> Iterator[Subscriber]:
    with following("js", server) as subscriber:
        yield subscriber


class Stopped:
    """One job whose run stands at one point of its life, and who follows it."""

    def __init__(self, server: StoppableServer, subscriber: Subscriber, wire: Probe) -> None:
        self.server = server
        self.subscriber = subscriber
        self.wire = wire
        self.job = ""

    def begin(self, point: int, *, retried: bool, hold: bool = False) -> None:
        self.job = self.wire.done("work:start", retried=retried)["result"]
        self.subscriber.until(self.job, "pending")
        self.server.stop_at(point)
        if hold:
            self.server.tell("hold")
        self.server.tell("go 2")
        assert self.server.hear("point") == f"point {point} {POINTS[point - 1]}"


def ends_of_killed(folder: Path, points: Iterable[int], retried: bool) -> list[str]:
    """The states that a subscriber is shown in the end, the process having been killed at each point."""
    ends: list[str] = []
    # PyPI's client comes back sooner than npm's.
    with running_server(folder) as server, following("py", server) as subscriber:
        for point in points:
            with probe(server.url) as wire:
                stopped = Stopped(server, subscriber, wire)
                stopped.begin(point, retried=retried)
                server.kill()
            server.start()
            server.tell("go 2")  # a run that had not begun is due
            ends.append(subscriber.until(stopped.job, "success", "failed"))
    return ends


@pytest.mark.parametrize("retried", [False, True], ids=["once", "again"])
def test_a_run_that_is_killed_writes_nothing_more_and_its_end_is_seen(tmp_path: Path, retried: bool) -> None:
    # A new attempt begins with what is in the file, to which two of the four points of a commit add nothing.
    points = [point for point in NUMBERS if not retried or POINTS[point - 1] not in _OF_STORAGE[::3]]
    lanes = [tmp_path / str(lane) for lane in range(LANES)]
    shares = [points[lane::LANES] for lane in range(LANES)]
    with ThreadPoolExecutor(LANES) as threads:
        found = list(threads.map(ends_of_killed, lanes, shares, [retried] * LANES))
    for lane, share, ends in zip(lanes, shares, found, strict=True):
        assert check_fencing(lane / "data.db") >= len(share) // 2
        for point, end in zip(share, ends, strict=True):
            # What is not in the file yet has not happened: before the mark is, the job runs anew.
            is_lost = IN_FILE_FROM < point < ENDED + IN_FILE_FROM
            assert end == ("failed" if is_lost and not retried else "success"), POINTS[point - 1]


@pytest.mark.parametrize("retried", [False, True], ids=["once", "again"])
def test_a_run_whose_time_passes_while_it_stands_writes_nothing_more(
    server: StoppableServer, subscriber: Subscriber, retried: bool
) -> None:
    ends: list[str] = []
    with probe(server.url) as wire:
        for point in NUMBERS:
            stopped = Stopped(server, subscriber, wire)
            stopped.begin(point, retried=retried)
            server.suspend()
            server.tell("go 1800")
            server.resume()
            ends.append(subscriber.until(stopped.job, "success", "failed"))
    server.kill()
    assert check_fencing(server.path) >= LAST_WAIT - 2
    late = ["success" if retried else "failed"] * (ENDED - MARKED)
    assert ends == ["success"] * (MARKED - 1) + late + ["success"] * (len(POINTS) - ENDED + 1)
    assert server.refused_count >= REFUSED


def test_a_run_that_is_cancelled_while_it_stands_writes_nothing_more(
    server: StoppableServer, subscriber: Subscriber
) -> None:
    ends: list[str] = []
    with probe(server.url) as wire:
        for point in NUMBERS:
            stopped = Stopped(server, subscriber, wire)
            # What it goes on with after this point ends at the next one where others have their turn.
            stopped.begin(point, retried=False, hold=True)
            server.suspend()
            wire.mutate("work:cancel", id=stopped.job)
            server.resume()
            if POINTS[point - 1] in _OF_STORAGE:
                server.tell("go 0")
            ends.append(subscriber.until(stopped.job, "success", "canceled"))
            server.tell("go 0")
            while wire.until("MutationResponse")["requestId"] != wire.next_request - 1:
                pass
    server.kill()
    assert check_fencing(server.path) >= LAST_WAIT - 6
    assert ends[:LAST_WAIT] == ["canceled"] * LAST_WAIT
    assert set(ends[LAST_WAIT:]) <= {"success", "canceled"}
    assert server.refused_count >= REFUSED
