"""In a program of its own: the call is rolled back, and the exception goes on to the caller as it is."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.user_code import is_from_signal, text_of

from . import places
from .raising import KINDS, Panic, PanicInText, Unprintable


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutation_is_rolled_back_and_what_it_raised_goes_on_as_it_is(kind: str) -> None:
    with pytest.raises(BaseException) as plain:  # noqa: PT011 - whatever it is
        KINDS[kind].throw()
    with places.make_app().open() as db:
        for call in (db.mutation, db.query):
            function = places.in_mutation if call == db.mutation else places.in_query
            with pytest.raises(BaseException) as caught:  # noqa: PT011
                call(function, kind)  # type: ignore[arg-type]
            assert caught.type is plain.type
        assert db.query(places.count) == 0
        assert db.mutation(places.add, "others go on") == 1


def test_an_actions_own_panic_goes_on_to_the_caller_of_either_database() -> None:
    with places.make_app().open() as db:
        with pytest.raises(Panic):
            db.action(places.in_action, "base exception")
        with pytest.raises(SystemExit):
            db.action(places.in_task_of_action, "system exit")
        assert db.mutation(places.add, "others go on") == 1

    async def main() -> None:
        async with places.make_app().open_async() as database:
            with pytest.raises(Panic):
                await database.action(places.in_action, "base exception")
            assert await database.query(places.count) == 0

    anyio.run(main)


def test_a_live_query_that_raises_stop_async_iteration_does_not_look_like_its_end() -> None:
    async def main() -> None:
        async with (
            places.make_app().open_async() as database,
            database.subscribe(places.in_query, "stop async iteration") as results,
        ):
            with pytest.raises(RuntimeError, match="StopAsyncIteration"):
                async for _ in results:
                    pass

    anyio.run(main)


def test_a_storage_error_that_a_function_makes_up_undoes_nobody_elses_commit() -> None:
    async def main() -> None:
        async with places.make_app().open_async() as database:
            # Both are in one open group.
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(database.mutation, places.add, "kept")
                called = await database.runtime.call(
                    "mutation", "places:inMutation", {"kind": "storage error without super init"}
                )
            assert called.error is not None
            assert called.unavailable is None
            assert await database.query(places.count) == 1

    anyio.run(main)


def test_texts_of_errors_never_raise_and_have_a_bound() -> None:
    assert text_of(Unprintable()) == "(no text: `__str__` raised `RuntimeError`)"
    assert text_of(PanicInText()) == "(no text: `__str__` raised `Panic`)"
    assert len(text_of(ValueError("x" * 10_000_000))) < 200_000


def raised_by(send: signal.Signals) -> BaseException:
    try:
        signal.raise_signal(send)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


class _Handler:
    def __call__(self, number: int, frame: object) -> None:
        sys.exit(number)

    def method(self, number: int, frame: object) -> None:
        raise Panic


def test_what_a_signal_handler_raised_is_told_from_what_a_function_raised() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        for handler in (_Handler(), _Handler().method, lambda number, frame: sys.exit(1)):
            signal.signal(signal.SIGTERM, handler)
            assert is_from_signal(raised_by(signal.SIGTERM))
            for kind in KINDS.values():
                with pytest.raises(BaseException) as caught:  # noqa: PT011
                    kind.throw()
                assert not is_from_signal(caught.value)
    finally:
        signal.signal(signal.SIGTERM, before)
    interrupt = raised_by(signal.SIGINT)
    assert is_from_signal(interrupt)
    assert is_from_signal(BaseExceptionGroup("of a task group", [ValueError(), interrupt]))


def test_a_signal_that_strikes_while_a_function_runs_ends_the_call_which_is_whole_or_not_there() -> None:
    @rdb.mutation
    def stopped(ctx: rdb.MutationCtx) -> None:
        for text in ("one", "two"):
            ctx.db.insert(places.Note(text=text))
        signal.raise_signal(signal.SIGINT)

    @rdb.query
    def count(ctx: rdb.QueryCtx) -> int:
        return ctx.db.query(places.Note).count()

    with app_of(places.Note, stopped, count).open() as db:
        with pytest.raises(KeyboardInterrupt):
            db.mutation(stopped)
        assert db.query(count) in (0, 2)


SERVED = """
import signal, sys
import reactivedb as rdb
import stopped

signal.signal(signal.SIGUSR1, lambda number, frame: sys.exit(7))
app = rdb.App(stopped)
"""
STOPPED = """
import os, signal, sys
import reactivedb as rdb


@rdb.mutation
def by_function(ctx: rdb.MutationCtx) -> None:
    sys.exit(5)


@rdb.mutation
def by_signal(ctx: rdb.MutationCtx) -> None:
    signal.raise_signal(signal.SIGUSR1)
"""
CALLER = """
import sys, threading, httpx
import reactivedb as rdb
from reactivedb.server.serving import Listeners, run, serve_on
sys.path.insert(0, sys.argv[1])
import app

listeners = Listeners.bind("127.0.0.1", 0, 0)
url = listeners.addresses.cloud_url

def call():
    for path in ("stopped:byFunction", "stopped:bySignal"):
        try:
            answer = httpx.post(url + "/api/mutation", json={"path": path, "args": {}}, timeout=20).text
            print("ExitInFunction" in answer, flush=True)
        except httpx.HTTPError:
            print("gone", flush=True)

live = rdb.asgi(app.app, ":memory:")
run(lambda: serve_on(listeners, live, on_ready=lambda _: threading.Thread(target=call, daemon=True).start()))
"""


@pytest.mark.slow
def test_a_signal_handlers_exit_ends_the_server_and_a_functions_does_not(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SERVED)
    (tmp_path / "stopped.py").write_text(STOPPED)
    done = subprocess.run(
        [sys.executable, "-c", CALLER, str(tmp_path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.splitlines()[0] == "True", done.stderr
    assert done.returncode == 7, done.stderr
