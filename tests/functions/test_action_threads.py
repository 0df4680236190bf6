"""May an action in a thread block, and does nothing of it commit once it is given up?"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from inline_app import app_of, module_of

import reactivedb as rdb
from reactivedb.app import Database
from reactivedb.functions import ThreadRun
from reactivedb.testing import FakeClock

# More than any machine takes; what is not waited for has a limit of its own.
LONG_S = 30.0


class Note(rdb.Document, table="notes"):
    text: str


@rdb.mutation
def write(ctx: rdb.MutationCtx, text: str) -> str:
    print("wrote", text)
    return ctx.db.insert(Note(text=text))


@rdb.query
def texts(ctx: rdb.QueryCtx) -> list[str]:
    return [note.text for note in ctx.db.query(Note)]


@rdb.query
def states(ctx: rdb.QueryCtx) -> list[str]:
    return [job["state"]["kind"] for job in ctx.db.system.query("_scheduled_functions")]


class Stage:
    """Where a blocking action has come to, and what it met."""

    def __init__(self) -> None:
        self.blocks = threading.Event()
        self.go = threading.Event()
        self.ended = threading.Event()
        self.met: list[str] = []
        self.thread = 0

    def block(self) -> None:
        self.thread = threading.get_ident()
        self.blocks.set()
        assert self.go.wait(LONG_S)

    async def attempt(self, step: Callable[[], Awaitable[Any]]) -> None:
        try:
            await step()
            self.met.append("done")
        except rdb.ReactiveDBError as error:
            self.met.append(error.code)


stage: list[Stage] = []
tasks: list[asyncio.Task[None]] = []


@rdb.action(thread=True)
async def block(ctx: rdb.ActionCtx) -> str:
    stage[0].block()
    await ctx.run_mutation(write, "behind the block")
    return "ended"


@rdb.action(thread=True)
async def hold_on(ctx: rdb.ActionCtx, nested: bool = False) -> None:
    """Tries everything once it was given up."""
    now = stage[0]
    id = await ctx.storage.store(b"kept")
    blob = await ctx.storage.get(id)
    assert blob is not None
    held = blob.stream()
    assert await anext(held) == b"kept"
    await ctx.run_mutation(write, "before")
    try:
        now.block()
    finally:
        # Shielded, as one that holds on to its work would.
        with anyio.CancelScope(shield=True):
            await now.attempt(lambda: ctx.run_mutation(write, "never"))
            await now.attempt(lambda: ctx.run_query(texts))
            await now.attempt(lambda: ctx.run_action(block))
            await now.attempt(lambda: ctx.scheduler.run_after(0, write, "never"))
            await now.attempt(lambda: ctx.scheduler.cancel("any"))
            await now.attempt(lambda: ctx.storage.store(b"never"))
            await now.attempt(lambda: ctx.storage.delete(id))
            await now.attempt(blob.read)
            await now.attempt(read_variable(ctx))
        now.ended.set()


def read_variable(ctx: rdb.ActionCtx) -> Callable[[], Awaitable[Any]]:
    async def read() -> None:
        ctx.env.get("ANY")

    return read


@rdb.action(thread=True)
async def reach(ctx: rdb.ActionCtx) -> list[Any]:
    """Uses all of its context."""
    print("from the thread")
    await ctx.run_mutation(write, "one")
    job = await ctx.scheduler.run_after(3600, write, "late")
    await ctx.scheduler.cancel(job)
    await ctx.scheduler.run_after(0, write, "job")

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            await asyncio.sleep(0)
            yield bytes([number]) * 300_000

    id = await ctx.storage.store(pieces(), content_type="text/plain")
    blob = await ctx.storage.get(id)
    assert blob is not None
    read = [piece async for piece in blob.stream()]
    await ctx.storage.delete(id)
    return [
        await ctx.run_query(texts),
        await ctx.run_action(near),
        await ctx.run_action(far),
        ctx.env.get("ANY", "unset"),
        sum(map(len, read)),
        len(read) > 1,
        ctx.now_ms > 0,
        threading.get_ident() != threading.main_thread().ident,
    ]


@rdb.action
async def near(ctx: rdb.ActionCtx) -> str:
    await ctx.run_mutation(write, "near")
    return threading.current_thread().name


@rdb.internal_action(thread=True)
async def far(ctx: rdb.ActionCtx) -> str:
    await ctx.run_mutation(write, "far")
    return threading.current_thread().name


@rdb.action(thread=True)
async def fail(ctx: rdb.ActionCtx, how: str) -> None:
    if how == "application":
        raise rdb.ApplicationError({"how": how})
    if how == "exit":
        raise SystemExit(3)
    if how == "awaited":
        task = asyncio.create_task(asyncio.sleep(LONG_S))
        task.cancel()
        await task
    await ctx.run_mutation(refuse)


@rdb.mutation
def refuse(ctx: rdb.MutationCtx) -> None:
    raise rdb.ApplicationError("refused")


@rdb.action(thread=True)
async def leave_a_task(ctx: rdb.ActionCtx) -> None:
    async def later() -> None:
        try:
            await asyncio.sleep(LONG_S)
        finally:
            await stage[0].attempt(lambda: ctx.run_mutation(write, "never"))
            stage[0].ended.set()

    tasks[:] = [asyncio.create_task(later())]
    await asyncio.sleep(0)


@rdb.mutation
def schedule(ctx: rdb.MutationCtx) -> str:
    return ctx.scheduler.run_after(0, hold_on)


@rdb.mutation
def schedule_calling(ctx: rdb.MutationCtx, called: str) -> str:
    return ctx.scheduler.run_after(0, call_and_block, called)


@rdb.mutation
def cancel(ctx: rdb.MutationCtx, id: str) -> None:
    ctx.scheduler.cancel(id)


@rdb.action(thread=True)
async def wait_there(ctx: rdb.ActionCtx) -> None:
    stage[0].blocks.set()
    try:
        await asyncio.sleep(LONG_S)
    except asyncio.CancelledError:
        stage[0].met.append("cancelled")
        with anyio.CancelScope(shield=True):
            await stage[0].attempt(lambda: ctx.run_mutation(write, "in its grace"))
        raise


@rdb.action(thread=True)
async def call_near(ctx: rdb.ActionCtx) -> None:
    await ctx.run_action(near_and_wait)


@rdb.action
async def near_and_wait(ctx: rdb.ActionCtx) -> None:
    stage[0].blocks.set()
    await wait_and_read(ctx)


async def wait_and_read(ctx: rdb.ActionCtx) -> None:
    try:
        await anyio.sleep(LONG_S)
    finally:
        stage[0].met.append("cancelled")
        with anyio.CancelScope(shield=True):
            await stage[0].attempt(lambda: ctx.run_query(texts))
        stage[0].ended.set()


@rdb.internal_action(thread=True)
async def far_and_wait(ctx: rdb.ActionCtx) -> None:
    stage[0].blocks.set()
    await wait_and_read(ctx)


@rdb.action(thread=True)
async def call_and_block(ctx: rdb.ActionCtx, called: str) -> None:
    tasks[:] = [asyncio.create_task(ctx.run_action(far_and_wait if called == "far" else near_and_wait))]
    assert await asyncio.to_thread(stage[0].blocks.wait, LONG_S)
    stage[0].blocks.clear()
    stage[0].block()


MEMBERS = (
    Note, write, texts, states, block, hold_on, reach, near, far, fail, refuse, leave_a_task, schedule,
    cancel, wait_there, call_near, near_and_wait, far_and_wait, call_and_block, schedule_calling,
)  # fmt: skip


@pytest.fixture
def now() -> Iterator[Stage]:
    stage[:] = [Stage()]
    yield stage[0]
    stage[0].go.set()


@pytest.fixture
def db() -> Iterator[Database]:
    with app_of(*MEMBERS).open() as db:
        yield db


def start(run: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Run it beside; what it gives or raises."""
    outcome: list[Any] = []

    def there() -> None:
        try:
            outcome.append(run())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=there, daemon=True)
    thread.start()
    return thread, outcome


def joined(thread: threading.Thread) -> None:
    thread.join(LONG_S)
    assert not thread.is_alive()


def test_an_action_that_blocks_in_its_thread_holds_up_nobody(db: Database, now: Stage) -> None:
    blocking, outcome = start(lambda: db.action(block))
    assert now.blocks.wait(LONG_S)
    assert db.action(near) == "reactivedb"
    assert db.query(texts) == ["near"]
    now.go.set()
    joined(blocking)
    assert outcome == ["ended"]
    assert db.query(texts) == ["near", "behind the block"]


def test_all_of_the_context_works_from_a_thread(db: Database, now: Stage) -> None:
    found = db.action(reach)
    assert found == [
        ["one", "job"] if "job" in found[0] else ["one"],
        "reactivedb",
        "reactivedb notes:far",
        "unset",
        900_000,
        True,
        True,
        True,
    ]
    db.run_until_idle()
    assert sorted(db.query(texts)) == ["far", "job", "near", "one"]


def test_lines_of_the_thread_and_of_what_it_calls_are_the_runs_own(db: Database) -> None:
    logs: list[list[str]] = []
    db.runtime.report.on_run = lambda run: logs.append(list(run.log_lines))
    db.action(reach)
    assert logs[-1][:2] == ["[LOG] 'from the thread'", "[LOG] 'wrote' 'one'"]


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("application", "ApplicationError"),
        ("awaited", "AwaitedCancelled"),
        ("mutation", "ApplicationError"),
    ],
)
def test_what_is_raised_in_the_thread_is_raised_to_the_caller(db: Database, how: str, code: str) -> None:
    with pytest.raises(rdb.ReactiveDBError) as caught:
        db.action(fail, how)
    assert caught.value.code == code
    assert db.action(near) == "reactivedb"


def test_an_exit_in_the_thread_is_raised_to_the_caller_as_it_is(db: Database) -> None:
    with pytest.raises(SystemExit) as ended:
        db.action(fail, "exit")
    assert ended.value.code == 3
    assert db.action(near) == "reactivedb"


def test_closing_waits_a_bounded_time_for_one_that_blocks_and_nothing_of_it_commits(
    tmp_path: Path, now: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_of(*MEMBERS, limits=rdb.Limits(action_thread_stop_s=0.02))
    db = app.open(tmp_path / "data.db")
    blocking, outcome = start(lambda: db.action(hold_on))
    assert now.blocks.wait(LONG_S)
    db.close()
    joined(blocking)
    assert [error.code for error in outcome] == ["DatabaseClosed"]
    assert db.runtime.actions.threads.abandoned_count == 1
    assert "the action `notes:holdOn` was cancelled and still blocks" in caplog.text
    assert not now.ended.is_set()
    now.go.set()
    assert now.ended.wait(LONG_S)
    assert now.met == ["ActionFenced"] * 9
    with app.open(tmp_path / "data.db") as db:
        assert db.query(texts) == ["before"]


def test_closing_waits_for_one_that_ends_in_time(now: Stage) -> None:
    with app_of(*MEMBERS, limits=rdb.Limits(action_thread_stop_s=LONG_S)).open() as db:
        waiting, _ = start(lambda: db.action(wait_there))
        assert now.blocks.wait(LONG_S)
    joined(waiting)
    # What it does after that comes before the fence, or is refused.
    assert now.met in (["cancelled", "done"], ["cancelled", "ActionFenced"])
    assert db.runtime.actions.threads.abandoned_count == 0


def test_a_job_that_is_cancelled_while_it_blocks_is_fenced_and_the_database_goes_on(now: Stage) -> None:
    with app_of(*MEMBERS, limits=rdb.Limits(action_thread_stop_s=0.02)).open() as db:
        id = db.mutation(schedule)
        assert now.blocks.wait(LONG_S)
        db.mutation(cancel, id)
        db.run_until_idle()
        threads = db.runtime.actions.threads
        assert (threads.running, threads.abandoned_count) == (1, 1)
        now.go.set()
        assert now.ended.wait(LONG_S)
        assert now.met == ["ActionFenced"] * 9
        assert db.query(texts) == ["before"]
        assert db.query(states) == ["canceled"]


def test_a_job_in_a_thread_that_is_over_its_time_is_given_up(now: Stage) -> None:
    clock = FakeClock()
    limits = rdb.Limits(action_thread_stop_s=0.02, action_time_s_max=60)
    with app_of(*MEMBERS, limits=limits).open(clock=clock) as db:
        db.mutation(schedule)
        assert now.blocks.wait(LONG_S)
        clock.advance(61)
        db.run_until_idle()
        assert db.query(states) == ["failed"]
        now.go.set()
        assert now.ended.wait(LONG_S)
        assert db.query(texts) == ["before"]


def test_until_the_fence_stands_a_cancelled_job_has_no_lease_to_write_with(now: Stage) -> None:
    with app_of(*MEMBERS, limits=rdb.Limits(action_thread_stop_s=LONG_S)).open() as db:
        id = db.mutation(schedule)
        assert now.blocks.wait(LONG_S)
        db.mutation(cancel, id)
        now.go.set()
        assert now.ended.wait(LONG_S)
        db.run_until_idle()
        assert now.met[0] == "LeaseLost"
        assert now.met[3] == "LeaseLost"
        assert db.query(texts) == ["before"]


def test_a_task_that_outlives_the_function_reaches_nothing(db: Database, now: Stage) -> None:
    db.action(leave_a_task)
    assert now.ended.wait(LONG_S)
    assert now.met == ["ActionFenced"]
    assert db.query(texts) == []


def test_what_an_action_in_a_thread_has_called_is_cancelled_with_it(now: Stage) -> None:
    with app_of(*MEMBERS, limits=rdb.Limits(action_thread_stop_s=LONG_S)).open() as db:
        calling, _ = start(lambda: db.action(call_near))
        assert now.blocks.wait(LONG_S)
    joined(calling)
    # What it does after that comes before the fence, or is refused.
    assert now.met in (["cancelled", "done"], ["cancelled", "ActionFenced"])


@pytest.mark.parametrize("called", ["near", "far"])
def test_what_an_action_that_blocks_has_called_is_cancelled_and_fenced_with_it(
    now: Stage, called: str
) -> None:
    with app_of(*MEMBERS, limits=rdb.Limits(action_thread_stop_s=0.05)).open() as db:
        id = db.mutation(schedule_calling, called)
        while db.runtime.actions.running < 2 or not now.thread:
            assert now.blocks.wait(LONG_S)
        db.mutation(cancel, id)
        # The one that called it blocks all the while.
        assert now.ended.wait(LONG_S)
        assert now.met == ["cancelled", "ActionFenced"]


def test_a_call_that_was_on_its_way_when_the_fence_was_set_does_not_begin() -> None:
    async def main() -> None:
        begun: list[str] = []

        async def begin() -> None:
            begun.append("begun")

        async def nothing() -> None: ...

        run = ThreadRun("notes:any", stop_s=LONG_S, on_gone=lambda: None)
        on_its_way = run._begin(begin)  # pyright: ignore[reportPrivateUsage]
        await run.run(nothing)
        with pytest.raises(rdb.RequestError) as caught:
            await on_its_way
        assert (caught.value.code, begun) == ("ActionFenced", [])

    anyio.run(main)


def test_an_asynchronous_database_runs_them_too(now: Stage) -> None:
    async def main() -> None:
        limits = rdb.Limits(action_thread_stop_s=0.02)
        async with app_of(*MEMBERS, limits=limits).open_async() as db:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(db.action, hold_on)
                await anyio.to_thread.run_sync(now.blocks.wait, LONG_S)
                assert await db.query(texts) == ["before"]
                tasks.cancel_scope.cancel()
            await db.run_until_idle()
            now.go.set()
            await anyio.to_thread.run_sync(now.ended.wait, LONG_S)
            assert now.met == ["ActionFenced"] * 9
            assert await db.query(texts) == ["before"]

    anyio.run(main)


def test_threads_that_were_left_behind_keep_their_places(now: Stage) -> None:
    limits = rdb.Limits(action_thread_stop_s=0.02, action_threads_max=1)
    with app_of(*MEMBERS, limits=limits).open() as db:
        id = db.mutation(schedule)
        assert now.blocks.wait(LONG_S)
        db.mutation(cancel, id)
        db.run_until_idle()
        waiting, outcome = start(lambda: db.action(far))
        assert db.action(near) == "reactivedb"
        assert outcome == []
        now.go.set()
        joined(waiting)
        assert outcome == ["reactivedb notes:far"]


def test_an_action_in_a_thread_is_refused_one_more_rather_than_left_waiting_for_itself(now: Stage) -> None:
    with app_of(*MEMBERS, limits=rdb.Limits(action_threads_max=1)).open() as db:
        with pytest.raises(rdb.LimitExceededError) as caught:
            db.action(reach)
        assert caught.value.code == "TooManyActionThreads"
        assert db.action(far) == "reactivedb notes:far"


@rdb.internal_action(thread=True)
async def tick(ctx: rdb.ActionCtx) -> None:
    await ctx.run_mutation(write, threading.current_thread().name)


def test_a_cron_job_runs_in_a_thread_too() -> None:
    clock = FakeClock()
    crons = rdb.Crons()
    crons.interval("tick", tick, minutes=1)
    app = rdb.App(module_of(Note, write, texts, tick), root="", crons=crons)
    with app.open(clock=clock) as db:
        db.run_until_idle()
        assert db.query(texts) == ["reactivedb notes:tick"]
        clock.advance(60)
        db.run_until_idle()
        assert len(db.query(texts)) == 2


@rdb.action(thread=True)
async def write_past_its_context(ctx: rdb.ActionCtx) -> None:
    stage[0].block()
    for write_it in (lambda: databases[0].mutation(write, "never"), lambda: databases[0].query(texts)):
        try:
            write_it()
            stage[0].met.append("done")
        except rdb.RequestError as error:
            stage[0].met.append(error.code)
    stage[0].ended.set()


databases: list[Database] = []


def test_a_fenced_run_writes_by_no_other_way_either(now: Stage) -> None:
    limits = rdb.Limits(action_thread_stop_s=0.02)
    with app_of(
        Note, write, texts, cancel, schedule_past, write_past_its_context, limits=limits
    ).open() as db:
        databases[:] = [db]
        id = db.mutation(schedule_past)
        assert now.blocks.wait(LONG_S)
        db.mutation(cancel, id)
        db.run_until_idle()
        now.go.set()
        assert now.ended.wait(LONG_S)
        assert now.met == ["ActionFenced", "done"]
        assert db.query(texts) == []


@rdb.mutation
def schedule_past(ctx: rdb.MutationCtx) -> str:
    return ctx.scheduler.run_after(0, write_past_its_context)


@pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="looks at the files that this process has open"
)
def test_what_a_thread_that_was_left_behind_has_open_is_closed(tmp_path: Path, now: Stage) -> None:
    limits = rdb.Limits(action_thread_stop_s=0.02)
    with app_of(*MEMBERS, limits=limits).open(tmp_path / "data.db") as db:
        id = db.mutation(schedule)
        assert now.blocks.wait(LONG_S)
        assert open_below(tmp_path, "files") == 1
        db.mutation(cancel, id)
        db.run_until_idle()
        assert open_below(tmp_path, "files") == 0


def open_below(folder: Path, word: str) -> int:
    """Files of a folder that this process has open, of those with a word in their path."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    targets: list[str] = []
    for link in links:
        try:
            targets.append(str(link.readlink()))
        except FileNotFoundError:  # that of the listing itself
            continue
    return sum(target.startswith(str(folder)) and word in target for target in targets)


@pytest.mark.slow
def test_the_process_ends_although_a_thread_blocks_for_ever(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import threading\n"
        "import reactivedb as rdb\n"
        "blocks = threading.Event()\n"
        "@rdb.action(thread=True)\n"
        "async def block(ctx: rdb.ActionCtx) -> None:\n"
        "    blocks.set()\n"
        "    threading.Event().wait()\n"
        "@rdb.mutation\n"
        "def start(ctx: rdb.MutationCtx) -> None:\n"
        "    ctx.scheduler.run_after(0, block)\n"
        "if __name__ == '__main__':\n"
        "    import program\n"
        "    with rdb.App(program, root='', limits=rdb.Limits(action_thread_stop_s=0.05)).open() as db:\n"
        "        db.mutation(program.start)\n"
        "        program.blocks.wait()\n"
        "    print('closed')\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr
