"""Who has tried too often?

Token buckets in the database, so that a restart makes nobody's tries new. An attempt takes a token of each of
its buckets before anything is verified, so that many at once cannot slip through, and a good one gives them
back. Time is what passes (`Timeline`), whatever the wall clock is set to. A bucket that would be full again
by now is the same as none, and is deleted when others are written.

Whoever tries on somebody else's account from outside empties the account's bucket, and then the owner cannot
sign in there either, for as long as that goes on and a minute longer. That is why a device that was signed in
to the account before (it shows a refresh token of then, which need not be good any more) has a bucket of its
own, which nobody else can empty; and sessions that are there go on in any case.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, cast

from . import failures
from .tables import BUCKETS, find, insert, rows, update

if TYPE_CHECKING:
    from ..engine import StoredDocument
    from ..functions import Run
    from ..limits import Limits

# More than one run adds, so that the table shrinks after a storm.
_SWEPT_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Bucket:
    """Holds `size` tokens when it is full; one comes back every `recovery_ms`."""

    key: str
    size: int
    recovery_ms: float


def account_bucket(limits: Limits, name_key: str) -> Bucket:
    """Attempts on a name, whether there is such an account or not."""
    # A digest has one length, and tells a reader of the table no names that are somebody's typing errors.
    digest = hashlib.sha256(name_key.encode()).hexdigest()
    return Bucket(f"account:{digest}", limits.sign_in_failures_max, limits.sign_in_failure_recovery_s * 1000)


def device_bucket(limits: Limits, session_id: str) -> Bucket:
    """Attempts from where this session is, or was."""
    return Bucket(
        f"device:{session_id}", limits.sign_in_failures_max, limits.sign_in_failure_recovery_s * 1000
    )


def everybody_bucket(limits: Limits) -> Bucket:
    """Attempts from unknown devices, on whatever names."""
    return Bucket(
        "everybody", limits.sign_in_failures_total_max, limits.sign_in_failure_total_recovery_s * 1000
    )


def sign_up_bucket(limits: Limits) -> Bucket:
    """New accounts; asking in this way which names are taken is as slow."""
    return Bucket("signUp", limits.sign_ups_max, limits.sign_up_recovery_s * 1000)


def anonymous_bucket(limits: Limits) -> Bucket:
    """New anonymous users."""
    return Bucket("anonymous", limits.anonymous_users_max, limits.anonymous_user_recovery_s * 1000)


def take(run: Run, *buckets: Bucket) -> None:
    """Take a token from each of them, or from none.

    Raises:
        ApplicationError: `RateLimited`, with the time until there is one.
    """
    now_ms = run.runner.engine.timeline.steady_ms
    found = [(bucket, find(run, BUCKETS, "by_key", bucket.key)) for bucket in buckets]
    levels = [_level(bucket, row, now_ms) for bucket, row in found]
    missing_ms = [(1 - level) * bucket.recovery_ms for bucket, level in zip(buckets, levels, strict=True)]
    if max(missing_ms) > 0:
        raise failures.rate_limited(max(missing_ms))
    for (bucket, row), level in zip(found, levels, strict=True):
        _put(run, bucket, row, level - 1)
    _sweep(run)


def give_back(run: Run, *buckets: Bucket) -> None:
    """Undo a `take`: the attempt was a good one."""
    for bucket in buckets:
        row = find(run, BUCKETS, "by_key", bucket.key)
        if row is not None:
            _put(run, bucket, row, _level(bucket, row, run.runner.engine.timeline.steady_ms) + 1)


def _level(bucket: Bucket, row: StoredDocument | None, now_ms: float) -> float:
    if row is None:
        return bucket.size
    level, at_ms = cast("float", row.fields["level"]), cast("float", row.fields["atMs"])
    # What passed unrecorded before a crash of the machine takes nothing away.
    return min(bucket.size, level + max(0.0, now_ms - at_ms) / bucket.recovery_ms)


def _put(run: Run, bucket: Bucket, row: StoredDocument | None, level: float) -> None:
    if level >= bucket.size:
        if row is not None:
            run.transaction.delete(row)
        return
    now_ms = run.runner.engine.timeline.steady_ms
    full_ms = now_ms + (bucket.size - level) * bucket.recovery_ms
    fields = {"key": bucket.key, "level": float(level), "atMs": now_ms, "fullMs": full_ms}
    if row is None:
        insert(run, BUCKETS, {**fields})
    else:
        update(run, row, {**fields})


def _sweep(run: Run) -> None:
    for row in list(islice(rows(run, BUCKETS, "by_full"), _SWEPT_MAX)):
        if cast("float", row.fields["fullMs"]) > run.runner.engine.timeline.steady_ms:
            return
        run.transaction.delete(row)
