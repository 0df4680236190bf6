"""When does each cron job run next, over restarts and new versions of the application?

A row of `_cron_jobs` names the one job of `_scheduled_functions` that is its next or present run. When that
job has ended, the next one is scheduled for the first tick to come: so runs never overlap, ticks that pass
meanwhile are skipped, and what was due while the process was down runs once. When the wall clock was set
back, a next run that was meant for a later clock is brought forward. Both rows are changed in one commit;
what a crash leaves between a job's end and that commit is found at the next start. A cron job that cannot be
scheduled is left as it is, with a line in the log, and the others go on.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from ..engine import IndexScan, StoredDocument
from ..errors import StorageError
from ..log import Log
from ..user_code import contained, is_of, text_of
from ..values import Value
from .crons import BoundCron
from .system import CRON_JOBS, IN_PROGRESS, PENDING, SUCCESS

if TYPE_CHECKING:
    from .runner import Run


_logger = Log("reactivedb")


class CronJobs:
    """The cron jobs of one open database. Its methods run in a transaction that the caller commits."""

    def __init__(self) -> None:
        self._declared: dict[str, BoundCron] = {}
        # The name of the cron job by the id of its scheduled job.
        self._names: dict[str, str] = {}
        # Set when jobs have ended whose successors are to be scheduled.
        self.is_stale = False
        # The wall clock may have been set back since the next runs were scheduled.
        self.clock_jumped = True

    @property
    def are_declared(self) -> bool:
        """There are any."""
        return bool(self._declared)

    def owns(self, id: str) -> bool:
        """That job is the next or present run of a cron job."""
        return id in self._names

    def deploy(self, run: Run, declared: dict[str, BoundCron]) -> None:
        """Make these the cron jobs: new ones begin, changed ones begin again, others vanish."""
        self._declared = declared
        rows = {str(row.fields["name"]): row for row in _rows(run)}
        for name, row in rows.items():
            if name not in declared:
                _cancel(run, row)
                run.transaction.delete(row)
            elif row.fields["cronSpec"] != declared[name].spec:
                # A run that is under way goes on, and its successor follows the new rule.
                running = _state(run, row) == IN_PROGRESS
                changes: dict[str, Value] = {"cronSpec": declared[name].spec}
                with _apart(run, name):
                    if not running:
                        _cancel(run, row)
                        changes |= _begin(run, declared[name])
                    run.transaction.replace(row, _fields(row) | changes)
        table = run.runner.engine.catalog.table(CRON_JOBS)
        for name, cron in declared.items():
            if name not in rows:
                fields: dict[str, Value] = {"name": name, "cronSpec": cron.spec}
                with _apart(run, name):
                    run.transaction.insert(table, fields | _begin(run, cron))
        self.continue_(run)

    def continue_(self, run: Run) -> None:
        """Schedule the successors of jobs that have ended."""
        names: dict[str, str] = {}
        for row in _rows(run):
            fields = _fields(row)
            cron = self._declared[str(fields["name"])]
            state = _state(run, row)
            with _apart(run, cron.cron.name):
                changes: dict[str, Value] = {}
                if state not in (PENDING, IN_PROGRESS):
                    changes = _follow(run, cron, fields)
                elif self.clock_jumped and state == PENDING:
                    changes = _sooner(run, cron, row)
                if changes:
                    fields |= changes
                    run.transaction.replace(row, fields)
            names[str(fields["jobId"])] = cron.cron.name
        self._names = names
        self.is_stale = self.clock_jumped = False


@contextmanager
def _apart(run: Run, name: str) -> Generator[None]:
    """Do something for one cron job; if it fails, nothing of it is done, and the others go on."""
    mark, scheduled = run.transaction.mark(), run.scheduled
    try:
        yield
    except BaseException as error:
        if is_of(contained(error), StorageError):
            raise
        run.transaction.rollback_to(mark)
        run.scheduled = scheduled
        _logger.error("the cron job `%s` cannot be scheduled and does not run: %s", name, text_of(error))


def _begin(run: Run, cron: BoundCron) -> dict[str, Value]:
    return _schedule(run, cron, cron.cron.schedule.first_ms(run.transaction.now_ms))


def _follow(run: Run, cron: BoundCron, fields: dict[str, Value]) -> dict[str, Value]:
    last_ms = cast("float", fields["nextRun"])
    job = run.transaction.get(str(fields["jobId"]))
    if job is not None and _kind(job) == SUCCESS:
        # One row a second would be 600,000 in the week for which ended jobs are kept. Failed ones stay.
        run.transaction.delete(job)
    next_ms = cron.cron.schedule.next_ms(last_ms, run.transaction.now_ms)
    return {"lastRun": last_ms} | _schedule(run, cron, next_ms)


def _sooner(run: Run, cron: BoundCron, row: StoredDocument) -> dict[str, Value]:
    """The next run for the clock as it is, if that comes before the one that waits."""
    schedule, now_ms = cron.cron.schedule, run.transaction.now_ms
    last_ms = cast("float | None", row.fields.get("lastRun"))
    at_ms = schedule.first_ms(now_ms) if last_ms is None else schedule.next_ms(last_ms, now_ms)
    if at_ms >= cast("float", row.fields["nextRun"]):
        return {}
    _cancel(run, row)
    return _schedule(run, cron, at_ms)


def _schedule(run: Run, cron: BoundCron, at_ms: float) -> dict[str, Value]:
    id = run.scheduler.add_definition(at_ms, cron.definition, cron.values)
    return {"nextRun": at_ms, "jobId": id}


def _cancel(run: Run, row: StoredDocument) -> None:
    """A run that has not begun never will; one that is under way is left to end."""
    if _state(run, row) == PENDING:
        run.scheduler.cancel(str(row.fields["jobId"]))


def _state(run: Run, row: StoredDocument) -> str | None:
    job = run.transaction.get(str(row.fields["jobId"]))
    return None if job is None else _kind(job)


def _kind(job: StoredDocument) -> str:
    return str(cast("dict[str, Any]", job.fields["state"])["kind"])


def _fields(row: StoredDocument) -> dict[str, Value]:
    return {name: value for name, value in row.fields.items() if not name.startswith("_")}


def _rows(run: Run) -> list[StoredDocument]:
    table = run.runner.engine.catalog.table(CRON_JOBS)
    index = table.indexes["by_name"]
    scan = IndexScan(table, index, index.interval((), None, None), None)
    return [row for row, _ in run.transaction.scan(scan)]
