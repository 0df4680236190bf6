"""How does an action run as a job, and what ends it?

A run begins once the mark on its job's row is durable, and writes only while it holds the lease (`lease`).
Whatever changes the row takes the lease away, and the run is cancelled as soon as that change is durable. A
run that does not end in its time loses the lease to the clock. One that resists being cancelled goes on
without a right to write, beside a new attempt perhaps, and what it comes to is of no account.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from ..errors import StorageError
from ..storage import CLOSED_FOR_GOOD
from ..values import Value
from .lease import Lease, holding
from .registry import FunctionDefinition
from .runner import RunResult
from .system import CANCELED, FAILED, PENDING, SUCCESS

if TYPE_CHECKING:
    from ..engine import Engine

LOST = "the process ended while the action was running"
_NEVER_NS = 2**63
_STORAGE_RETRY_NS = 1_000_000_000
_CLOSED = CLOSED_FOR_GOOD | {"DatabaseClosed"}


class ActionRunHost(Protocol):
    """What running an action needs from the running database."""

    def start(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None: ...

    async def durable(self, ts: int) -> None: ...

    async def run_action(self, definition: FunctionDefinition, named: dict[str, Any]) -> RunResult: ...

    def failed(self, error: BaseException) -> str:
        """The text that a job's row keeps of an error."""
        ...


# Gives the row of a lease's job an end state, unless the lease is lost.
Finish = Callable[[Lease, dict[str, Value], FunctionDefinition], RunResult]


@dataclass(slots=True, eq=False)
class _ActionRun:
    lease: Lease
    definition: FunctionDefinition
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    # The commit that took the lease away; it counts once it is durable.
    lost_ts: int | None = None


class ActionRuns:
    """The actions of one open database that run as jobs."""

    def __init__(
        self, engine: Engine, host: ActionRunHost, finish: Finish, *, on_end: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._host = host
        self._finish = finish
        self._on_end = on_end
        # By job; more than one only while an earlier attempt resists its end.
        self._runs: dict[str, list[_ActionRun]] = {}
        # Those that lost their leases; the loop, to which they belong, has yet to be told.
        self._lost: list[_ActionRun] = []

    def __len__(self) -> int:
        """How many jobs they run for."""
        return len(self._runs)

    @property
    def running_count(self) -> int:
        return sum(map(len, self._runs.values()))

    def begin(self, id: str, marked_ts: int, definition: FunctionDefinition, named: dict[str, Any]) -> None:
        """Run an action whose job was marked as running by that commit, under the engine's lock."""
        time_s = self._engine.limits.action_time_s_max
        expires_ns = _NEVER_NS if math.isinf(time_s) else self._engine.clock.elapsed_ns() + int(time_s * 1e9)
        run = _ActionRun(Lease(self._engine, id, marked_ts, expires_ns), definition)
        self._runs.setdefault(id, []).append(run)
        self._host.start(self._run, run, named)

    def end(self) -> None:
        """The database closes: what has not begun yet is left for the next time."""
        for run in [run for runs in self._runs.values() for run in runs]:
            self._forget(run)
            self._finish(run.lease, {"kind": PENDING}, run.definition)

    def note(self, id: str, ts: int) -> bool:
        """A job's row was changed by that commit; True if a run loses its lease by it."""
        lost = [run for run in self._runs.get(id, ()) if run.lease.ts < ts]
        for run in lost:
            run.lost_ts = ts
        self._lost += lost
        return bool(lost)

    def cancel_lost(self) -> None:
        """Cancel the runs that were noted, once they cannot get their lease back. Called on the loop."""
        with self._engine.lock:
            lost, self._lost = self._lost, []
        for run in lost:
            try:
                self._host.start(self._cancel, run)
            except StorageError:  # closing the database cancels all of them
                return

    async def _cancel(self, run: _ActionRun) -> None:
        if await self._is_lost(run):
            run.scope.cancel()

    async def _is_lost(self, run: _ActionRun) -> bool:
        """Wait until it is certain that the run has lost its lease, or that it has it."""
        while run.lost_ts is not None:
            lost_ts = run.lost_ts
            try:
                await self._host.durable(lost_ts)
            except StorageError as error:
                if error.code in _CLOSED:
                    return True
                # That commit was undone, and its row is as it was before.
                if run.lost_ts == lost_ts:
                    run.lost_ts = None
            else:
                return True
        return False

    async def _run(self, run: _ActionRun, named: dict[str, Any]) -> None:
        lease = run.lease
        # Until it begins, nothing has happened.
        state: dict[str, Value] = {"kind": PENDING}
        try:
            await self._host.durable(lease.ts)
            # An action need not wait for anything, so one that was cancelled meanwhile is not even started.
            if await self._is_lost(run):
                return
            state = {"kind": FAILED, "error": LOST}
            async with anyio.create_task_group() as watching:
                watching.start_soon(self._expire, run)
                state = await self._leased(run, named)
                watching.cancel_scope.cancel()
        except StorageError:
            # The mark was undone, and the row is pending as before; or nothing can be written any more, and
            # the next `open` sees to it.
            pass
        finally:
            self._forget(run)
            # At once, since the database may be closing.
            if lease.is_over and state["kind"] != PENDING:
                state = self._out_of_time()
            written = self._finish(lease, state, run.definition)
        await self._insist(written, run, state)

    def _forget(self, run: _ActionRun) -> None:
        runs = self._runs[run.lease.job_id]
        runs.remove(run)
        if not runs:
            del self._runs[run.lease.job_id]
        self._on_end()

    async def _insist(self, written: RunResult, run: _ActionRun, state: dict[str, Value]) -> None:
        """Write the end state again until it is durable: a full disk may get room."""
        while True:
            try:
                if isinstance(written.error, StorageError):
                    raise written.error
                await self._host.durable(written.ts)
            except StorageError as error:
                if error.code in _CLOSED:  # the next `open` finds it running, and fails it
                    return
                await self._engine.clock.sleep_ns(_STORAGE_RETRY_NS)
                written = self._finish(run.lease, state, run.definition)
            else:
                return

    def _out_of_time(self) -> dict[str, Value]:
        time_s = self._engine.limits.action_time_s_max
        error = f"the action ran longer than {time_s} s (`action_time_s_max`) and was given up"
        return {"kind": FAILED, "error": error}

    async def _leased(self, run: _ActionRun, named: dict[str, Any]) -> dict[str, Value]:
        """Run an action until it ends or is cancelled; gives the end state."""
        with holding(run.lease), run.scope:
            result = await self._host.run_action(run.definition, named)
            if result.error is None:
                return {"kind": SUCCESS}
            return {"kind": FAILED, "error": self._host.failed(result.error)}
        return {"kind": CANCELED}

    async def _expire(self, run: _ActionRun) -> None:
        await self._engine.clock.sleep_ns(run.lease.expires_ns - self._engine.clock.elapsed_ns())
        state = self._out_of_time()
        await self._insist(self._finish(run.lease, state, run.definition), run, state)
