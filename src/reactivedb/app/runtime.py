"""How do calls, commits, jobs and live queries of one open database work together?

The only place where the parts are put together. A runtime belongs to one event loop: the caller's own, or
that of the daemon thread of a synchronous database. Its heart is `_tick`: commit the open group into the
file, sync, tell those who waited, run the live queries that were touched, publish. Nothing that a commit
changed leaves the process before that commit is durable.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
import anyio.to_thread

from ..engine import Engine
from ..errors import RequestError, StorageError, ValidationError
from ..functions import (
    ANONYMOUS,
    SYSTEM_TABLES,
    ActionCtx,
    CallError,
    FunctionDefinition,
    Identity,
    Jobs,
    Kind,
    RegisteredFunction,
    RequestKey,
    Run,
    Runner,
    RunResult,
    call_action,
    describe,
    encoded_result,
    guard,
    log_lines,
    request_id_of,
)
from ..storage import Storage
from ..subscriptions import LiveQuery, QueryCache, QuerySet
from ..values import Value, from_jsonable

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ..clock import Clock
    from .declaration import App

# A thread hop costs about 0.1 ms, so a sync that is not much slower is done in place.
_INLINE_SYNC_MAX_S = 0.0005
# How often recorded answers and finished jobs are looked through for what is too old.
_FORGET_INTERVAL_NS = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class CallResult:
    """What a caller outside is told: the value's JSON or the error, durable when this exists."""

    value: bytes | None
    error: CallError | None
    log_lines: list[str]
    ts: int


@dataclass(frozen=True, slots=True)
class RunLog:
    """One finished run, for the log of the server."""

    kind: Kind
    path: str
    duration_s: float
    error: CallError | None = None
    log_lines: Sequence[str] = field(default_factory=tuple[str, ...])


class Subscriber(Protocol):
    """A client with a query set."""

    def prepare(self, ts: int) -> Callable[[StorageError | None], None] | None:
        """Take what is to be published of the state at `ts`, under the engine's lock.

        What is given back is called once `ts` is durable, or with the error that undid it. None: nothing
        is due, or the client cannot take anything now.
        """
        ...


class Runtime:
    """One open database."""

    def __init__(self, app: App, storage: Storage, *, clock: Clock, production: bool = False) -> None:
        if not production:
            guard.install()
        self.app = app
        self.production = production
        self.limits = app.limits
        self.engine = Engine(storage, clock=clock, limits=app.limits)
        self.engine.declare(app.schema.tables.values(), SYSTEM_TABLES)
        self.engine.forget_outcomes()
        self._forgot_ns = clock.now_ns()
        self.runner = Runner(self.engine, app.registry)
        self.cache = QueryCache(
            self.engine, self.runner, describe=self._describe_query_error, on_run=self._log_live_run
        )
        self.jobs = Jobs(self.engine, self)
        # The server's log of runs; called on whatever thread the run was made.
        self.on_run: Callable[[RunLog], None] | None = None
        # Called once when the storage is closed for good; a server ends itself then.
        self.on_broken: Callable[[StorageError], None] | None = None
        self.broken: StorageError | None = None
        # Set by whoever knows the admin key; without it, nobody is an administrator.
        self.is_admin_key: Callable[[str], bool] = _no_admin_key
        self._inline_sync = storage.sync_cost_s <= _INLINE_SYNC_MAX_S
        self._syncing = False
        self._tick_scheduled = False
        self._due: dict[Subscriber, None] = {}
        # While set, whoever becomes due is served by the delivery that is going on.
        self._delivering = False
        self._actions_running = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._tasks: TaskGroup | None = None
        self._stop = asyncio.Event()
        self._closed = False
        # The functions of versions before the last reload, which running actions may still refer to.
        self._retired: dict[int, FunctionDefinition] = {}
        # Set whenever something ended that `wait_until_idle` may have waited for.
        self._activity = asyncio.Event()
        self._idle_awaited = 0

    # Life

    async def serve(self, started: Callable[[], None]) -> None:
        """Run jobs, actions and deliveries until `stop` or cancellation, then make all durable and close."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        try:
            self.jobs.recover()
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                if self.jobs.enabled:
                    tasks.start_soon(self.jobs.run, tasks)
                started()
                await self._stop.wait()
                tasks.cancel_scope.cancel()
        finally:
            self._tasks = None
            self._closed = True
            self.engine.close()

    def stop(self) -> None:
        """End `serve`: running actions are cancelled, their jobs fail. Called on the loop."""
        self._stop.set()

    @property
    def is_open(self) -> bool:
        return not self._closed

    def reload(self, app: App) -> None:
        """Serve another version of the application; when it raises, the old one serves on.

        Running actions finish on the old code; every live query runs again on the new.

        Raises:
            SchemaError: what is stored does not fit the new schema.
        """
        with self.engine.lock:
            self.engine.declare(app.schema.tables.values(), SYSTEM_TABLES)
            self._retired.update((id(known.reference), known) for known in self.app.registry)
            self.app = app
            self.runner = Runner(self.engine, app.registry)
            self.cache.reload(self.runner)
        self.refresh_soon()

    # Calls from outside

    async def call(
        self,
        kind: str,
        path: str,
        args: object,
        *,
        identity: Identity = ANONYMOUS,
        internal: bool = False,
        at_ts: int | None = None,
    ) -> CallResult:
        """Run a function by path with arguments from the wire; `kind` "any" takes what it is.

        Never raises for what the function does; what the answer reflects is durable.
        """
        allowed = internal or identity.is_admin
        try:
            wanted = None if kind == "any" else Kind(kind)
            definition = self.runner.registry.find(path, wanted, internal=allowed)
            named = self.runner.parse(definition, args_of(args))
            match definition.kind:
                case Kind.QUERY:
                    result = self._timed(definition, lambda: self._query(definition, named, identity, at_ts))
                case Kind.MUTATION:
                    result = self._timed(definition, lambda: self._mutation(definition, named, identity))
                case Kind.ACTION:
                    result = await self.run_action(definition, named, identity)
        except RequestError as error:
            result = RunResult(self.engine.committer.applied_ts, error=error)
        try:
            await self.durable(result.ts)
        except StorageError as error:
            result.error = error
        return self.answer(result, identity, request_id_of(path, time.time_ns()))

    def start_mutation(
        self,
        path: str,
        args: object,
        identity: Identity,
        *,
        key: RequestKey,
        done: Callable[[CallResult], None],
    ) -> None:
        """Run a client's mutation now; `done` is called once its outcome is durable, in order of calls."""
        request_id = request_id_of(key.session_id, key.request_id)
        try:
            definition = self.runner.registry.find(path, Kind.MUTATION, internal=identity.is_admin)
            named = self.runner.parse(definition, args_of(args))
            result = self._timed(definition, lambda: self._mutation(definition, named, identity, key))
        except RequestError as error:
            result = RunResult(self.engine.committer.applied_ts, error=error)

        def durable(error: StorageError | None) -> None:
            if error is not None:
                result.error = error
            done(self.answer(result, identity, request_id))

        with self.engine.lock:
            self.engine.committer.when_durable(result.ts, durable)
        self.committed()

    def start_action(
        self,
        path: str,
        args: object,
        identity: Identity,
        *,
        key: RequestKey,
        done: Callable[[CallResult], None],
    ) -> None:
        """Start a client's action; `done` is called when it has ended."""
        request_id = request_id_of(key.session_id, key.request_id)
        try:
            definition = self.runner.registry.find(path, Kind.ACTION, internal=identity.is_admin)
            named = self.runner.parse(definition, args_of(args))
        except RequestError as error:
            done(self.answer(RunResult(0, error=error), identity, request_id))
            return

        async def run() -> None:
            result = await self.run_action(definition, named, identity)
            try:
                await self.durable(result.ts)
            except StorageError as error:
                result.error = error
            done(self.answer(result, identity, request_id))

        self.tasks.start_soon(run)

    def answer(self, result: RunResult, identity: Identity, request_id: str) -> CallResult:
        """What the caller may know of a result."""
        lines = [] if self.production and not identity.is_admin else result.log_lines
        if result.error is None:
            try:
                return CallResult(encoded_result(result, self.limits), None, lines, result.ts)
            except RequestError as error:
                result.error = error
        error = describe(result.error, request_id=request_id, production=self.production)
        return CallResult(None, error, lines, result.ts)

    # Runs

    def _query(
        self,
        definition: FunctionDefinition,
        named: dict[str, Any],
        identity: Identity,
        at_ts: int | None = None,
    ) -> RunResult:
        return self.runner.query(definition, named, identity, at_ts=at_ts)

    def _mutation(
        self,
        definition: FunctionDefinition,
        named: dict[str, Any],
        identity: Identity,
        key: RequestKey | None = None,
    ) -> RunResult:
        return self.runner.mutation(definition, named, identity, key=key)

    def _timed(self, definition: FunctionDefinition, run: Callable[[], RunResult]) -> RunResult:
        if self.on_run is None:
            return run()
        began = time.perf_counter()
        result = run()
        self._log(definition, time.perf_counter() - began, result)
        return result

    async def run_action(
        self, definition: FunctionDefinition, named: dict[str, Any], identity: Identity = ANONYMOUS
    ) -> RunResult:
        """Run an action to its end. Never raises for what it does; cancellation passes through."""
        began = time.perf_counter()
        self._actions_running += 1
        try:
            ctx = ActionCtx(self, identity)
            result = await call_action(definition, ctx, named, self.limits)
        finally:
            self._actions_running -= 1
            self._activity.set()
        result.ts = self.engine.committer.applied_ts
        if self.on_run is not None:
            self._log(definition, time.perf_counter() - began, result)
        return result

    async def run_in_tasks(
        self, definition: FunctionDefinition, named: dict[str, Any], identity: Identity = ANONYMOUS
    ) -> RunResult:
        """Run an action as the database's own task: closing the database or ending the caller cancels it.

        Raises:
            StorageError: `DatabaseClosed`, if the database was closed while it ran.
        """
        done: asyncio.Future[RunResult] = asyncio.get_running_loop().create_future()
        scope = anyio.CancelScope()

        async def run() -> None:
            try:
                with scope:
                    done.set_result(await self.run_action(definition, named, identity))
            finally:
                if not done.done():
                    done.set_exception(
                        StorageError(
                            f"the database was closed while `{definition.path}` ran", code="DatabaseClosed"
                        )
                    )

        self.tasks.start_soon(run)
        try:
            return await done
        finally:
            scope.cancel()

    # What actions and jobs need (`ActionHost`, `JobHost`)

    async def call_from_action(
        self,
        function: RegisteredFunction[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        identity: Identity,
    ) -> Any:
        """Run a function for an action: what it gives is durable, what it raises is raised."""
        definition, named = self._bind_current(function, args, kwargs)
        match definition.kind:
            case Kind.QUERY:
                result = self._timed(definition, lambda: self._query(definition, named, identity))
            case Kind.MUTATION:
                result = self._timed(definition, lambda: self._mutation(definition, named, identity))
            case Kind.ACTION:
                result = await self.run_action(definition, named, identity)
        await self.durable(result.ts)
        lines = log_lines.current.get()
        if lines is not None:
            lines.extend(result.log_lines)
        return result.unwrap()

    def _bind_current(
        self, function: RegisteredFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[FunctionDefinition, dict[str, Any]]:
        """A function's entry and its arguments; after a reload, running actions still hold old functions."""
        registry = self.runner.registry
        retired = self._retired.get(id(function))
        if retired is None or registry.find_reference(function) is not None:
            definition = registry.of(function)
            return definition, self.runner.bind(definition, args, kwargs)
        definition = registry.find(retired.path, retired.kind, internal=True)
        return definition, self.runner.parse(definition, retired.args.dump(retired.args.bind(args, kwargs)))

    async def schedule_from_action(
        self,
        at_ms: float | None,
        delay_s: float,
        function: RegisteredFunction[..., Any],
        call: tuple[tuple[Any, ...], dict[str, Any]],
    ) -> str:
        def body(run: Run) -> tuple[Any, Any]:
            when = at_ms if at_ms is not None else run.transaction.now_ms + delay_s * 1000
            return run.scheduler.add(when, function, *call), None

        result = self.runner.transact(body, ANONYMOUS)
        await self.durable(result.ts)
        return result.unwrap()

    async def cancel_from_action(self, id: str) -> None:
        def body(run: Run) -> tuple[Any, Any]:
            run.scheduler.cancel(id)
            return None, None

        result = self.runner.transact(body, ANONYMOUS)
        await self.durable(result.ts)
        result.unwrap()

    def now_ms(self) -> float:
        return self.engine.clock.now_ns() / 1e6

    def failed(self, error: BaseException) -> str:
        return describe(error, request_id="0" * 16, production=False).message

    # Durability and delivery

    async def durable(self, ts: int) -> None:
        """Wait until `ts` is durable. Raises StorageError if it never will be."""
        committer = self.engine.committer
        if ts <= committer.durable_ts:
            self._notice_jobs()
            return
        waiting = asyncio.get_running_loop().create_future()

        def settle(error: StorageError | None) -> None:
            if not waiting.done():
                if error is None:
                    waiting.set_result(None)
                else:
                    waiting.set_exception(error)

        with self.engine.lock:
            committer.when_durable(ts, settle)
        self.committed()
        await waiting

    def committed(self) -> None:
        """A commit was appended, or somebody wants to know: a tick is due. Called on the loop."""
        if not self._tick_scheduled and self._loop is not None:
            self._tick_scheduled = True
            self._loop.call_soon(self._tick)

    refresh_soon = committed

    def committed_elsewhere(self) -> None:
        """Another thread has committed and made durable: the loop is woken if that concerns it."""
        found_jobs = self.jobs.notice()
        if self._loop is None:
            return
        if found_jobs:
            self._loop.call_soon_threadsafe(self.jobs.wake)
        if self.cache or self._idle_awaited:
            self._loop.call_soon_threadsafe(self.committed)

    def due(self, subscriber: Subscriber) -> None:
        """The subscriber has something to publish at the next tick. Any thread may say so."""
        self._due[subscriber] = None
        if self._delivering or self._loop is None:
            return
        if threading.get_ident() == self._loop_thread:
            self.committed()
        else:
            self._loop.call_soon_threadsafe(self.committed)

    def publish_now(self) -> None:
        """Make durable and publish in this thread; for synchronous callers, which want the state of now."""
        with self.engine.lock:
            self.engine.make_durable()
            self._deliver()

    def _tick(self) -> None:
        self._tick_scheduled = False
        if self._closed:
            return
        self._notice_jobs()
        engine = self.engine
        if engine.committer.applied_ts > engine.committer.durable_ts and not self._syncing:
            try:
                self._forget_sometimes()
                flushed_ts = engine.flush()
                if self._inline_sync:
                    engine.sync(flushed_ts)
                else:
                    self._syncing = True
                    self.tasks.start_soon(self._sync_in_thread, flushed_ts)
            except StorageError as error:
                self._storage_failed(error)
        self._deliver()
        self._activity.set()

    async def _sync_in_thread(self, flushed_ts: int) -> None:
        try:
            await anyio.to_thread.run_sync(self.engine.storage.sync)
            error = None
        except StorageError as failure:
            error = failure
        finally:
            self._syncing = False
        # Callbacks belong to the loop, so the thread does nothing but wait for the disk.
        if error is None:
            self.engine.synced(flushed_ts)
        else:
            self.engine.abandon(error)
            self._storage_failed(error)
        self.committed()

    def _storage_failed(self, error: StorageError) -> None:
        """A failed group has been undone; a failed sync has closed the storage for good."""
        if error.code == "SyncFailed" and self.broken is None:
            self.broken = error
            if self.on_broken is not None:
                self.on_broken(error)

    def _deliver(self) -> None:
        """Run what is stale and publish it once it is durable."""
        with self.engine.lock:
            self._delivering = True
            try:
                self.cache.refresh()
            finally:
                self._delivering = False
            if not self._due:
                return
            ts = self.engine.committer.applied_ts
            due, self._due = self._due, {}
            publish = [step for subscriber in due if (step := subscriber.prepare(ts)) is not None]

            def durable(error: StorageError | None) -> None:
                for step in publish:
                    step(error)

            if publish:
                self.engine.committer.when_durable(ts, durable)
                if ts > self.engine.committer.durable_ts:
                    self.committed()

    def _forget_sometimes(self) -> None:
        """Drop what is no longer kept; beside commits only, so that an idle database does no work."""
        now_ns = self.engine.clock.now_ns()
        if now_ns - self._forgot_ns > _FORGET_INTERVAL_NS:
            self._forgot_ns = now_ns
            self.engine.forget_outcomes()
            self.jobs.sweep()

    def _notice_jobs(self) -> None:
        if self.jobs.notice():
            self.jobs.wake()

    @property
    def is_idle(self) -> bool:
        """No job is due, no action runs, and every live result is published."""
        return (
            self.jobs.is_idle
            and not self._actions_running
            and not self._tick_scheduled
            and not self._due
            and not self.engine.committer.is_waiting
        )

    async def wait_until_idle(self) -> None:
        """Return once nothing is in flight."""
        self._idle_awaited += 1
        try:
            self.committed()
            while not self.is_idle:
                self._activity.clear()
                await self._activity.wait()
        finally:
            self._idle_awaited -= 1

    @property
    def tasks(self) -> TaskGroup:
        if self._tasks is None:
            raise StorageError("the database is closed - open it again", code="DatabaseClosed")
        return self._tasks

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None
        return self._loop

    @property
    def latest_ts(self) -> int:
        """The newest timestamp that is durable."""
        return self.engine.committer.durable_ts

    def query_set(self, on_change: Callable[[], None]) -> QuerySet:
        return QuerySet(self.cache, on_change=on_change)

    # Words

    def _describe_query_error(self, error: BaseException) -> CallError:
        return describe(error, request_id=request_id_of("query", time.time_ns()), production=self.production)

    def _log_live_run(self, live: LiveQuery, run: RunResult, duration_s: float) -> None:
        if self.on_run is not None:
            error = None if run.error is None else self._describe_query_error(run.error)
            self.on_run(RunLog(Kind.QUERY, live.path, duration_s, error, run.log_lines))

    def _log(self, definition: FunctionDefinition, duration_s: float, result: RunResult) -> None:
        if self.on_run is not None:
            error = None
            if result.error is not None:
                error = describe(result.error, request_id="0" * 16, production=False)
            self.on_run(RunLog(definition.kind, definition.path, duration_s, error, result.log_lines))


def _no_admin_key(text: str) -> bool:
    return False


def args_of(args: object) -> Value:
    """Arguments as the wire has them: an object, or a list of just one.

    Raises:
        ValidationError: `ArgumentValidationError`, or as `from_jsonable` has it.
    """
    items = cast("list[object]", args) if isinstance(args, list) else [args]
    if len(items) != 1 or not isinstance(items[0], dict):
        got = f"a list of {len(items)}" if len(items) != 1 else f"`{type(items[0]).__name__}`"
        raise ValidationError(
            f"arguments are one object, got {got} - pass `{{...}}` or `[{{...}}]`",
            code="ArgumentValidationError",
        )
    return from_jsonable(items[0])
