"""What is left of a call whose thread an exception has interrupted, at any of its instructions?"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from inline_app import app_of

import reactivedb as rdb

LONG = os.environ.get("REACTIVEDB_LONG") == "1"
PACKAGE = str(Path(rdb.__file__).parent) + os.sep


class Entry(rdb.Document, table="entries"):
    text: str


class Counter(rdb.Document, table="counters"):
    value: int


@rdb.mutation
def add(ctx: rdb.MutationCtx, text: str) -> int:
    """The counter and the number of entries are equal in every state that a commit leaves."""
    ctx.db.insert(Entry(text=text))
    counter = ctx.db.query(Counter).first()
    if counter is None:
        ctx.db.insert(Counter(value=1))
        return 1
    ctx.db.patch(counter.id, value=counter.value + 1)
    return counter.value + 1


@rdb.query
def state(ctx: rdb.QueryCtx) -> list[int]:
    counter = ctx.db.query(Counter).first()
    return [ctx.db.query(Entry).count(), 0 if counter is None else counter.value]


APP = app_of(Entry, Counter, add, state)


class Interrupt(BaseException):
    """As a signal handler might raise it."""


class _Interrupter:
    """Raises once, before the instruction of that number that this thread executes in the package."""

    def __init__(self, number: int) -> None:
        self._left = number

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self._left -= 1
            if self._left == 0:
                sys.settrace(None)
                raise Interrupt
        return self.trace

    @property
    def has_raised(self) -> bool:
        return self._left <= 0


def interrupted(call: Callable[[], object], number: int) -> bool:
    """Make the call with an exception raised at that instruction; False if it had fewer."""
    interrupter = _Interrupter(number)
    sys.settrace(interrupter.trace)
    try:
        call()
    except Interrupt:
        pass
    finally:
        sys.settrace(None)
    return interrupter.has_raised


def every_instruction(call: Callable[[int], object], check: Callable[[], None]) -> int:
    """Interrupt one call after the other, each an instruction later, until one comes to its end."""
    number = 1
    while interrupted(partial(call, number), number):
        check()
        number += 1
    return number


def check(db: rdb.Database) -> None:
    entries, counted = db.query(state)
    assert entries == counted
    assert db.mutation(add, "after") == entries + 1
    assert db.query(state) == [entries + 1, entries + 1]


@pytest.mark.slow
@pytest.mark.parametrize("path", [":memory:", "file.db"])
def test_a_mutation_interrupted_at_any_instruction_happens_whole_or_not_at_all(
    tmp_path: Path, path: str
) -> None:
    file = path if path == ":memory:" else tmp_path / path
    with APP.open(file) as db:
        with db.subscribe(state) as live:
            interrupted_count = every_instruction(
                lambda number: db.mutation(add, f"at {number}"), lambda: check(db)
            )
            assert interrupted_count > 50
            assert live.value == db.query(state)
        expected = db.query(state)
    if path != ":memory:":
        with APP.open(file) as db:
            assert db.query(state) == expected


@pytest.mark.slow
def test_a_query_interrupted_at_any_instruction_leaves_the_next_call_right() -> None:
    with APP.open() as db:
        db.mutation(add, "before")
        assert every_instruction(lambda _: db.query(state), lambda: check(db)) > 50


@pytest.mark.slow
def test_a_subscription_interrupted_at_any_instruction_leaves_the_next_one_right() -> None:
    with APP.open() as db:

        def follow(_: int) -> None:
            with db.subscribe(state) as live:
                live.wait_for_change()

        def right() -> None:
            with db.subscribe(state) as live:
                before = live.value
                check(db)
                assert live.wait_for_change(timeout_s=60) == [before[0] + 1] * 2

        assert every_instruction(follow, right) > 100


@pytest.mark.slow
def test_closing_interrupted_at_any_instruction_can_be_repeated(tmp_path: Path) -> None:
    number, raised = 1, True
    while raised:
        db = APP.open(tmp_path / "file.db", durability="relaxed")
        db.mutation(add, "one")
        raised = interrupted(db.close, number)
        db.close()
        with APP.open(tmp_path / "file.db", durability="relaxed") as again:
            check(again)
        number += 1
    assert number > 20


@contextmanager
def alarms(handler: Callable[..., None]) -> Iterator[random.Random]:
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    print(f"SEED={seed}")
    old = signal.signal(signal.SIGALRM, handler)
    try:
        yield random.Random(seed)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@pytest.mark.slow
def test_signals_at_random_moments_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    """Each call is acknowledged, refused or interrupted; only the last kind may be there or not."""
    acknowledged: set[str] = set()
    unsure: set[str] = set()
    armed = False

    def ring(signum: int, frame: FrameType | None) -> None:
        # Python may run the handler a little after the timer was stopped.
        if armed:
            raise Interrupt

    with alarms(ring) as rng, APP.open(tmp_path / "file.db") as db:
        for number in range(10_000 if LONG else 300):
            text = str(number)
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 1e-3))
                db.mutation(add, text)
                armed = False
                acknowledged.add(text)
            except Interrupt:
                armed = False
                unsure.add(text)
            signal.setitimer(signal.ITIMER_REAL, 0)
        entries, counted = db.query(state)
        assert entries == counted

    @rdb.query
    def texts(ctx: rdb.QueryCtx) -> list[str]:
        return [entry.text for entry in ctx.db.query(Entry)]

    limits = rdb.Limits(documents_read_max=100_000, array_length_max=100_000)
    with app_of(Entry, Counter, texts, limits=limits).open(tmp_path / "file.db") as db:
        stored = db.query(texts)
    assert len(stored) == len(set(stored)) == entries
    assert acknowledged <= set(stored) <= acknowledged | unsure
    print(f"{len(acknowledged)} acknowledged, {len(unsure)} interrupted")


def test_an_interrupted_function_commits_nothing_when_it_ends_later() -> None:
    entered, proceed, left = threading.Event(), threading.Event(), threading.Event()

    @rdb.mutation
    def slow(ctx: rdb.MutationCtx) -> None:
        ctx.db.insert(Entry(text="slow"))
        entered.set()
        proceed.wait()
        left.set()

    limits = rdb.Limits(user_time_s_max=float("inf"))
    with app_of(Entry, Counter, add, state, slow, limits=limits).open() as db:

        def ring(signum: int, frame: FrameType | None) -> None:
            raise Interrupt

        with alarms(ring):

            def interrupt() -> None:
                entered.wait()
                os.kill(os.getpid(), signal.SIGALRM)

            thread = threading.Thread(target=interrupt)
            thread.start()
            with pytest.raises(Interrupt):
                db.mutation(slow)
            thread.join()
        proceed.set()
        assert db.query(state) == [0, 0]
        assert left.is_set()


PROGRAM = """
import os, signal, sys, threading
import reactivedb as rdb

class Note(rdb.Document, table="notes"):
    text: str

@rdb.{kind}
def ends(ctx: rdb.{ctx}) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    waiting = threading.Event()
    {wait}

signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
app = rdb.App(sys.modules["__main__"], limits=rdb.Limits(user_time_s_max=5))
with app.open(sys.argv[1]) as db:
    {call}
    print("still here")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "ctx", "call"),
    [("query", "QueryCtx", "db.query(ends)"), ("mutation", "MutationCtx", "db.mutation(ends)")],
)
def test_sys_exit_in_a_signal_handler_ends_the_program(
    tmp_path: Path, kind: str, ctx: str, call: str
) -> None:
    program = PROGRAM.format(kind=kind, ctx=ctx, call=call, wait="waiting.wait(1)")
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "file.db")], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (7, ""), ended.stderr
