"""Is it a function's own time that stops it, and not what others take of it?

The clocks are the test's own, and so are the watchdog's looks: a function passes time and is looked at.
"""

from __future__ import annotations

import gc
import io
import logging
import pdb
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.app import Database
from reactivedb.functions import own_time, watchdog

LIMIT_S = 1.0
SAMPLE_S = LIMIT_S / 8


class FakeMachine:
    """Clocks that only move when told to; there is one thread that computes."""

    def __init__(self) -> None:
        self.wall_s = 1_000.0
        self.computed_s = 10.0
        self.looks = 0

    def now_s(self) -> float:
        return self.wall_s

    def cpu_s(self, thread_id: int) -> float:
        return self.computed_s

    def pass_s(self, wall_s: float, *, computed_s: float = 0.0, look: bool = True) -> None:
        """Time passes in the function that calls, then the watchdog looks at it from its thread."""
        self.wall_s += wall_s
        self.computed_s += computed_s
        if look:
            self.looks += 1
            looking = threading.Thread(target=watchdog._watchdog.look)  # pyright: ignore[reportPrivateUsage]
            looking.start()
            looking.join()


machine = FakeMachine()


@rdb.query
def act(ctx: rdb.QueryCtx) -> str:
    steps[0]()
    return "ended"


steps: list[Callable[[], None]] = []


@pytest.fixture
def db(monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    machine.__init__()
    own_time.measure_collections()
    monkeypatch.setattr(own_time, "machine", machine)
    monkeypatch.setattr(watchdog, "_watchdog", watchdog._Watchdog(with_thread=False))  # pyright: ignore[reportPrivateUsage]
    with app_of(act).open() as db:
        yield db


def run(db: Database, step: Callable[[], None]) -> str:
    steps[:] = [step]
    return db.query(act)


def looks_until_stopped(db: Database, step: Callable[[], None], *, most: int = 500) -> int:
    """How often the watchdog looks, sample after sample, until it stops a function that goes on like that."""

    def go_on() -> None:
        while machine.looks < most:
            step()

    machine.looks = 0
    with pytest.raises(rdb.LimitExceededError) as caught:
        run(db, go_on)
    assert caught.value.code == "FunctionTimeout"
    return machine.looks


def test_what_is_computed_counts(db: Database) -> None:
    assert looks_until_stopped(db, lambda: machine.pass_s(SAMPLE_S, computed_s=SAMPLE_S)) == 8


def test_a_function_that_sleeps_is_stopped_as_soon_as_one_that_computes(db: Database) -> None:
    assert looks_until_stopped(db, lambda: machine.pass_s(SAMPLE_S)) == 8


def test_a_function_that_polls_is_stopped_after_ten_times_its_limit(db: Database) -> None:
    assert looks_until_stopped(db, lambda: machine.pass_s(SAMPLE_S, computed_s=0.001)) in range(60, 120)


def test_a_function_that_is_not_let_run_by_a_busy_machine_is_not_stopped(db: Database) -> None:
    def crowded_out() -> None:
        for _ in range(30):
            machine.pass_s(SAMPLE_S, computed_s=0.002)

    assert run(db, crowded_out) == "ended"


def test_a_function_whose_process_stood_still_for_an_hour_is_not_stopped(db: Database) -> None:
    def stopped_and_continued() -> None:
        for _ in range(5):
            machine.pass_s(3600.0)

    assert run(db, stopped_and_continued) == "ended"


def test_time_that_nobody_looked_at_is_not_the_functions_but_what_it_computed_is(db: Database) -> None:
    assert run(db, lambda: machine.pass_s(60.0, look=False)) == "ended"
    with pytest.raises(rdb.LimitExceededError):
        run(db, lambda: machine.pass_s(1.5, computed_s=1.5, look=False))
    assert run(db, lambda: machine.pass_s(0.9, computed_s=0.9, look=False)) == "ended"


@pytest.mark.parametrize("look", [True, False])
def test_a_pause_of_the_garbage_collector_is_not_the_functions_time(db: Database, look: bool) -> None:
    def collecting(phase: str, info: dict[str, int]) -> None:
        # Called behind the product's own callback: the time passes within the collection.
        if phase == "start" and info["generation"] == 2:
            machine.pass_s(5.0, computed_s=5.0, look=look)

    def collect() -> None:
        gc.collect()
        machine.pass_s(0.5, computed_s=0.5)

    gc.callbacks.append(collecting)
    try:
        assert run(db, collect) == "ended"
    finally:
        gc.callbacks.remove(collecting)
    assert looks_until_stopped(db, lambda: machine.pass_s(SAMPLE_S, computed_s=SAMPLE_S)) == 8


def test_a_finalizer_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            machine.looks = 0
            while machine.looks < 200:
                machine.pass_s(SAMPLE_S, computed_s=SAMPLE_S)

    def collect() -> None:
        Endless()
        gc.collect()

    monkeypatch.setattr(own_time, "machine", machine)
    monkeypatch.setattr(watchdog, "_watchdog", watchdog._Watchdog(with_thread=False))  # pyright: ignore[reportPrivateUsage]

    def quiet(unraisable: object) -> None: ...

    monkeypatch.setattr(sys, "unraisablehook", quiet)
    with (
        app_of(act, limits=rdb.Limits(uncounted_time_s_max=5)).open() as db,
        pytest.raises(rdb.LimitExceededError),
    ):
        run(db, collect)
    assert machine.looks in range(40, 60)


def test_a_watchdog_that_begins_measures_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "callbacks", [])
    monkeypatch.setattr(watchdog, "_watchdog", watchdog._Watchdog())  # pyright: ignore[reportPrivateUsage]
    with app_of(act).open() as db:
        run(db, lambda: None)
    assert len(gc.callbacks) == 1


@pytest.fixture
def slow_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`slow_to_import` takes a quarter of a minute."""
    paced = ModuleType("paced")
    paced.__dict__["machine"] = machine
    (tmp_path / "slow_to_import.py").write_text(
        "import paced\n"
        "for _ in range(120):\n"
        f"    paced.machine.pass_s({SAMPLE_S}, computed_s={SAMPLE_S})\n"
        "value = 1\n"
    )
    monkeypatch.setitem(sys.modules, "paced", paced)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield
    sys.modules.pop("slow_to_import", None)


def import_it() -> None:
    assert __import__("slow_to_import").value == 1


@pytest.mark.usefixtures("slow_module")
def test_an_import_is_neither_stopped_nor_counted_and_told_of_once(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(db, import_it) == "ended"
    told = [record.getMessage() for record in caplog.records if record.name == "reactivedb"]
    assert len(told) == 1
    assert "`notes:act` has been importing" in told[0]
    assert f"{__file__}:" in told[0]
    assert run(db, import_it) == "ended"

    def import_and_compute() -> None:
        sys.modules.pop("slow_to_import", None)
        import_it()
        machine.looks = 0
        while machine.looks < 100:
            machine.pass_s(SAMPLE_S, computed_s=SAMPLE_S)

    with pytest.raises(rdb.LimitExceededError):
        run(db, import_and_compute)
    # The first sample after the import may have been a part of it.
    assert machine.looks in (8, 9)


@pytest.mark.usefixtures("slow_module")
def test_what_a_function_imports_when_it_is_over_its_time_is_imported_whole(db: Database) -> None:
    def compute_and_import() -> None:
        machine.looks = 0
        try:
            while machine.looks < 100:
                machine.pass_s(SAMPLE_S, computed_s=SAMPLE_S)
        except BaseException:
            import_it()

    with pytest.raises(rdb.LimitExceededError):
        run(db, compute_and_import)
    assert sys.modules["slow_to_import"].value == 1


@pytest.mark.usefixtures("slow_module", "db")
def test_an_import_that_never_ends_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    with (
        app_of(act, limits=rdb.Limits(uncounted_time_s_max=10)).open() as db,
        caplog.at_level(logging.WARNING, logger="reactivedb"),
        pytest.raises(rdb.LimitExceededError),
    ):
        run(db, import_it)
    assert machine.looks in range(80, 100)
    assert "`uncounted_time_s_max`" in caplog.text


def test_a_debugger_that_does_not_trace_is_known_by_its_name(db: Database) -> None:
    def inspect_it() -> None:
        exec("for _ in range(100): machine.pass_s(1.0)", {"__name__": "ipdb.prompt", "machine": machine})

    assert run(db, inspect_it) == "ended"


class Prompt(io.StringIO):
    """Somebody at a debugger's prompt who takes some seconds, then lets the program go on."""

    def readline(self, size: int | None = -1, /) -> str:
        for _ in range(40):
            machine.pass_s(SAMPLE_S)
        return "continue\n"


def test_a_breakpoint_opens_the_debugger_and_its_time_does_not_count(
    db: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown = io.StringIO()
    # As `pdb.set_trace` does, which pytest has replaced.
    monkeypatch.setattr(
        sys,
        "breakpointhook",
        lambda: pdb.Pdb().set_trace(sys._getframe(1)),  # pyright: ignore[reportPrivateUsage]
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", Prompt())
    monkeypatch.setattr(sys, "stdout", shown)

    def stop_here() -> None:
        breakpoint()
        machine.looks = 0
        while machine.looks < 7:
            machine.pass_s(SAMPLE_S, computed_s=SAMPLE_S)

    def go_on_for_ever() -> None:
        breakpoint()
        machine.looks = 0
        while machine.looks < 100:
            machine.pass_s(SAMPLE_S, computed_s=SAMPLE_S)

    assert run(db, stop_here) == "ended"
    assert "stop_here()" in shown.getvalue()
    with pytest.raises(rdb.LimitExceededError):
        run(db, go_on_for_ever)
    assert machine.looks in (8, 9)
    assert sys.gettrace() is None


def test_a_debugger_of_another_make_is_known_by_its_trace_function(db: Database) -> None:
    def prompt(frame: FrameType, event: str, arg: object) -> None:
        sys.settrace(None)
        for _ in range(100):
            machine.pass_s(SAMPLE_S)

    def ignore(frame: FrameType, event: str, arg: object) -> None: ...

    def traced() -> None:
        sys._getframe().f_trace = prompt  # pyright: ignore[reportPrivateUsage]
        sys.settrace(ignore)
        machine.pass_s(SAMPLE_S)

    assert run(db, traced) == "ended"
