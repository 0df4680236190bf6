"""How does one call become one run: find, check arguments, run, check the result, commit?

The only place that retries. A run holds the engine's lock from its first read to its commit, so it never
interleaves with another. Errors keep their kind: whoever shows one outside turns it into words
(`failure.describe`).
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias

import pydantic

from ..engine import Engine, ReadSet, Running, Transaction, begin_at
from ..errors import ConflictError, LimitExceededError, ReactiveDBError, StorageError, ValidationError
from ..limits import activate, deactivate
from ..schema import ARGUMENT_ERROR, RETURNS_ERROR, Validator, with_code
from ..storage import FileStore, Outcome
from ..user_code import contained, contained_in_task, is_from_library, is_of, traceback_of
from ..values import Value, decode, encode, size_bytes
from . import guard, lease, log_lines, moment, thread_run, watchdog
from .cascade import Continuation
from .context import MutationCtx, QueryCtx
from .db import DatabaseReader, DatabaseWriter
from .deployment import Deployment
from .erased_answer import ERASED_ANSWER, answer_erased
from .failure import from_pydantic
from .fence import pass_before_commit
from .identity import Identity
from .own_task import in_own_task
from .pagination import Journal
from .registration import Kind, RegisteredFunction
from .registry import FunctionDefinition, Registry
from .scheduler import Scheduler
from .system import FILES
from .system_functions import resume_cascade

if TYPE_CHECKING:
    from ..limits import Limits
    from .context import ActionCtx

    # Makes the context of an action and runs it where it belongs.
    Handle: TypeAlias = Callable[[ActionCtx], Coroutine[Any, Any, tuple[Any, Any]]]
    Within: TypeAlias = Callable[[Handle], Awaitable[tuple[Any, Any]]]

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Names one mutation of one client session for ever, so that a replay can be told from a new call."""

    session_id: str
    request_id: int


@dataclass(slots=True)
class RunResult:
    """What came of a run. Exactly one of `value` (with its JSON) and `error` counts."""

    ts: int
    value: Any = None
    error: BaseException | None = None
    log_lines: list[str] = field(default_factory=list[str])
    read_set: ReadSet | None = None
    saw_identity: bool = False
    tree: Any = None
    # The ends of the pages that the run read, for the next run of the same live query.
    journal: str | None = None
    recorded: bytes | None = None

    def unwrap(self) -> Any:
        """The value, for a caller in this process; what the run raised is raised again."""
        if self.error is not None:
            raise self.error
        return self.value

    def encoded(self) -> bytes:
        """The returned value as JSON. Raises: ValidationError, for what JSON cannot hold."""
        if self.recorded is None:
            self.recorded = encode(self.tree)
        return self.recorded

    def forget_value(self) -> None:
        """Keep the text alone. The objects may take fifty times as much, and what is made beside them and
        stays keeps their memory from going back to the system.
        """
        self.value = self.tree = None


class Run:
    """The state of one top-level run, which its nested calls share."""

    def __init__(
        self, runner: Runner, transaction: Transaction, identity: Identity, journal: str | None = None
    ) -> None:
        self.runner = runner
        self.transaction = transaction
        self.identity = identity
        self.saw_identity = False
        self.depth = 0
        # Jobs and bytes of their arguments: as long as they are not undone with a nested call.
        self.scheduled: tuple[int, int] = (0, 0)
        self.upload_url_count = 0
        # Files whose rows it deletes; a deletion may be undone with the nested call that made it.
        self.deleted_files: list[str] = []
        self.journal = Journal(journal)
        self.reader = DatabaseReader(transaction, runner.engine.catalog, journal=self.journal)
        # Deleted documents whose children a job has to see to.
        self._unfinished_deletions: list[str] = []

    @cached_property
    def writer(self) -> DatabaseWriter:
        engine = self.runner.engine
        continuation = Continuation(engine.limits.cascade_batch_max, self._unfinished_deletions.extend)
        return DatabaseWriter(
            self.transaction, engine.catalog, journal=self.journal, continuation=continuation
        )

    @property
    def scheduler(self) -> Scheduler:
        # Kept here it would refer back, and every run would wait for the garbage collector.
        return Scheduler(self)

    def finish(self) -> None:
        """Schedule what this run leaves to be done, before it commits: one job for many deletions."""
        waiting = [id for id in self._unfinished_deletions if self.transaction.get(id) is None]
        limits = self.runner.engine.limits
        size = max(1, min(limits.cascade_batch_max, limits.array_length_max))
        for start in range(0, len(waiting), size):
            ids = waiting[start : start + size]
            self.scheduler.add_after(0.0, resume_cascade, (ids,), {})

    def nested(
        self, function: RegisteredFunction[P, Any], kind: Kind, /, *args: P.args, **kwargs: P.kwargs
    ) -> Any:
        """Call another function of that kind inside this transaction."""
        definition = self.runner.registry.of(function, kind)
        named = self.runner.bind(definition, args, kwargs)
        mark, scheduled = self.transaction.mark(), self.scheduled
        try:
            value, _ = self.call(definition, named)
        except BaseException:
            self.transaction.rollback_to(mark)
            self.scheduled = scheduled
            raise
        return value

    def call(self, definition: FunctionDefinition, named: dict[str, Any]) -> tuple[Any, Any]:
        """Run a handler and check what it returns; gives the value and its JSON-ready tree."""
        depth_max = self.runner.engine.limits.nested_call_depth_max
        if self.depth > depth_max:
            raise LimitExceededError(
                f"calls between functions may nest {depth_max} deep, `{definition.path}` would be "
                f"{self.depth} deep - call a plain helper function instead",
                code="NestedCallsTooDeep",
                limit="nested_call_depth_max",
                maximum=depth_max,
                asked=self.depth,
            )
        outer, self.runner.engine.running = (
            self.runner.engine.running,
            Running(threading.get_ident(), definition.path),
        )
        self.depth += 1
        token = guard.enter(definition.path)
        moment_token = moment.enter(self.transaction)
        try:
            ctx = QueryCtx(self) if definition.kind is Kind.QUERY else MutationCtx(self)
            handler = definition.reference.handler
            # A cascade is bounded by its batch. Stopped for its time, on a busy machine, it would end as a
            # failed job, and what was left of it would stay for ever.
            if self.depth > 1 or definition.reference is resume_cascade:
                value = handler(ctx, **named)
            else:
                value = watchdog.call(handler, ctx, named, path=definition.path, transaction=self.transaction)
        except pydantic.ValidationError as error:
            raise from_pydantic(error) from error
        finally:
            moment.leave(moment_token)
            guard.leave(token)
            self.depth -= 1
            self.runner.engine.running = outer
        return value, checked_return(definition, value)


class Runner:
    """Runs the functions of one application over one engine."""

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        *,
        deployment: Deployment | None = None,
        env: Mapping[str, Validator] | None = None,
        files: FileStore | None = None,
        echo: Callable[[], bool] = lambda: False,
    ) -> None:
        # Whether what functions print is written out, beside the lines of their runs.
        self.echo = echo
        self.engine = engine
        self.registry = registry
        self.deployment = deployment or Deployment()
        self.files = files or FileStore(None)
        # The variables that the application declares.
        self.env: Mapping[str, Validator] = env or {}

    def parse(self, definition: FunctionDefinition, args: Value) -> dict[str, Any]:
        """The wire's arguments as the handler takes them.

        Raises:
            ValidationError: `ArgumentValidationError`, with the path.
        """
        size, size_max = size_bytes(args), self.engine.limits.args_size_bytes_max
        if size > size_max:
            raise LimitExceededError(
                f"the arguments of a call may have {size_max} bytes, got {size} for `{definition.path}` - "
                "store the data as documents or as a file and pass its id",
                code="ArgumentsTooLarge",
                limit="args_size_bytes_max",
                maximum=size_max,
                asked=size,
            )
        named = definition.args.parse(args)
        if definition.args.object.has_ids:
            try:
                for found in definition.args.find_ids(args):
                    self.engine.check_id(found.id, found.table, found.path)
            except ValidationError as error:
                raise with_code(error, ARGUMENT_ERROR) from error
        return named

    def bind(
        self, definition: FunctionDefinition, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """A Python call's arguments as the wire would have brought them: checked, and nobody else's."""
        return self.parse(definition, self.dump(definition, args, kwargs))

    def dump(
        self, definition: FunctionDefinition, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Value]:
        """A Python call's arguments as they are sent.

        Raises:
            ValidationError: `ArgumentValidationError`.
        """
        token = activate(self.engine.limits)
        try:
            return definition.args.dump(definition.args.bind(args, kwargs))
        finally:
            deactivate(token)

    def query(
        self,
        definition: FunctionDefinition,
        named: dict[str, Any],
        identity: Identity,
        *,
        at_ts: int | None = None,
        journal: str | None = None,
    ) -> RunResult:
        """Run a query at the newest state, or at an earlier one. Never raises for what the function does.

        With the `journal` of an earlier run, its pages end where that run's did.

        Raises:
            ValidationError: `TimestampOutOfRange`.
        """
        with self.engine.lock:
            transaction = self.engine.begin() if at_ts is None else begin_at(self.engine, at_ts)
            run = Run(self, transaction, identity, journal)
            lines = log_lines.LogLines(self.engine.limits, echo=self.echo())
            # A view of the past shows what was true at its own timestamp.
            ts = transaction.base_ts if at_ts is None else at_ts
            result = RunResult(ts, log_lines=lines.lines, read_set=transaction.read_set)
            token = log_lines.current.set(lines)
            limits_token = activate(self.engine.limits)
            try:
                result.value, result.tree = run.call(definition, named)
                result.journal = run.journal.text
            except BaseException as error:
                result.error = self._failed(error)
                # A run that failed before its pages did not move their ends.
                result.journal = journal
            finally:
                log_lines.current.reset(token)
                deactivate(limits_token)
                transaction.finished = True
            result.saw_identity = run.saw_identity
            return result

    def mutation(
        self,
        definition: FunctionDefinition,
        named: dict[str, Any],
        identity: Identity,
        *,
        key: RequestKey | None = None,
    ) -> RunResult:
        """Run a mutation and commit it into the open group. Never raises for what the function does.

        With a `key`, its answer is recorded with the commit; whether there is one already is for the caller
        to ask first (`recorded`). A conflict is tried again, up to the limit. The result is visible at once
        and durable later.
        """

        def body(run: Run) -> tuple[Any, Any]:
            return run.call(definition, named)

        return self.transact(body, identity, key=key)

    def recorded(self, key: RequestKey) -> RunResult | None:
        """The answer that a mutation of that key was given when it succeeded.

        It stands whatever has become of the function since, so it is asked for before anything else.

        Raises:
            StorageError: as the storage has it.
        """
        with self.engine.lock:
            recorded = self.engine.storage.outcome(key.session_id, key.request_id)
            return None if recorded is None else _replayed(recorded)

    def _failed(self, error: BaseException) -> BaseException:
        """A storage that fails, be it in reading, has forgotten its open group: so does the engine.

        Raises: the error itself, if a signal handler raised it.
        """
        # One that a function made up says nothing of the storage.
        if is_of(error, StorageError) and is_from_library(error):
            self.engine.undo_open_group(error)
        return contained(error)

    def transact(
        self, body: Callable[[Run], tuple[Any, Any]], identity: Identity, *, key: RequestKey | None = None
    ) -> RunResult:
        """Run `body` in a transaction and commit it; tried again after a conflict."""
        tries = self.engine.limits.conflict_retry_count_max
        with self.engine.lock:
            while True:
                result = self._transact_once(body, identity, key)
                tries -= 1
                if not is_of(result.error, ConflictError) or tries < 0:
                    return result

    def _transact_once(
        self, body: Callable[[Run], tuple[Any, Any]], identity: Identity, key: RequestKey | None
    ) -> RunResult:
        transaction = self.engine.begin()
        held = lease.held_on(self.engine)
        run = Run(self, transaction, identity)
        lines = log_lines.LogLines(self.engine.limits, echo=self.echo())
        result = RunResult(transaction.base_ts, log_lines=lines.lines, read_set=transaction.read_set)
        token = log_lines.current.set(lines)
        limits_token = activate(self.engine.limits)
        try:
            thread_run.check_current()
            if held is not None:
                held.check(transaction)
            result.value, result.tree = body(run)
            run.finish()
            if held is not None:
                held.check_time()
            # Before the commit: a mutation whose answer cannot be given has not happened.
            encoded_result(result, self.engine.limits)
            pass_before_commit()
        except BaseException as error:
            result.error = self._failed(error)
            return result
        finally:
            log_lines.current.reset(token)
            deactivate(limits_token)
            transaction.finished = True

        def outcome(ts: int) -> Outcome:
            assert key is not None
            return Outcome(key.session_id, key.request_id, ts, result.encoded(), tuple(lines.lines))

        try:
            result.ts = self.engine.commit(transaction, outcome=outcome if key is not None else None)
            if run.deleted_files:
                self._remove_files(run.deleted_files, result.ts)
        except ReactiveDBError as error:
            result.error = error
        return result

    def _remove_files(self, ids: list[str], ts: int) -> None:
        """Remove the files that a commit has deleted, once it is durable."""
        table = self.engine.catalog.find(FILES)
        gone = [id for id in ids if table is not None and self.engine.load(table, id) is None]

        def durable(error: StorageError | None) -> None:
            for id in gone if error is None else ():
                self.files.remove_later(id)

        if gone:
            self.engine.committer.when_durable(ts, durable)


async def call_action(
    definition: FunctionDefinition, within: Within, named: dict[str, Any], limits: Limits, *, echo: bool
) -> RunResult:
    """Run an action to its end. Never raises for what it does; cancellation passes through."""

    async def handle(ctx: ActionCtx) -> tuple[Any, Any]:
        value = await in_own_task(definition.reference.handler(ctx, **named))
        return value, checked_return(definition, value)

    return await run_outside(lambda: within(handle), limits, echo=echo)


async def run_outside(
    body: Callable[[], Awaitable[tuple[Any, Any]]], limits: Limits, *, echo: bool
) -> RunResult:
    """Run what is in no transaction, with its log lines. Never raises; cancellation passes through."""
    lines = log_lines.LogLines(limits, echo=echo)
    result = RunResult(0, log_lines=lines.lines)
    token = log_lines.current.set(lines)
    limits_token = activate(limits)
    try:
        result.value, result.tree = await body()
    except pydantic.ValidationError as error:
        result.error = from_pydantic(error)
    except BaseException as error:
        result.error = contained_in_task(error)
        if is_of(error, asyncio.CancelledError):
            result.error = ReactiveDBError(
                "an action awaited what had been cancelled, and was not cancelled itself - "
                "catch `CancelledError` where it awaits",
                code="AwaitedCancelled",
            ).with_traceback(traceback_of(error))
    finally:
        log_lines.current.reset(token)
        deactivate(limits_token)
    return result


def encoded_result(result: RunResult, limits: Limits) -> bytes:
    """A result's JSON, within the bound on results.

    Raises:
        LimitExceededError: `ResultTooLarge`.
        ValidationError: for what JSON cannot hold.
    """
    encoded = result.encoded()
    if len(encoded) > limits.result_size_bytes_max:
        raise LimitExceededError(
            f"a result may have {limits.result_size_bytes_max} bytes, got {len(encoded)} - "
            "return fewer documents, or page through them",
            code="ResultTooLarge",
            limit="result_size_bytes_max",
            maximum=limits.result_size_bytes_max,
            asked=len(encoded),
        )
    return encoded


def checked_return(definition: FunctionDefinition, value: Any) -> Any:
    """The JSON-ready tree of a returned value.

    Raises:
        ValidationError: `ReturnsValidationError`.
    """
    try:
        return definition.returns.dump(value, "", splice=True)
    except ValidationError as error:
        raise with_code(error, RETURNS_ERROR) from error


def _replayed(recorded: Outcome) -> RunResult:
    if recorded.result == ERASED_ANSWER:
        return RunResult(recorded.ts, error=answer_erased())
    return RunResult(
        recorded.ts,
        value=decode(recorded.result),
        recorded=recorded.result,
        log_lines=list(recorded.log_lines),
    )


def request_id_of(session_id: str, request_id: int) -> str:
    """The 16 hex digits that name a request in error texts and logs."""
    return hashlib.sha256(f"{session_id}|{request_id}".encode()).hexdigest()[:16]
