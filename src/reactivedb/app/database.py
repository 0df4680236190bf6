"""How does a program use a database in its own process?

`Database` is synchronous: queries and mutations run in the caller's thread; one daemon thread with an event
loop runs actions, jobs and deliveries. `AsyncDatabase` lives in the caller's event loop, where commits that
are ready together share one sync. Both take the functions themselves, never paths.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import anyio
import anyio.to_thread

from ..engine import RetentionReport, SchemaProgress, schema_progress
from ..errors import StorageError
from ..functions import (
    ANONYMOUS,
    FunctionDefinition,
    Kind,
    PaginationOptions,
    PaginationResult,
    RegisteredAction,
    RegisteredFunction,
    RegisteredMutation,
    RegisteredQuery,
    log_lines,
)
from ..schema import Document, Id
from .live import AsyncLive, Live
from .past import AsyncPast, Past, Version, history_of
from .runtime import Runtime

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
D = TypeVar("D", bound=Document)


def _definition(runtime: Runtime, function: RegisteredFunction[..., Any], kind: Kind) -> FunctionDefinition:
    if not runtime.is_open:
        raise StorageError("the database is closed - open it again", code="DatabaseClosed")
    return runtime.runner.registry.of(function, kind)


class Database:
    """An open database for synchronous code; made by `App.open`. Any thread may call it."""

    def __init__(self, runtime: Runtime) -> None:
        log_lines.install()
        self._runtime = runtime
        started = threading.Event()
        self._failure: BaseException | None = None

        def serve() -> None:
            try:
                anyio.run(runtime.serve, started.set)
            except BaseException as error:  # handed to the thread that opened or closes
                self._failure = error
            finally:
                started.set()

        self._thread = threading.Thread(target=serve, name="reactivedb", daemon=True)
        self._thread.start()
        started.wait()
        if self._failure is not None:
            raise self._failure

    def query(self, function: RegisteredQuery[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a query; what it returns is durable. What it raises is raised."""
        definition = _definition(self._runtime, function, Kind.QUERY)
        result = self._runtime.runner.query(
            definition, self._runtime.runner.bind(definition, args, kwargs), ANONYMOUS
        )
        self._runtime.engine.make_durable(result.ts)
        return result.unwrap()

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
        definition = _definition(self._runtime, function, Kind.MUTATION)
        result = self._runtime.runner.mutation(
            definition, self._runtime.runner.bind(definition, args, kwargs), ANONYMOUS
        )
        self._runtime.engine.make_durable(result.ts)
        self._runtime.delivery.committed_elsewhere()
        return result.unwrap()

    def action(self, function: RegisteredAction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an action on the database's own loop and wait for it. What it raises is raised."""
        definition = _definition(self._runtime, function, Kind.ACTION)
        named = self._runtime.runner.bind(definition, args, kwargs)
        future = asyncio.run_coroutine_threadsafe(
            self._runtime.actions.run_in_tasks(definition, named), self._runtime.loop
        )
        return future.result().unwrap()

    def subscribe(self, function: RegisteredQuery[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Live[R]:
        """Follow a query's result."""
        definition = _definition(self._runtime, function, Kind.QUERY)
        return Live(self._runtime, definition, self._runtime.runner.dump(definition, args, kwargs))

    def run_until_idle(self, *, timeout_s: float = 10) -> None:
        """Wait until no job is due, no action runs and every live result is published.

        Raises:
            TimeoutError: something was still going on after `timeout_s`.
        """
        future = asyncio.run_coroutine_threadsafe(self._runtime.wait_until_idle(), self._runtime.loop)
        try:
            future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise TimeoutError(f"jobs or actions were still running after {timeout_s} s") from None

    @property
    def latest_ts(self) -> int:
        """The newest timestamp that is durable, in nanoseconds since the epoch."""
        return self._runtime.latest_ts

    def at(self, ts: int) -> Past:
        """The data as of `ts`, read-only; a `with` block keeps it readable for as long.

        Raises:
            ValidationError: `TimestampOutOfRange`, if it has not come yet or is no longer kept.
        """
        return Past(self._runtime, ts)

    def history(self, id: Id[D], *, limit: int = 100) -> list[Version[D]]:
        """The kept versions of a document, newest first.

        Raises:
            ValidationError: `InvalidId`.
        """
        return history_of(self._runtime, id, limit)

    def retention_report(self) -> RetentionReport:
        """How far back the past can be read, and what was given up."""
        runtime = self._runtime
        with runtime.engine.lock:
            return runtime.engine.retention.report(runtime.latest_ts)

    def schema_progress(self) -> list[SchemaProgress]:
        """Indexes that are being built, and migrations, with how far they have come."""
        return schema_progress(self._runtime.engine)

    def check(self) -> list[str]:
        """Read the whole file and say what is damaged or does not fit together, a sentence each; [] if all
        is sound. Others may go on meanwhile: it is the state of one moment that is checked.
        """
        return self._runtime.check()

    @property
    def runtime(self) -> Runtime:
        return self._runtime

    def close(self) -> None:
        """Cancel running actions, make all durable, release the file. Closing twice is harmless."""
        if self._thread.is_alive():
            self._runtime.loop.call_soon_threadsafe(self._runtime.stop)
            self._thread.join()
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

    async def query(self, function: RegisteredQuery[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a query; what it returns is durable. What it raises is raised."""
        runtime = self.runtime
        definition = _definition(runtime, function, Kind.QUERY)
        result = runtime.runner.query(definition, runtime.runner.bind(definition, args, kwargs), ANONYMOUS)
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
        runtime = self.runtime
        definition = _definition(runtime, function, Kind.MUTATION)
        result = runtime.runner.mutation(definition, runtime.runner.bind(definition, args, kwargs), ANONYMOUS)
        await runtime.durable(result.ts)
        return result.unwrap()

    async def action(self, function: RegisteredAction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an action and wait for it. What it raises is raised."""
        runtime = self.runtime
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
        """
        with anyio.fail_after(timeout_s):
            await self.runtime.wait_until_idle()

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
        runtime = self.runtime
        with runtime.engine.lock:
            return runtime.engine.retention.report(runtime.latest_ts)

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
        if serving is not None:
            self.runtime.stop()
            await serving

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
