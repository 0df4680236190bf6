"""How do calls, commits, jobs and live queries of one open database work together?

The only place where the parts are put together. A runtime belongs to one event loop: the caller's own, or
that of the daemon thread of a synchronous database. How commits reach the disk and the subscribers: see
`delivery`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..auth import Provider, Verifier
from ..engine import Engine, check_public_at
from ..errors import ConflictError, RequestError, StorageError
from ..functions import (
    ANONYMOUS,
    SCHEMAS_PATH,
    Deployment,
    FileTransfer,
    FunctionDefinition,
    Identity,
    Jobs,
    Kind,
    RequestKey,
    Runner,
    RunResult,
    code_of,
    describe,
    encoded_result,
    guard,
    kept_text,
    request_id_of,
)
from ..storage import CLOSED_FOR_GOOD, FileStore, Storage, examine
from ..subscriptions import QueryCache, QuerySet
from ..user_code import contained, contained_in_task, is_from_library, is_of
from . import heartbeat
from .actions import NO_REQUEST, Actions
from .admission import Admission
from .call_queue import forked
from .calls import Asked, CallResult, args_of
from .delivery import Delivery
from .heartbeat import Pulse
from .live_tries import LiveTries
from .load import Load
from .relief import Relief
from .run_report import RunReport
from .schema_work import SchemaWork, declare
from .tasks import Tasks
from .trust import Trust
from .turns import Turns

if TYPE_CHECKING:
    from ..clock import Clock
    from .declaration import App

# How long opening may be held up by giving up an old past; the rest is done beside commits.
_FORGETTING_BUDGET_S = 0.2


class Runtime:
    """One open database."""

    def __init__(self, app: App, storage: Storage, *, clock: Clock, production: bool = False) -> None:
        if not production:
            guard.install()
        self.app = app
        self.production = production
        self.limits = app.limits
        self.engine = Engine(storage, clock=clock, limits=app.limits)
        declare(self.engine, app)
        self.engine.forget_outcomes()
        self.engine.retention.catch_up(budget_s=_FORGETTING_BUDGET_S)
        self.deployment = Deployment(process=dict(os.environ))
        self.file_store = FileStore(storage.files_folder)
        self.files = FileTransfer(self.file_store, self)
        self.runner = self._runner_of(app)
        self.report = RunReport(
            lambda: self.production, lambda path: self.runner.registry.canonical(path, Kind.QUERY)
        )
        self.cache = QueryCache(
            self.engine, self.runner, describe=self.report.describe_query_error, on_run=self.report.live_run
        )
        self.tasks = Tasks()
        self.actions = Actions(self)
        self.jobs = Jobs(self.engine, self)
        self.delivery = Delivery(
            self.engine, self.cache, self.jobs, tasks=self.tasks, syncs=self.report.meters.syncs
        )
        self.live_tries = LiveTries(self.engine, self.cache, self.delivery)
        self.schema_work = SchemaWork(self.engine, self, self.tasks)
        self.admission = Admission(app.limits, Load(app.limits, lambda turned: self.loop.call_soon(turned)))
        self.turns = Turns(lambda: self.loop)
        self.relief = Relief(
            app.limits.relief_s,
            self.admission.refusals,
            call_later=lambda delay_s, relieve: self.loop.call_later(delay_s, relieve),
        )
        self.trusted = Trust(
            self.engine, self.deployment, tasks=self.tasks, allow_private=lambda: not self.production
        )
        self.trusted.open_keys(app)
        self.trusted.declare(app)
        # Set by whoever knows the admin key; without it, nobody is an administrator.
        self.is_admin_key: Callable[[str], bool] = _no_admin_key
        self._closed = False
        self._pid = os.getpid()

    # Life

    async def serve(self, started: Callable[[], None]) -> None:
        """Run jobs, actions and deliveries until `stop` or cancellation, then make all durable and close."""
        self.delivery.begin()
        pulse = Pulse(self.limits.loop_blocked_s, self.report.meters, self.actions.handlers)
        heartbeat.heart.begin(pulse)
        try:
            self.jobs.recover()
            self.jobs.deploy(self.app.crons)
            if self.jobs.enabled:
                self.tasks.start(self.jobs.run)
            self.schema_work.start()
            self.tasks.start(self.live_tries.run)
            self.tasks.start(self.files.sweep)
            await self.tasks.run(started)
        finally:
            heartbeat.heart.end(pulse)
            self._closed = True
            self.jobs.end()
            self.delivery.end()
            try:
                self.engine.close()
            finally:
                self.file_store.close()

    def stop(self) -> None:
        """End `serve`: running actions are cancelled, their jobs fail. Called on the loop."""
        self.tasks.stop()

    @property
    def is_open(self) -> bool:
        return not self._closed

    @property
    def is_forked(self) -> bool:
        """This process is a child of the one that opened the database, which alone may use it."""
        return os.getpid() != self._pid

    def check_loop(self) -> None:
        """Refuse what is awaited in another process or loop than its own, where it would never return.

        Raises:
            StorageError: `DatabaseForked`.
            RequestError: `WrongEventLoop`.
        """
        if self.is_forked:
            raise forked()
        if self.is_open and asyncio.get_running_loop() is not self.loop:
            raise RequestError(
                "this database was opened in another event loop, and can be awaited in that one only - open "
                "it in the loop that uses it, or use `app.open`, whose database any thread may call",
                code="WrongEventLoop",
            )

    def reload(self, app: App) -> None:
        """Serve another version of the application; when it raises, the old one serves on.

        Running actions finish on the old code; every live query runs again on the new.

        Raises:
            SchemaError: what is stored does not fit the new schema.
            StorageError: there can be no keys for the sign-in that it declares.
        """
        with self.engine.lock:
            self.trusted.open_keys(app)
            declare(self.engine, app)
            self.actions.retire(self.app.registry)
            self.trusted.declare(app)
            self.app = app
            self.runner = self._runner_of(app)
            self.cache.reload(self.runner)
            self.jobs.deploy(app.crons)
        self.schema_work.start()
        self.committed()

    def _runner_of(self, app: App) -> Runner:
        return Runner(
            self.engine,
            app.registry,
            deployment=self.deployment,
            env=app.env,
            files=self.file_store,
            echo=lambda: self.report.on_run is None,
        )

    # Users

    def trust(self, *providers: Provider) -> None:
        """Accept tokens of these providers too, with this application and those that replace it."""
        self.trusted.serve(*providers)

    @property
    def auth(self) -> Verifier:
        """Tells whose a token is."""
        return self.trusted.verifier

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
        request_id = request_id_of(path, time.time_ns())
        asked = Asked(None if kind == "any" else Kind(kind), path, args, at_ts)
        # What waits for the disk is the answer's text, not the values that it was made of.
        result, wrote = await self._run(asked, identity, request_id, internal=internal or identity.is_admin)
        answer = self.answer(result, identity, request_id)
        del result
        try:
            await self.durable(answer.ts)
        except StorageError as error:
            if answer.unavailable is None:
                answer = self._undone(answer, error, identity, request_id)
        return answer if wrote else replace(answer, outcome_unknown=False)

    async def _run(
        self, asked: Asked, identity: Identity, request_id: str, *, internal: bool
    ) -> tuple[RunResult, bool]:
        """Find, check and run what is asked for; gives also whether it may have written."""
        at_ts = asked.at_ts
        try:
            if at_ts is not None and not internal:
                check_public_at(self.engine, at_ts)
            definition = self.runner.registry.find(asked.path, asked.kind, internal=internal)
            named = self.runner.parse(definition, args_of(asked.args, self.limits))
            match definition.kind:
                case Kind.QUERY:
                    run = partial(self.runner.query, definition, named, identity, at_ts=at_ts)
                    return self.report.timed(definition, request_id, run), False
                case Kind.MUTATION:
                    run = partial(self.runner.mutation, definition, named, identity)
                    result = self.report.timed(definition, request_id, run)
                    return result, result.error is None
                case Kind.ACTION:
                    try:
                        self.delivery.check_disk()
                    except StorageError as failure:
                        return RunResult(0, error=failure), False
                    return await self.actions.run(definition, named, identity, request_id=request_id), True
        except BaseException as error:  # validators of the arguments may raise anything
            if is_of(error, StorageError) and is_from_library(error):
                raise
            self.report.refused(asked.kind, asked.path, contained_in_task(error), request_id)
            return RunResult(self.engine.committer.applied_ts, error=error), False

    def start_mutation(
        self,
        path: str,
        args: object,
        identity: Identity,
        *,
        key: RequestKey,
        done: Callable[[CallResult], None],
    ) -> None:
        """Run a client's mutation now; `done` is called once its outcome is durable, in order of calls.

        One that has succeeded before gets its recorded answer, also if it could not be called any more.
        """
        request_id = request_id_of(key.session_id, key.request_id)
        try:
            try:
                result = self.runner.recorded(key)
            except StorageError as error:
                # It may have been sent before, and have succeeded then.
                self.report.refused(Kind.MUTATION, path, error, request_id)
                done(self._unknown(error, identity, request_id))
                return
            if result is None:
                definition = self.runner.registry.find(path, Kind.MUTATION, internal=identity.is_admin)
                named = self.runner.parse(definition, args_of(args, self.limits))
                run = partial(self.runner.mutation, definition, named, identity, key=key)
                result = self.report.timed(definition, request_id, run)
        except BaseException as error:  # validators of the arguments may raise anything
            self.report.refused(Kind.MUTATION, path, contained(error), request_id)
            result = RunResult(self.engine.committer.applied_ts, error=error)

        # What waits for the disk is the answer's text, not the values that it was made of.
        answer = self.answer(result, identity, request_id)

        def durable(error: StorageError | None) -> None:
            done(answer if error is None else self._undone(answer, error, identity, request_id))

        with self.engine.lock:
            self.engine.committer.when_durable(answer.ts, durable)
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
            named = self.runner.parse(definition, args_of(args, self.limits))
            self.delivery.check_disk()
        except BaseException as error:  # validators of the arguments may raise anything
            self.report.refused(Kind.ACTION, path, contained(error), request_id)
            done(self.answer(RunResult(0, error=error), identity, request_id))
            return

        async def run() -> None:
            result = await self.actions.run(definition, named, identity, request_id=request_id)
            answer = self.answer(result, identity, request_id)
            try:
                await self.durable(answer.ts)
            except StorageError as error:
                answer = self._undone(answer, error, identity, request_id)
            done(answer)

        self.actions.start(run)

    def _undone(
        self, answer: CallResult, error: StorageError, identity: Identity, request_id: str
    ) -> CallResult:
        """What the caller is told instead, for what the answer rests on may not be in the file."""
        result = RunResult(answer.ts, error=error, log_lines=list(answer.log_lines))
        told = self.answer(result, identity, request_id)
        return replace(told, outcome_unknown=error.code in CLOSED_FOR_GOOD)

    def _unknown(self, error: StorageError, identity: Identity, request_id: str) -> CallResult:
        result = RunResult(self.engine.committer.applied_ts, error=error)
        return replace(self.answer(result, identity, request_id), outcome_unknown=True)

    def answer(self, result: RunResult, identity: Identity, request_id: str) -> CallResult:
        """What the caller may know of a result."""
        lines = [] if self.production and not identity.is_admin else result.log_lines
        if result.error is None:
            try:
                return CallResult(encoded_result(result, self.limits), None, lines, result.ts)
            except BaseException as error:
                result.error = contained(error)
        error = describe(result.error, request_id=request_id, production=self.production)
        unavailable = _unavailable(result.error)
        # An action that has begun may have written; `call` takes this back for what was refused before.
        return CallResult(None, error, lines, result.ts, unavailable, unavailable in CLOSED_FOR_GOOD)

    # What jobs need (`JobHost`)

    async def run_action(self, definition: FunctionDefinition, named: dict[str, Any]) -> RunResult:
        return await self.actions.run(definition, named)

    def failed(self, error: BaseException) -> str:
        return kept_text(error, length_max=self.limits.log_line_length_max)

    def ran(self, definition: FunctionDefinition, duration_s: float, result: RunResult) -> None:
        self.report.run(definition, duration_s, result, NO_REQUEST)

    # Durability and delivery

    async def durable(self, ts: int) -> None:
        """Wait until `ts` is durable. Raises StorageError if it never will be."""
        await self.delivery.durable(ts)

    def committed(self) -> None:
        """A commit was appended: it is on its way to the disk and the subscribers. Called on the loop."""
        self.delivery.committed()

    def index_completed(self) -> None:
        """Live queries that were refused may be run."""
        with self.engine.lock:
            self.cache.invalidate_all()

    def migration_completed(self) -> None:
        """What is said of the schema has changed, and nothing else."""
        with self.engine.lock:
            self.cache.invalidate_function(SCHEMAS_PATH)

    def work_ended(self) -> None:
        self.delivery.noticed()

    def is_idle(self) -> bool:
        """No job is due, no action runs, every live result is published, no index or migration is left."""
        return (
            self.schema_work.is_idle
            and self.jobs.is_idle
            and self.live_tries.is_idle
            and not self.files.is_sweeping
            and not self.actions.running
            and self.turns.is_idle
            and self.delivery.is_idle
        )

    async def wait_until_idle(self) -> None:
        """Return once nothing is in flight."""
        await self.delivery.wait_until(self.is_idle)

    def start(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Start a task of the database's own. Raises: StorageError `DatabaseClosed`."""
        self.tasks.start(function, *args)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Raises: StorageError `DatabaseClosed`."""
        return self.delivery.loop

    @property
    def latest_ts(self) -> int:
        """The newest timestamp that is durable."""
        return self.engine.committer.durable_ts

    def check(self) -> list[str]:
        """What is damaged or does not fit together in the file. Any thread; others go on meanwhile."""
        storage = self.engine.storage
        if storage.path is not None:
            return examine(storage.path).problems
        with self.engine.lock:
            return storage.check()

    def query_set(self, on_change: Callable[[], None], *, keeps_values: bool = False) -> QuerySet:
        return QuerySet(self.cache, on_change=on_change, keeps_values=keeps_values)


def _unavailable(error: BaseException) -> str | None:
    """The code of an error that says that the call may do later."""
    if is_of(error, ConflictError):
        return code_of(error)
    return code_of(error) if is_of(error, StorageError) and is_from_library(error) else None


def _no_admin_key(text: str) -> bool:
    return False
