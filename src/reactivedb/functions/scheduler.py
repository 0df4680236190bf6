"""How does a mutation ask for a function to run later?

A job is a row of `_scheduled_functions`, written in the caller's own transaction: it exists exactly if the
mutation committed. Who runs it, and when: see `jobs`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, ParamSpec

from ..errors import LimitExceededError, ValidationError
from ..protocol import identifier_of
from ..values import Value, decode_id, size_bytes
from .registration import Kind, RegisteredAction, RegisteredFunction, RegisteredMutation
from .system import CANCELED, IN_PROGRESS, JOBS, PENDING, SYSTEM_PREFIX

if TYPE_CHECKING:
    from ..engine import Timeline
    from ..limits import Limits
    from .registry import FunctionDefinition
    from .runner import Run

P = ParamSpec("P")
# The time by `Timeline.steady_ms` at which a job is due.
STEADY_DUE: Final = "steadyDueMs"
# As far as JavaScript's dates reach: the year 275760.
_TIME_MS_MAX = 8.64e15


class Scheduler:
    """`ctx.scheduler` of a mutation."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def run_after(
        self,
        delay: float | timedelta,
        function: RegisteredMutation[P, Any] | RegisteredAction[P, Any],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> str:
        """Run a function `delay` seconds after this transaction's time; gives the id of the job.

        Raises:
            ValidationError: `InvalidDelay`, or arguments that do not fit.
            LimitExceededError: too many jobs, or too large arguments, in one run.
        """
        return self.add_after(seconds_of(delay) * 1000, function, args, kwargs)

    def run_at(
        self,
        when: float | datetime,
        function: RegisteredMutation[P, Any] | RegisteredAction[P, Any],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> str:
        """Run a function at a time, in ms since the epoch or as an aware datetime."""
        return self.add(epoch_ms_of(when), function, args, kwargs)

    def cancel(self, id: str, /) -> None:
        """Make a pending job never run; a finished one stays as it is, and so does one of the product's own.

        An action that runs is cancelled where it waits, and can write nothing more. A job that is not kept
        any more has ended long ago.

        Raises:
            ValidationError: `InvalidId`, for what is no id of a job.
        """
        transaction = self._run.transaction
        number, _ = decode_id(id)
        table = self._run.runner.engine.catalog.by_number(number)
        if table is None or table.name != JOBS:
            raise ValidationError(
                f"`cancel` expects the id of a job, got `{id}`"
                + ("" if table is None else f" of table `{table.name}`"),
                code="InvalidId",
            )
        job = transaction.get(id)
        if job is None or str(job.fields["name"]).startswith(SYSTEM_PREFIX):
            return
        if state_kind(job.fields) in (PENDING, IN_PROGRESS):
            transaction.replace(job, finished(job.fields, {"kind": CANCELED}, transaction.now_ms))

    def add_after(
        self,
        delay_ms: float,
        function: RegisteredFunction[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> str:
        """As `run_after`."""
        at_ms = self._run.transaction.now_ms + delay_ms
        return self.add(at_ms, function, args, kwargs, delay_ms=delay_ms)

    def add(
        self,
        at_ms: float,
        function: RegisteredFunction[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        delay_ms: float | None = None,
    ) -> str:
        """As `run_at`; with a delay, the time is that long after this transaction's."""
        definition = self._run.runner.registry.of(function)
        if definition.kind is Kind.QUERY:
            raise ValidationError(
                f"a job runs a mutation or an action, got the query `{definition.path}` - "
                "its result would go nowhere",
                code="WrongKind",
            )
        values = definition.args.dump(definition.args.bind(args, kwargs))
        return self.add_definition(at_ms, definition, values, delay_ms=delay_ms)

    def add_definition(
        self,
        at_ms: float,
        definition: FunctionDefinition,
        values: dict[str, Value],
        *,
        delay_ms: float | None = None,
    ) -> str:
        run = self._run
        limits = run.runner.engine.limits
        size = size_bytes(values)
        if size > limits.scheduled_call_size_bytes_max:
            raise LimitExceededError(
                f"the arguments of one job may have {limits.scheduled_call_size_bytes_max} bytes, "
                f"got {size} - store the data and pass its id",
                code="ScheduledFunctionArgumentsTooLarge",
                limit="scheduled_call_size_bytes_max",
                maximum=limits.scheduled_call_size_bytes_max,
                asked=size,
            )
        scheduled_count, scheduled_size_bytes = run.scheduled[0] + 1, run.scheduled[1] + size
        check_scheduled_count(scheduled_count, limits)
        if scheduled_size_bytes > limits.scheduled_args_size_bytes_max:
            raise LimitExceededError(
                f"the arguments of one run's jobs may have {limits.scheduled_args_size_bytes_max} bytes, got "
                f"{scheduled_size_bytes} - store the data and pass its id",
                code="ScheduledFunctionsArgumentsTooLarge",
                limit="scheduled_args_size_bytes_max",
                maximum=limits.scheduled_args_size_bytes_max,
                asked=scheduled_size_bytes,
            )
        table = run.runner.engine.catalog.table(JOBS)
        run.scheduled = scheduled_count, scheduled_size_bytes
        return run.transaction.insert(
            table,
            {
                "name": identifier_of(definition.path),
                "args": [values],
                "scheduledTime": float(at_ms),
                "state": {"kind": PENDING},
                **steady_due(run.runner.engine.timeline, delay_ms),
            },
        )


def check_scheduled_count(count: int, limits: Limits) -> None:
    """Raises: LimitExceededError `TooManyFunctionsScheduled`."""
    if count > limits.scheduled_max:
        raise LimitExceededError(
            f"one run may schedule {limits.scheduled_max} jobs, this one wanted {count} - "
            "let a job schedule the rest",
            code="TooManyFunctionsScheduled",
            limit="scheduled_max",
            maximum=limits.scheduled_max,
            asked=count,
        )


def steady_due(timeline: Timeline, delay_ms: float | None) -> dict[str, Value]:
    """What the row of a job keeps while the clock is ahead: when it is due if the clock is set back."""
    if delay_ms is None or not timeline.is_ahead:
        return {}
    return {STEADY_DUE: timeline.steady_ms + delay_ms}


def seconds_of(delay: float | timedelta) -> float:
    """Raises: ValidationError `InvalidDelay`."""
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if not (_is_number(seconds) and 0 <= seconds <= _TIME_MS_MAX / 1000):
        raise ValidationError(
            f"a delay is a number of seconds from 0 to 8.64e12, or a timedelta, got `{delay!r}`",
            code="InvalidDelay",
        )
    return float(seconds)


def epoch_ms_of(when: float | datetime) -> float:
    """Raises: ValidationError `InvalidTime`."""
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise ValidationError(
                f"a datetime for a job needs a time zone, got `{when!r}` - use `datetime.now(timezone.utc)`",
                code="InvalidTime",
            )
        return when.timestamp() * 1000
    if not (_is_number(when) and -_TIME_MS_MAX <= when <= _TIME_MS_MAX):
        raise ValidationError(
            f"a time is in ms since the epoch, within 8.64e15 of it, or a datetime, got `{when!r}`",
            code="InvalidTime",
        )
    return float(when)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def state_kind(fields: dict[str, Value]) -> str:
    """The state of a job's row."""
    state = fields["state"]
    assert isinstance(state, dict)
    return str(state["kind"])


def finished(fields: dict[str, Value], state: dict[str, Value], now_ms: float) -> dict[str, Value]:
    """A job's fields in an end state."""
    kept = {name: value for name, value in fields.items() if not name.startswith("_")}
    return {**kept, "state": state, "completedTime": now_ms}
