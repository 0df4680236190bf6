"""h.89: does a job run by the clock, and never twice at a time?"""

from __future__ import annotations

from .conftest import JsRun
from .server import APPS

APP = APPS / "clockwork"


def test_h89_an_interval_ticks(js: JsRun) -> None:
    js("crons", "ticks")


def test_h89_a_tick_is_left_out_while_the_run_before_goes_on(js: JsRun) -> None:
    js("crons", "overlap")
