"""When does a scheduled job run, and what becomes of it?

`Jobs` follows the log for rows of `_scheduled_functions` and keeps the pending ones in a heap by time; it
waits for the first of them or for a new one, and does no work in between. A mutation runs in the
transaction that marks its row as done, so it happens exactly once. An action is marked as running, durably,
before it starts and is not started again unless it is declared with a `Retry`: found running at `open`, it
failed with the process. How it runs and what ends it: see `action_runs`.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio

from ..engine import IndexScan, LogReader, StoredDocument, just_above
from ..errors import FunctionNotFoundError, StorageError
from ..limits import MIB
from ..log import Log
from ..user_code import contained, is_of
from ..values import Value
from .action_runs import LOST, ActionRunHost, ActionRuns
from .cron_jobs import CronJobs
from .crons import BoundCron
from .identity import ANONYMOUS
from .lease import Lease, holding
from .registration import Kind, RegisteredAction
from .registry import FunctionDefinition
from .retry import Retry
from .runner import Run, RunResult
from .scheduler import STEADY_DUE, finished, state_kind, steady_due
from .system import CANCELED, FAILED, IN_PROGRESS, JOBS, PENDING, SUCCESS

if TYPE_CHECKING:
    from ..engine import Engine
    from .runner import Runner

_logger = Log("reactivedb")

_SWEEP_BATCH = 100
# Jobs with large arguments are some megabytes each.
_SWEEP_BATCH_SIZE_BYTES = 16 * MIB
_SCAN_BATCH = 1_000
_CANCELLED_MAX = 1_000
_STORAGE_RETRY_NS = 1_000_000_000
_NEVER_NS = 2**63


class JobHost(ActionRunHost, Protocol):
    """What running a job needs from the running database."""

    @property
    def runner(self) -> Runner: ...

    def ran(self, definition: FunctionDefinition, duration_s: float, result: RunResult) -> None:
        """A mutation has run: tell whoever keeps the log of runs."""
        ...

    def committed(self) -> None:
        """A commit was appended: see to it that it becomes durable and is delivered."""
        ...


class Jobs:
    """The jobs of one open database."""

    def __init__(self, engine: Engine, host: JobHost) -> None:
        self._engine = engine
        self._host = host
        self._log: LogReader = engine.reader()
        # (scheduled time in ms, id): a row that was cancelled meanwhile is found out when it is due, or when
        # there are so many of them that the heap is made anew.
        self._heap: list[tuple[float, str]] = []
        self._cancelled_count = 0
        # How many jobs have come to which end since the database was opened.
        self.ended: Counter[str] = Counter()
        self._wake = anyio.Event()
        self._actions = ActionRuns(engine, host, self._finish_run, on_end=self._action_ended)
        # Due actions that wait for another one to end.
        self._held_back: list[tuple[float, str]] = []
        # After a failure of the storage nothing is begun before this time, by what passes.
        self._rest_until_ns = 0
        self._crons = CronJobs()
        self.enabled = True

    def recover(self) -> None:
        """At open: fail what was running when the process ended, and take up what is pending."""
        with self._engine.lock:
            for row in self._rows(IN_PROGRESS):
                self._finish(row.id, {"kind": FAILED, "error": LOST}, self._retry_of(row))
            self._clock_jumped()
            self._log.pull()
            self.sweep()

    def end(self) -> None:
        """The database closes, and nothing runs any more."""
        self._actions.end()

    def deploy(self, declared: dict[str, BoundCron]) -> None:
        """Make these the cron jobs: at open after `recover`, and when the application is replaced.

        Raises:
            StorageError: nothing has changed.
        """
        error = self._transact_crons(lambda run: self._crons.deploy(run, declared))
        if error is not None:
            raise error

    def _transact_crons(self, change: Callable[[Run], None]) -> BaseException | None:
        def body(run: Run) -> tuple[Any, Any]:
            change(run)
            return None, None

        return self._record(body).error

    def notice(self) -> bool:
        """Take up the jobs of new commits; True if there were any, so that `wake` is called on the loop."""
        with self._engine.lock:
            if not self._log.waiting:
                return False
            found = False
            if self._log.take_lost():
                self._make_heap()
                # The successor of a job that has ended may be lost too.
                self._crons.is_stale = found = self._crons.are_declared
            for record in self._log.pull():
                for change in record.write_set.changes:
                    if change.table.name != JOBS or change.new is None:
                        continue
                    if change.old is None:
                        self._push(change.new)
                        found = True
                        continue
                    kind = state_kind(change.new.fields)
                    if kind == PENDING:  # it failed and is tried again
                        self._push(change.new)
                        found = True
                    if kind == CANCELED:
                        self._cancelled_count += 1
                    if kind not in (PENDING, IN_PROGRESS):
                        self.ended[kind] += 1
                    found |= self._actions.note(change.new.id, record.ts)
                    if kind not in (PENDING, IN_PROGRESS) and self._crons.owns(change.new.id):
                        self._crons.is_stale = found = True
            if self._cancelled_count > _CANCELLED_MAX + len(self._heap) // 2:
                self._make_heap()
            return found

    @property
    def waiting_count(self) -> int:
        """Jobs whose time has not come, as far as it is known without looking at each."""
        return max(0, len(self._heap) - self._cancelled_count)

    @property
    def running_count(self) -> int:
        """Actions that run as jobs; a mutation runs within one turn."""
        return self._actions.running_count

    def _make_heap(self) -> None:
        self._heap = [(cast("float", row.fields["scheduledTime"]), row.id) for row in self._rows(PENDING)]
        heapq.heapify(self._heap)
        self._held_back.clear()
        self._cancelled_count = 0

    def wake(self) -> None:
        """Look at the heap again, and cancel the actions that lost their jobs. Called on the loop."""
        self._actions.cancel_lost()
        self._wake.set()

    def storage_failed(self) -> None:
        """What was undone is due again after a rest: a full disk may get room. Called on the loop."""
        self._rest_until_ns = self._engine.clock.elapsed_ns() + _STORAGE_RETRY_NS
        self._wake.set()

    @property
    def is_idle(self) -> bool:
        """No job is due and none is running. Called on the loop."""
        if self.notice():
            self.wake()
        if self._actions or not self.enabled:
            return not self._actions
        return not self._crons.is_stale and self._next_due_ns() > self._engine.clock.now_ns()

    async def run(self) -> None:
        """Run jobs as they fall due, until cancelled."""
        while True:
            now_ns = self._engine.clock.now_ns()
            while (id := self._pop_due(now_ns)) is not None:
                if is_of(self._begin(id), StorageError):
                    # The row is still pending, so that it is found again.
                    self.storage_failed()
                # Give the loop a turn, so that a burst of jobs cannot starve the sockets.
                await anyio.lowlevel.checkpoint()
            self.notice()
            if self._crons.is_stale:
                if self._transact_crons(self._crons.continue_) is not None:
                    await self._engine.clock.sleep_ns(_STORAGE_RETRY_NS)
                continue
            # What was due has been dealt with, even if it committed nothing.
            self._host.committed()
            await self._wait()

    def _pop_due(self, now_ns: int) -> str | None:
        with self._engine.lock:
            self.notice()
            return heapq.heappop(self._heap)[1] if self._next_due_ns() <= now_ns else None

    def _next_due_ns(self) -> int:
        if not self._heap:
            return _NEVER_NS
        clock = self._engine.clock
        rest_ns = self._rest_until_ns - clock.elapsed_ns()
        return max(int(self._heap[0][0] * 1e6), clock.now_ns() + rest_ns if rest_ns > 0 else 0)

    async def _wait(self) -> None:
        """Until the first job is due or `wake` is called."""
        self._wake = anyio.Event()
        self.notice()
        due_ns = self._next_due_ns()
        self._actions.cancel_lost()
        if due_ns <= self._engine.clock.now_ns() or self._crons.is_stale:
            return
        async with anyio.create_task_group() as waiting:

            async def until_due() -> None:
                await self._engine.clock.sleep_until_ns(due_ns)
                waiting.cancel_scope.cancel()

            async def until_jump() -> None:
                await self._engine.clock.jumped()
                self._clock_jumped()
                waiting.cancel_scope.cancel()

            if due_ns < _NEVER_NS:
                waiting.start_soon(until_due)
                waiting.start_soon(until_jump)
            await self._wake.wait()
            waiting.cancel_scope.cancel()

    def _begin(self, id: str) -> BaseException | None:
        """Start a due job; gives what kept it from being recorded. No job keeps the others from running."""
        try:
            return self._start(id)
        except BaseException as error:
            if is_of(contained(error), StorageError):
                return error
            return self._set_aside(id, error)

    def _clock_jumped(self) -> None:
        """What was scheduled by the clock of before is due by that of now."""
        with self._engine.lock:
            self._engine.timeline.observe(self._engine.clock.now_ns())
            for row in self._rows(PENDING):
                if STEADY_DUE in row.fields:
                    self._reschedule(row.id)
            self._crons.clock_jumped = True
            self._crons.is_stale = self._crons.are_declared
            self.notice()
            # One that was taken off it may not be due any more.
            self._make_heap()

    def _reschedule(self, id: str) -> None:
        def body(run: Run) -> tuple[Any, Any]:
            job = run.transaction.existing(id)
            left_ms = cast("float", job.fields[STEADY_DUE]) - self._engine.timeline.steady_ms
            at_ms = run.transaction.now_ms + max(0.0, left_ms)
            run.transaction.replace(job, {**_own(job), "scheduledTime": at_ms})
            return None, None

        self._record(body)

    def _start(self, id: str) -> BaseException | None:
        with self._engine.lock:
            row = self._row(id)
            if row is None or state_kind(row.fields) != PENDING:
                return None
            if int(cast("float", row.fields["scheduledTime"]) * 1e6) > self._engine.clock.now_ns():
                return None  # it is tried again later, for which the heap has another entry
            try:
                definition, named = self._call_of(row)
            except BaseException as error:  # the function is gone or its arguments changed
                return self._set_aside(id, contained(error))
            if definition.kind is Kind.MUTATION:
                return self._run_mutation(id, definition, named)
            if len(self._actions) >= self._engine.limits.running_jobs_max:
                self._held_back.append((cast("float", row.fields["scheduledTime"]), id))
                return None
            marked = self._mark_running(id)
            if marked.error is None:
                self._actions.begin(id, marked.ts, definition, named)
            return marked.error

    def _run_mutation(
        self, id: str, definition: FunctionDefinition, named: dict[str, Any]
    ) -> BaseException | None:
        failure: BaseException | None = None

        def body(run: Run) -> tuple[Any, Any]:
            nonlocal failure
            mark = run.transaction.mark()
            state: dict[str, Value] = {"kind": SUCCESS}
            try:
                run.call(definition, named)
            except BaseException as error:
                failure = contained(error)
                run.transaction.rollback_to(mark)
                state = {"kind": FAILED, "error": self._host.failed(error)}
            with run.transaction.usage.uncounted():
                job = run.transaction.existing(id)
                run.transaction.replace(job, finished(job.fields, state, self._now_ms()))
            # What it returned goes nowhere.
            return None, None

        began = time.perf_counter()
        result = self._transact(body)
        error = result.error
        result.error = error or failure
        self._host.ran(definition, time.perf_counter() - began, result)
        if error is None or is_of(error, StorageError):
            return error
        # It used up what one run may write, so that its own row found no room: none of it has happened.
        return self._set_aside(id, error)

    def _set_aside(self, id: str, error: BaseException) -> BaseException | None:
        """Have a job fail that cannot run, so that it is not found again at the next start."""
        reason = self._host.failed(error)
        _logger.error("the scheduled job `%s` cannot run and has failed: %s", id, reason)
        return self._finish(id, {"kind": FAILED, "error": reason}).error

    def _action_ended(self) -> None:
        for entry in self._held_back:
            heapq.heappush(self._heap, entry)
        self._held_back.clear()
        self._wake.set()

    def _finish_run(self, held: Lease, state: dict[str, Value], definition: FunctionDefinition) -> RunResult:
        """An action has ended, or its time has."""
        return self._finish(held.job_id, state, _retry_of(definition), held=held)

    def _finish(
        self,
        id: str,
        state: dict[str, Value],
        retry: Retry | None = None,
        *,
        held: Lease | None = None,
    ) -> RunResult:
        """Give a row its end state, or have it tried again; not if the run has lost its lease."""

        def body(run: Run) -> tuple[Any, Any]:
            job = run.transaction.get(id)
            if job is None or (held is not None and job.ts != held.ts):
                return None, None
            attempt = int(cast("float", job.fields.get("attempt", 1.0)))
            if state["kind"] == PENDING:
                run.transaction.replace(job, {**_own(job), "state": state})
            elif retry is not None and state["kind"] == FAILED and attempt < retry.max_attempts:
                kept = _own(job)
                kept["state"] = {"kind": PENDING}
                kept["attempt"] = attempt + 1.0
                delay_ms = retry.delay_s_after(attempt) * 1000
                kept["scheduledTime"] = self._now_ms() + delay_ms
                kept.pop(STEADY_DUE, None)
                kept |= steady_due(self._engine.timeline, delay_ms)
                run.transaction.replace(job, kept)
            else:
                run.transaction.replace(job, finished(job.fields, state, self._now_ms()))
            return None, None

        return self._record(body)

    def _retry_of(self, row: StoredDocument) -> Retry | None:
        try:
            return _retry_of(self._call_of(row)[0])
        except BaseException as error:  # the function is gone or its arguments changed: nothing can be tried
            contained(error)
            return None

    def _mark_running(self, id: str) -> RunResult:
        def body(run: Run) -> tuple[Any, Any]:
            job = run.transaction.existing(id)
            run.transaction.replace(job, {**_own(job), "state": {"kind": IN_PROGRESS}})
            return None, None

        return self._record(body)

    def _record(self, body: Callable[[Run], tuple[Any, Any]]) -> RunResult:
        """A transaction that runs no function: the bounds of functions are not for it."""

        def uncounted(run: Run) -> tuple[Any, Any]:
            with run.transaction.usage.uncounted():
                return body(run)

        return self._transact(uncounted)

    def _transact(self, body: Callable[[Run], tuple[Any, Any]]) -> RunResult:
        # An action's commit may be the occasion of this one.
        with holding(None):
            result = self._host.runner.transact(body, ANONYMOUS)
        self._host.committed()
        return result

    def _call_of(self, row: StoredDocument) -> tuple[FunctionDefinition, dict[str, Any]]:
        path = str(row.fields["name"])
        definition = self._host.runner.registry.find(path, None, internal=True)
        if definition.kind is Kind.QUERY:
            raise FunctionNotFoundError(
                f"`{path}` is a query now, a job runs a mutation or an action", path=path
            )
        args = cast("list[Value]", row.fields["args"])
        return definition, self._host.runner.parse(definition, args[0])

    def _push(self, row: StoredDocument) -> None:
        heapq.heappush(self._heap, (cast("float", row.fields["scheduledTime"]), row.id))

    def _row(self, id: str) -> StoredDocument | None:
        return self._engine.load(self._engine.catalog.table(JOBS), id)

    def _rows(self, kind: str) -> list[StoredDocument]:
        table = self._engine.catalog.table(JOBS)
        index = table.indexes["by_state"]
        return list(self._scan(IndexScan(table, index, index.interval((kind,), None, None), None)))

    def _scan(self, scan: IndexScan) -> Iterator[StoredDocument]:
        # Not through a transaction: there may be more jobs than a function run may read.
        low, high = scan.interval
        while chunk := self._engine.scan_keys(scan, low, high, _SCAN_BATCH):
            for _, id in chunk:
                document = self._engine.load(scan.table, id)
                assert document is not None
                yield document
            low = just_above(chunk[-1][0])

    def sweep(self) -> None:
        """Delete jobs that ended longer ago than they are kept, a batch at a time."""
        table = self._engine.catalog.table(JOBS)
        index = table.indexes["by_completed"]
        horizon = self._engine.timeline.horizon_ns(self._engine.limits.finished_job_retention_s) / 1e6
        interval = index.interval((), (0.0, True), (horizon, True))

        def body(run: Run) -> tuple[Any, Any]:
            expired: list[StoredDocument] = []
            size = 0
            for row, _ in run.transaction.scan(IndexScan(table, index, interval, None)):
                expired.append(row)
                size += len(row.json)
                if len(expired) == _SWEEP_BATCH or size > _SWEEP_BATCH_SIZE_BYTES:
                    break
            for row in expired:
                run.transaction.delete(row)
            return len(expired), None

        while True:
            result = self._record(body)
            if result.error is not None or not result.value:
                return

    def _now_ms(self) -> float:
        return self._engine.clock.now_ns() / 1e6


def _retry_of(definition: FunctionDefinition) -> Retry | None:
    reference = definition.reference
    return cast("RegisteredAction[..., Any]", reference).retry if definition.kind is Kind.ACTION else None


def _own(job: StoredDocument) -> dict[str, Value]:
    return {name: value for name, value in job.fields.items() if not name.startswith("_")}
