"""h.89: does a job run by the clock, and never twice at a time?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import JsRun
from .server import CONFORMANCE, DevServer


class ClockworkServer(DevServer):
    app = CONFORMANCE.parent / "clockwork"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DevServer]:
    running = ClockworkServer(tmp_path / "data")
    running.start()
    try:
        yield running
    finally:
        running.kill()
        print(running.log)


def test_h89_an_interval_ticks(js: JsRun) -> None:
    js("crons", "ticks")


def test_h89_a_tick_is_left_out_while_the_run_before_goes_on(js: JsRun) -> None:
    js("crons", "overlap")
