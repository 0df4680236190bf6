"""h.87, h.88, h.90: when do scheduled functions run, and does time stand still inside a function?"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from .conftest import JsRun
from .probe import Probe, add, probe
from .server import DevServer


@pytest.fixture
def wire(server: DevServer) -> Iterator[Probe]:
    with probe(server.url) as opened:
        yield opened


def test_h87_a_job_runs_after_its_commit_and_its_state_is_live(wire: Probe) -> None:
    wire.modify(add(0, "counter:value", name="c"))
    wire.until("Transition")
    job = wire.done("jobs:later", name="c", delayS=0)["result"]
    wire.modify(add(1, "jobs:state", id=job))
    while wire.results != {0: 1.0, 1: "success"}:
        wire.until("Transition")
        # The count is the job's own commit: it is never seen while the job is still to come.
        assert (wire.results[0], wire.results.get(1)) != (1.0, "pending")


def test_h87_a_job_of_a_failed_mutation_never_runs(wire: Probe) -> None:
    wire.modify(add(0, "counter:value", name="c"))
    wire.until("Transition")
    wire.mutate("jobs:laterButFail", name="c")
    assert wire.until("MutationResponse")["success"] is False
    # Jobs that are due run in the order of their time, so this one would come after the one that failed.
    job = wire.done("jobs:later", name="fence", delayS=0)["result"]
    wire.modify(add(1, "jobs:state", id=job))
    while wire.results.get(1) != "success":
        wire.until("Transition")
    assert wire.results[0] == 0


def test_h87_npm_sees_a_job_pending_in_progress_and_done(js: JsRun) -> None:
    js("schedules", "states")


def test_h87_npm_sees_a_job_run_after_its_commit_alone(js: JsRun) -> None:
    js("schedules", "afterCommit")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_h88_a_job_survives_a_restart_runs_once_and_a_cancelled_one_never(
    server: DevServer, end: str
) -> None:
    with probe(server.url) as wire:
        first = wire.done("jobs:later", name="due", delayS=0.5)["result"]
        cancelled = wire.done("jobs:later", name="cancelled", delayS=0.6)["result"]
        far = wire.done("jobs:later", name="far", delayS=3600)["result"]
        wire.done("jobs:cancel", id=cancelled)
        wire.done("jobs:later", name="fence", delayS=1.5)
    getattr(server, end)()
    server.start()
    with probe(server.url) as wire:
        names = ("due", "cancelled", "far", "fence")
        wire.modify(*(add(number, "counter:value", name=name) for number, name in enumerate(names)))
        wire.until("Transition")
        while wire.results[3] != 1:
            wire.until("Transition")
        assert [wire.results[number] for number in range(3)] == [1.0, 0.0, 0.0]
    # And the next run of the server does not run it again.
    server.stop()
    server.start()
    assert server.query("counter:value", name="due") == 1
    states = [server.query("jobs:state", id=job) for job in (first, cancelled, far)]
    assert states == ["success", "canceled", "pending"]


def test_h90_time_stands_still_inside_a_function_and_is_the_clocks(server: DevServer) -> None:
    before_ms = time.time() * 1000
    first, second = server.query("moments:twice")
    assert first == second
    assert abs(first - before_ms) < 1000
    chance = server.query("moments:chance")
    assert all(0 <= number < 1 for number in chance)
    assert len(set(chance)) == 3
