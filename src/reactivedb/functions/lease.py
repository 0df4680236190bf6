"""May this run of a scheduled action still write?

A run holds the lease of its job as long as the job's row is as it was when the run was marked as running. The
commit timestamp of that row is the fencing token: whatever takes the lease away (a cancellation, the failing
of lost runs at `open`, a new attempt) writes the row and so changes it. Every mutation that the action makes
looks at the row in its own transaction, so that none can commit after the lease is lost.

The lease is in the context, which tasks and threads that the action starts inherit.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import RequestError

if TYPE_CHECKING:
    from ..engine import Transaction


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one run to write."""

    job_id: str
    # Of the commit that marked the job as running.
    ts: int

    def check(self, transaction: Transaction) -> None:
        """Raises: RequestError `LeaseLost`."""
        job = transaction.get(self.job_id)
        if job is None or job.ts != self.ts:
            raise RequestError(
                f"the action of job `{self.job_id}` has ended, was cancelled or was given up, "
                "and can write nothing more - await what it starts before it returns",
                code="LeaseLost",
                id=self.job_id,
            )


_current: ContextVar[Lease | None] = ContextVar("reactivedb_lease", default=None)


def enter(lease: Lease | None) -> Token[Lease | None]:
    """Make it the lease of what runs in this context, until `leave`; None: the product's own work."""
    return _current.set(lease)


def leave(token: Token[Lease | None]) -> None:
    _current.reset(token)


def check(transaction: Transaction) -> None:
    """Raises: RequestError `LeaseLost`, if the action that makes this mutation may not write any more."""
    lease = _current.get()
    if lease is not None:
        lease.check(transaction)
