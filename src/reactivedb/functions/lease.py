"""May this run of a scheduled action still write?

A run holds the lease of its job as long as the job's row is as it was when the run was marked as running, and
for `Limits.action_time_s_max` at most. The commit timestamp of that row is the fencing token: whatever takes
the lease away (a cancellation, the end of its time, the failing of lost runs at `open`, a new attempt) writes
the row and so changes it. Every mutation that the action makes looks at the row in its own transaction, so
that none can commit after the lease is lost.

The lease is in the context, which tasks that the action starts inherit, and with its `ctx`, which may be
called from anywhere.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import RequestError

if TYPE_CHECKING:
    from ..engine import Engine, Transaction


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one run to write into its own database."""

    engine: Engine
    job_id: str
    # Of the commit that marked the job as running.
    ts: int
    # By what passes (`Clock.elapsed_ns`): a wall clock that is set takes nothing away.
    expires_ns: int

    @property
    def is_over(self) -> bool:
        """Its time is up, whether or not somebody has taken it over yet."""
        return self.engine.clock.elapsed_ns() >= self.expires_ns

    def check(self, transaction: Transaction) -> None:
        """Raises: RequestError `LeaseLost`."""
        with transaction.usage.uncounted():
            job = transaction.get(self.job_id)
        if job is None or job.ts != self.ts:
            raise self._lost("has ended, was cancelled or was given up")
        self.check_time()

    def check_time(self) -> None:
        """Raises: RequestError `LeaseLost`."""
        if self.is_over:
            raise self._lost(f"ran longer than {self.engine.limits.action_time_s_max} s")

    def _lost(self, why: str) -> RequestError:
        return RequestError(
            f"the action of job `{self.job_id}` {why}, and can write nothing more - "
            "await what it starts before it returns",
            code="LeaseLost",
            id=self.job_id,
        )


_current: ContextVar[Lease | None] = ContextVar("reactivedb_lease", default=None)


@contextmanager
def holding(lease: Lease | None) -> Generator[None]:
    """Make it the lease of what runs in this context; None: the product's own work."""
    token = _current.set(lease)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Lease | None:
    """The lease of the run that this context belongs to."""
    return _current.get()


def held_on(engine: Engine) -> Lease | None:
    """The lease that a write into this database needs; another database knows nothing of it."""
    lease = _current.get()
    return lease if lease is not None and lease.engine is engine else None
