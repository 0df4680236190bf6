"""How does an action run, and what of the database does it reach?

An action is no transaction: each of its calls is one of its own, and what a call gives is durable before the
action sees it. Until it has ended, and for a client's action until it is answered, the database is not idle.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from ..errors import RequestError, StorageError
from ..functions import (
    ANONYMOUS,
    ActionCtx,
    ActionHost,
    CallError,
    Environment,
    FarHost,
    FileTransfer,
    FunctionDefinition,
    Identity,
    Kind,
    RegisteredAction,
    RegisteredFunction,
    Run,
    RunResult,
    ThreadRun,
    call_action,
    current_thread_run,
    describe,
    log_lines,
    request_id_of,
    run_outside,
    stored_value,
)
from .action_threads import ActionThreads
from .calls import RunLog

if TYPE_CHECKING:
    from .runtime import Runtime

T = TypeVar("T")

# The request id of what no client asked for.
NO_REQUEST = "0" * 16


# The databases in whose actions this context is.
_inside: ContextVar[tuple[object, ...]] = ContextVar("reactivedb_inside_actions", default=())


class Actions:
    """The actions of one open database, and what their contexts reach (`ActionHost`)."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.running = 0
        self.threads = ActionThreads(runtime.limits)
        # The functions of versions before the last reload, which running actions may still refer to.
        self._retired: dict[int, FunctionDefinition] = {}

    def retire(self, functions: Iterable[FunctionDefinition]) -> None:
        """A reload replaces these."""
        self._retired.update((id(known.reference), known) for known in functions)

    def handlers(self) -> Iterator[tuple[CodeType, str]]:
        """The code of every function and route, with its path; of routes, with the method."""
        known = [*self._retired.values(), *self._runtime.runner.registry]
        named = [(each.reference.handler, each.path) for each in known]
        named += [
            (route.handler, f"{route.method} {route.pattern}") for route in self._runtime.app.http or ()
        ]
        for handler, path in named:
            code = getattr(inspect.unwrap(handler), "__code__", None)
            if code is not None:
                yield code, path

    def start(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a client's action and answer it, as a task of the database's own."""

        async def counted() -> None:
            try:
                await run()
            finally:
                self._ended()

        self._runtime.tasks.start(counted)
        # From now on: it starts in a later turn of the loop.
        self.running += 1

    @contextmanager
    def _counted(self) -> Generator[None]:
        self.running += 1
        token = _inside.set((*_inside.get(), self))
        try:
            yield
        finally:
            _inside.reset(token)
            self._ended()

    def check_outside(self, what: str) -> None:
        """Refuse what waits for all actions inside of one of them.

        Raises:
            RequestError: `NestedCall`.
        """
        if self in _inside.get():
            raise RequestError(
                f"`{what}` waits until no action runs, and an action called it - call it outside of actions",
                code="NestedCall",
            )

    def _ended(self) -> None:
        self.running -= 1
        self._runtime.delivery.noticed()

    async def run(
        self,
        definition: FunctionDefinition,
        named: dict[str, Any],
        identity: Identity = ANONYMOUS,
        *,
        request_id: str = NO_REQUEST,
    ) -> RunResult:
        """Run an action to its end. Never raises for what it does; cancellation passes through."""
        runtime = self._runtime
        began = time.perf_counter()
        with self._counted():
            host = self._host()

            def within(handle: Callable[[ActionCtx], Coroutine[Any, Any, T]]) -> Awaitable[T]:
                if isinstance(definition.reference, RegisteredAction) and definition.reference.thread:
                    path = definition.path
                    return self.in_thread(path, identity, lambda ctx, _: handle(ctx), host=host)
                return handle(ActionCtx(host, identity))

            result = await call_action(definition, within, named, runtime.limits, echo=runtime.runner.echo())
        result.ts = runtime.engine.committer.applied_ts
        runtime.report.run(definition, time.perf_counter() - began, result, request_id)
        return result

    def _host(self) -> ActionHost:
        """An action that one in a thread has called is fenced with its caller."""
        caller = current_thread_run()
        return self if caller is None else FarHost(self, caller)

    async def in_thread(
        self,
        path: str,
        identity: Identity,
        handle: Callable[[ActionCtx, ThreadRun], Coroutine[Any, Any, T]],
        *,
        host: ActionHost | None = None,
    ) -> T:
        """Run a handler in a thread of its own. Raises as `ActionThreads.run` does."""
        near = self if host is None else host

        async def there(run: ThreadRun) -> T:
            return await handle(ActionCtx(FarHost(near, run), identity), run)

        return await self.threads.run(path, there)

    async def run_http(
        self, name: str, respond: Callable[[ActionCtx], Awaitable[None]], *, identity: Identity
    ) -> tuple[BaseException | None, CallError]:
        """Answer an HTTP request with an action's context.

        Gives what it raised and what its caller may know of that; cancellation passes through.
        """
        began = time.perf_counter()
        request_id = request_id_of(name, time.time_ns())

        async def body() -> tuple[Any, Any]:
            return await respond(ActionCtx(self, identity)), None

        runtime = self._runtime
        with self._counted():
            result = await run_outside(body, runtime.limits, echo=runtime.runner.echo())
        told, error = CallError(""), None
        if result.error is not None:
            told = describe(result.error, request_id=request_id, production=runtime.production)
            error = describe(result.error, request_id=request_id, production=False)
        duration_s = time.perf_counter() - began
        runtime.report.http_run(RunLog(Kind.ACTION, name, duration_s, error, result.log_lines))
        return result.error, told

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
                    done.set_result(await self.run(definition, named, identity))
            finally:
                if not done.done():
                    done.set_exception(
                        StorageError(
                            f"the database was closed while `{definition.path}` ran", code="DatabaseClosed"
                        )
                    )

        self._runtime.tasks.start(run)
        try:
            return await done
        finally:
            scope.cancel()

    # `ActionHost`

    async def call_from_action(
        self,
        function: RegisteredFunction[..., Any],
        kind: Kind,
        call: tuple[tuple[Any, ...], dict[str, Any]],
        identity: Identity,
    ) -> Any:
        """Run a function of that kind for an action: what it gives is durable, what it raises is raised."""
        definition, named = self._bind_current(function, kind, call)
        match definition.kind:
            case Kind.QUERY:
                run = partial(self._runtime.runner.query, definition, named, identity)
                result = self._runtime.report.timed(definition, NO_REQUEST, run)
            case Kind.MUTATION:
                run = partial(self._runtime.runner.mutation, definition, named, identity)
                result = self._runtime.report.timed(definition, NO_REQUEST, run)
            case Kind.ACTION:
                result = await self.run(definition, named, identity)
        await self._runtime.durable(result.ts)
        lines = log_lines.current.get()
        if lines is not None:
            lines.extend(result.log_lines)
        return result.unwrap()

    def _bind_current(
        self,
        function: RegisteredFunction[..., Any],
        kind: Kind,
        call: tuple[tuple[Any, ...], dict[str, Any]],
    ) -> tuple[FunctionDefinition, dict[str, Any]]:
        """A function's entry and its arguments; after a reload, running actions still hold old functions."""
        registry = self._runtime.runner.registry
        retired = self._retired.get(id(function))
        if retired is None or registry.find_reference(function) is not None:
            definition = registry.of(function, kind)
            return definition, self._runtime.runner.bind(definition, *call)
        definition = registry.find(retired.path, kind, internal=True)
        sent = retired.args.dump(retired.args.bind(*call))
        return definition, self._runtime.runner.parse(definition, sent)

    def environment(self) -> Environment:
        """The variables as an action sees them: each as it is when it is asked for."""

        def stored(name: str) -> str | None:
            engine = self._runtime.engine
            with engine.lock:
                transaction = engine.begin()
                try:
                    return stored_value(engine, transaction, name)
                finally:
                    transaction.finished = True

        return Environment(self._runtime.runner, stored)

    async def schedule_from_action(
        self,
        at_ms: float | None,
        delay_s: float,
        function: RegisteredFunction[..., Any],
        call: tuple[tuple[Any, ...], dict[str, Any]],
    ) -> str:
        def body(run: Run) -> tuple[Any, Any]:
            if at_ms is None:
                return run.scheduler.add_after(delay_s * 1000, function, *call), None
            return run.scheduler.add(at_ms, function, *call), None

        result = self._runtime.runner.transact(body, ANONYMOUS)
        await self._runtime.durable(result.ts)
        return result.unwrap()

    async def cancel_from_action(self, id: str) -> None:
        def body(run: Run) -> tuple[Any, Any]:
            run.scheduler.cancel(id)
            return None, None

        result = self._runtime.runner.transact(body, ANONYMOUS)
        await self._runtime.durable(result.ts)
        result.unwrap()

    @property
    def files(self) -> FileTransfer:
        return self._runtime.files

    def now_ms(self) -> float:
        return self._runtime.engine.clock.now_ns() / 1e6
