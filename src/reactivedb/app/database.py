"""How does a program use a database in its own process?

`Database` is synchronous: one daemon thread runs the calls of all threads (`call_queue`), another with an
event loop runs actions, jobs and deliveries. `AsyncDatabase` lives in the caller's event loop, where commits
that are ready together share one sync. Both take the functions themselves, never paths.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import anyio
import anyio.to_thread

from ..engine import CompactionReport, RetentionReport, Running, SchemaProgress, schema_progress
from ..errors import RequestError, StorageError
from ..functions import (
    ANONYMOUS,
    ErasureReport,
    FunctionDefinition,
    Kind,
    PaginationOptions,
    PaginationResult,
    RegisteredAction,
    RegisteredFunction,
    RegisteredMutation,
    RegisteredQuery,
    RunResult,
    log_lines,
)
from ..schema import Document, Id
from ..storage import BackupReport
from ..user_code import is_from_library, is_of
from . import upkeep
from .call_queue import CallQueue, LoopCall
from .live import AsyncLive, Live
from .loop import loop_factory
from .past import AsyncPast, Past, Version, history_of
from .runtime import Runtime
from .upkeep import run_steps, run_steps_async

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
D = TypeVar("D", bound=Document)


def _definition(runtime: Runtime, function: RegisteredFunction[..., Any], kind: Kind) -> FunctionDefinition:
    if not runtime.is_open:
        raise StorageError("the database is closed - open it again", code="DatabaseClosed")
    return runtime.runner.registry.of(function, kind)


def _is_refused(result: RunResult) -> bool:
    """The storage did not let it run: nothing of it waits for the disk, and its own error says more."""
    return is_of(result.error, StorageError) and is_from_library(result.error)


def _retention_report(runtime: Runtime) -> RetentionReport:
    with runtime.engine.lock:
        return runtime.engine.retention.report(runtime.latest_ts)


class Database:
    """An open database for synchronous code; made by `App.open`. Any thread may call it.

    Every call may be interrupted by a signal: it has then happened whole or not at all.
    """

    def __init__(self, runtime: Runtime | Callable[[], Runtime]) -> None:
        log_lines.install()
        self._opened: Runtime | None = None
        self._loop_thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._calls = CallQueue(self._running)

        def open_() -> None:
            self._opened = opened = runtime if isinstance(runtime, Runtime) else runtime()
            self._serve(opened)

        try:
            self._calls.run(open_)
        except BaseException:
            self._calls.end(self._close)
            raise

    def _running(self) -> Running | None:
        return None if self._opened is None else self._opened.engine.running

    def _serve(self, runtime: Runtime) -> None:
        started = threading.Event()

        def serve() -> None:
            try:
                anyio.run(
                    runtime.serve, started.set, backend_options={"loop_factory": loop_factory(fast=False)}
                )
            except BaseException as error:  # handed to the thread that opened or closes
                self._failure = error
            finally:
                started.set()

        self._loop_thread = threading.Thread(target=serve, name="reactivedb", daemon=True)
        self._loop_thread.start()
        started.wait()
        if self._failure is not None:
            raise self._failure

    def query(self, function: RegisteredQuery[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a query; what it returns is durable. What it raises is raised."""
        runtime = self.runtime

        def run() -> RunResult:
            definition = _definition(runtime, function, Kind.QUERY)
            return runtime.runner.query(definition, runtime.runner.bind(definition, args, kwargs), ANONYMOUS)

        return self._calls.run(run, settle=self._durable).unwrap()

    def pages(
        self,
        function: RegisteredQuery[Concatenate[PaginationOptions, P], PaginationResult[T]],
        page_size: int,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Iterator[PaginationResult[T]]:
        """All pages of a query that takes `PaginationOptions` first; each is a query of its own."""
        options = PaginationOptions(num_items=page_size, cursor=None)
        while True:
            page = self.query(function, options, *args, **kwargs)
            yield page
            if page.is_done:
                return
            options = PaginationOptions(num_items=page_size, cursor=page.continue_cursor)

    def mutation(self, function: RegisteredMutation[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a mutation; it is durable when this returns. If it raises, nothing is written."""
        runtime = self.runtime

        def run() -> RunResult:
            definition = _definition(runtime, function, Kind.MUTATION)
            return runtime.runner.mutation(
                definition, runtime.runner.bind(definition, args, kwargs), ANONYMOUS
            )

        def settle(result: RunResult) -> None:
            self._durable(result)
            runtime.delivery.committed_elsewhere()

        return self._calls.run(run, settle=settle).unwrap()

    def _durable(self, result: RunResult) -> None:
        if not _is_refused(result):
            self.runtime.engine.make_durable(result.ts)

    def action(self, function: RegisteredAction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an action on the database's own loop and wait for it. What it raises is raised.

        An exception that a signal raises in the waiting thread cancels the action.

        Raises:
            RequestError: `NestedCall`, inside of an action or another function of this database.
        """
        runtime = self.runtime

        def bind() -> tuple[FunctionDefinition, dict[str, Any]]:
            definition = _definition(runtime, function, Kind.ACTION)
            return definition, runtime.runner.bind(definition, args, kwargs)

        self._check_not_on_loop("await `ctx.run_action`")
        definition, named = self._calls.run(bind)
        return self._on_loop(partial(runtime.actions.run_in_tasks, definition, named)).unwrap()

    def _on_loop(self, start: Callable[[], Coroutine[Any, Any, T]], *, timeout_s: float = math.inf) -> T:
        """Run a coroutine on the database's own loop and wait for it; interrupted, it is cancelled.

        Raises:
            TimeoutError
        """
        loop = self.runtime.loop
        call = LoopCall(start)
        loop.call_soon_threadsafe(call.begin)
        try:
            return call.wait(loop, timeout_s)
        except BaseException:
            with suppress(RuntimeError):  # the loop has ended, and the call with it
                loop.call_soon_threadsafe(call.cancel)
            raise

    def _check_not_on_loop(self, instead: str) -> None:
        """Raises: RequestError `NestedCall`; as `CallQueue.check_caller` does."""
        self._calls.check_caller()
        if self._loop_thread is threading.current_thread():
            raise RequestError(
                "an action of this database waits for its loop, which runs the action itself - "
                f"{instead} inside of an action",
                code="NestedCall",
            )

    def subscribe(self, function: RegisteredQuery[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Live[R]:
        """Follow a query's result."""
        runtime = self.runtime

        def subscribe() -> Live[R]:
            definition = _definition(runtime, function, Kind.QUERY)
            return Live(runtime, self._calls, definition, runtime.runner.dump(definition, args, kwargs))

        return self._calls.run(subscribe)

    def run_until_idle(self, *, timeout_s: float = 10) -> None:
        """Wait until no job is due, no action runs and every live result is published.

        Raises:
            TimeoutError: something was still going on after `timeout_s`.
            RequestError: `NestedCall`, inside of an action, which would wait for itself.
        """
        runtime = self.runtime
        self._check_not_on_loop("return, and wait outside")
        runtime.actions.check_outside("run_until_idle")
        try:
            self._on_loop(runtime.wait_until_idle, timeout_s=timeout_s)
        except TimeoutError:
            raise TimeoutError(f"jobs or actions were still running after {timeout_s} s") from None

    @property
    def latest_ts(self) -> int:
        """The newest timestamp that is durable, in nanoseconds since the epoch."""
        return self.runtime.latest_ts

    def at(self, ts: int) -> Past:
        """The data as of `ts`, read-only; a `with` block keeps it readable for as long.

        Raises:
            ValidationError: `TimestampOutOfRange`, if it has not come yet or is no longer kept.
        """
        return Past(self.runtime, ts, calls=self._calls)

    def history(self, id: Id[D], *, limit: int = 100) -> list[Version[D]]:
        """The kept versions of a document, newest first.

        Raises:
            ValidationError: `InvalidId`.
        """
        return self._calls.run(partial(history_of, self.runtime, id, limit))

    def retention_report(self) -> RetentionReport:
        """How far back the past can be read, and what was given up."""
        return self._calls.run(partial(_retention_report, self.runtime))

    def erase(self, id: Id[Any]) -> ErasureReport:
        """Delete a document and take it out of the past, recorded answers, jobs, files and the disk.

        Calls of others go on meanwhile. Interrupted or killed, it goes on when it is called again; a document
        that was deleted before is erased too. What is found, and what backups keep: `docs/backups.md`.

        Raises:
            ValidationError: `InvalidId`.
            RequestError: `DeleteRestricted`, by a rule of the schema; `JobRunning`.
            StorageError: `RewriteNeeded`, the file was laid out by an earlier version; `DatabaseBusy`,
            another
                program keeps the old bytes in the WAL.
        """
        return run_steps(self.runtime, self._calls, upkeep.erase(self.runtime, id))

    def compact(self) -> CompactionReport:
        """Give the room of what was deleted back to the disk, in short steps beside the calls of others.

        Raises:
            StorageError: `RewriteNeeded`, the file was laid out by an earlier version; `DiskFull`.
        """
        return run_steps(self.runtime, self._calls, upkeep.compact(self.runtime))

    def backup(self, folder: str | PathLike[str]) -> BackupReport:
        """Copy the state of one moment, its past and its files into a folder, where a backup may be already.

        Calls of others go on meanwhile. See `docs/backups.md`.

        Raises:
            StorageError: `BackupDamaged`, `OtherBackup`, `DiskFull` and others; the last backup is as it was.
        """
        return upkeep.backup_now(self.runtime, self._calls, folder)

    def schema_progress(self) -> list[SchemaProgress]:
        """Indexes that are being built, and migrations, with how far they have come."""
        return self._calls.run(partial(schema_progress, self.runtime.engine))

    def check(self) -> list[str]:
        """Read the whole file and say what is damaged or does not fit together, a sentence each; [] if all
        is sound. Others may go on meanwhile: it is the state of one moment that is checked.
        """
        # Not in the queue, where other calls would wait for it.
        self._calls.check_caller()
        return self.runtime.check()

    @property
    def runtime(self) -> Runtime:
        assert self._opened is not None, "nobody holds a database that could not be opened"
        return self._opened

    def close(self) -> None:
        """Cancel running actions, make all durable, release the file. Closing twice is harmless.

        In a forked process it does nothing: the file is the parent's.

        Raises:
            RequestError: `NestedCall`, inside of a function or an action of this database.
        """
        if self._calls.is_forked:
            return
        self._check_not_on_loop("close it elsewhere, not")
        self._calls.end(self._close)

    def _close(self) -> None:
        thread = self._loop_thread
        if thread is not None and thread.is_alive():
            with suppress(StorageError):  # it is ending by itself
                self.runtime.loop.call_soon_threadsafe(self.runtime.stop)
            thread.join()
            if self._failure is not None:
                raise self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncDatabase:
    """An open database inside an event loop; made by `App.open_async` and opened by `async with`."""

    def __init__(self, start: Callable[[], Runtime]) -> None:
        self._start = start
        self._opened: Runtime | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def runtime(self) -> Runtime:
        """Raises: StorageError `DatabaseClosed`, before it is opened."""
        if self._opened is None:
            raise StorageError(
                "the database is not open - use `async with app.open_async(...)`", code="DatabaseClosed"
            )
        return self._opened

    def _runtime_here(self) -> Runtime:
        """Raises: StorageError `DatabaseClosed`, `DatabaseForked`; RequestError `WrongEventLoop`."""
        runtime = self.runtime
        runtime.check_loop()
        return runtime

    async def query(self, function: RegisteredQuery[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a query; what it returns is durable. What it raises is raised."""
        runtime = self._runtime_here()
        definition = _definition(runtime, function, Kind.QUERY)
        result = runtime.runner.query(definition, runtime.runner.bind(definition, args, kwargs), ANONYMOUS)
        if not _is_refused(result):
            await runtime.durable(result.ts)
        return result.unwrap()

    async def pages(
        self,
        function: RegisteredQuery[Concatenate[PaginationOptions, P], PaginationResult[T]],
        page_size: int,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AsyncIterator[PaginationResult[T]]:
        """All pages of a query that takes `PaginationOptions` first; each is a query of its own."""
        options = PaginationOptions(num_items=page_size, cursor=None)
        while True:
            page = await self.query(function, options, *args, **kwargs)
            yield page
            if page.is_done:
                return
            options = PaginationOptions(num_items=page_size, cursor=page.continue_cursor)

    async def mutation(self, function: RegisteredMutation[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a mutation; it is durable when this returns. If it raises, nothing is written."""
        runtime = self._runtime_here()
        definition = _definition(runtime, function, Kind.MUTATION)
        result = runtime.runner.mutation(definition, runtime.runner.bind(definition, args, kwargs), ANONYMOUS)
        if not _is_refused(result):
            await runtime.durable(result.ts)
        return result.unwrap()

    async def action(self, function: RegisteredAction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an action and wait for it. What it raises is raised."""
        runtime = self._runtime_here()
        definition = _definition(runtime, function, Kind.ACTION)
        result = await runtime.actions.run_in_tasks(definition, runtime.runner.bind(definition, args, kwargs))
        return result.unwrap()

    def subscribe(
        self, function: RegisteredQuery[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncLive[R]:
        """Follow a query's result, in an `async with` block."""
        definition = _definition(self.runtime, function, Kind.QUERY)
        return AsyncLive(self.runtime, definition, self.runtime.runner.dump(definition, args, kwargs))

    async def run_until_idle(self, *, timeout_s: float = 10) -> None:
        """Wait until no job is due, no action runs and every live result is published.

        Raises:
            TimeoutError: something was still going on after `timeout_s`.
            RequestError: `NestedCall`, inside of an action, which would wait for itself.
        """
        runtime = self._runtime_here()
        runtime.actions.check_outside("run_until_idle")
        with anyio.fail_after(timeout_s):
            await runtime.wait_until_idle()

    @property
    def latest_ts(self) -> int:
        """The newest timestamp that is durable, in nanoseconds since the epoch."""
        return self.runtime.latest_ts

    def at(self, ts: int) -> AsyncPast:
        """The data as of `ts`, read-only; a `with` block keeps it readable for as long.

        Raises:
            ValidationError: `TimestampOutOfRange`, if it has not come yet or is no longer kept.
        """
        return AsyncPast(self.runtime, ts)

    def history(self, id: Id[D], *, limit: int = 100) -> list[Version[D]]:
        """The kept versions of a document, newest first.

        Raises:
            ValidationError: `InvalidId`.
        """
        return history_of(self.runtime, id, limit)

    def retention_report(self) -> RetentionReport:
        """How far back the past can be read, and what was given up."""
        return _retention_report(self.runtime)

    async def erase(self, id: Id[Any]) -> ErasureReport:
        """As `Database.erase`; the loop turns between its steps."""
        return await run_steps_async(self.runtime, upkeep.erase(self.runtime, id))

    async def compact(self) -> CompactionReport:
        """As `Database.compact`; the loop turns between its steps."""
        return await run_steps_async(self.runtime, upkeep.compact(self.runtime))

    async def backup(self, folder: str | PathLike[str]) -> BackupReport:
        """As `Database.backup`; it reads the file in another thread."""
        return await upkeep.backup_now_async(self.runtime, folder)

    def schema_progress(self) -> list[SchemaProgress]:
        """Indexes that are being built, and migrations, with how far they have come."""
        return schema_progress(self.runtime.engine)

    async def check(self) -> list[str]:
        """Read the whole file and say what is damaged or does not fit together, a sentence each; [] if all
        is sound. Others may go on meanwhile: it is the state of one moment that is checked.
        """
        return await anyio.to_thread.run_sync(self.runtime.check)

    async def open(self) -> None:
        """What `async with` does on entering. Raises as `App.open` does."""
        log_lines.install()
        runtime = self._start()
        started = asyncio.Event()
        # A task of its own holds the task group, so that the caller's errors are not wrapped into groups.
        self._serving = asyncio.create_task(runtime.serve(started.set), name="reactivedb")
        starting = asyncio.create_task(started.wait())
        await asyncio.wait({starting, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        if self._serving.done():
            await self._serving
        self._opened = runtime

    async def close(self) -> None:
        """Cancel running actions, make all durable, release the file. Closing twice is harmless."""
        serving, self._serving = self._serving, None
        if serving is not None and not self.runtime.is_forked:
            self.runtime.stop()
            await serving

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
