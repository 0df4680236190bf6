"""What did the data look like at an earlier timestamp, and how did one document come to be what it is?

A view of the past is the state minus the log: a transaction in which every document that has changed since
is overlaid with its version of then. It is read and dropped, never committed. How far back: see `retention`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import StorageError, ValidationError
from ..values import decode_id
from .document import StoredDocument

if TYPE_CHECKING:
    from ..storage import DocumentWrite
    from .engine import Engine
    from .transaction import Transaction

_BATCH = 1_000


def check_readable_at(engine: Engine, ts: int) -> None:
    """Raises: ValidationError `TimestampOutOfRange`, `InvalidTimestamp`."""
    oldest, newest = engine.retention.horizon_ts, engine.committer.applied_ts
    if type(ts) is not int:
        # A float cannot hold nanoseconds, and would read at another moment.
        raise ValidationError(
            f"a timestamp is an integer of nanoseconds since the epoch, got `{ts!r}` - use `db.latest_ts`",
            code="InvalidTimestamp",
        )
    if ts > newest or ts < 0:
        raise ValidationError(
            f"a timestamp to read at lies between {oldest} and {newest} (now), got {ts}",
            code="TimestampOutOfRange",
        )
    if ts < oldest:
        raise ValidationError(
            f"the state at {ts} is not kept any more, the oldest is {oldest} - read at a later timestamp, or "
            "keep more with `Limits(log_retention_s=, log_retention_size_bytes_max=)`",
            code="TimestampOutOfRange",
        )


def check_public_at(engine: Engine, ts: int) -> None:
    """Let callers without the admin key see what was the newest state lately, and nothing older.

    What was deleted is gone for them, and none of them can have the lock held for long.

    Raises:
        ValidationError: `TimestampOutOfRange`.
    """
    # First of all: what is no moment of this database may not even fit into a column of the log.
    check_readable_at(engine, ts)
    with engine.lock:
        next_write = engine.storage.log(ts, limit=1)
        engine.timeline.observe(engine.clock.now_ns())
        age_s = engine.timeline.age_at_least_s(next_write[0][0]) if next_write else 0.0
    if age_s > engine.limits.public_history_s:
        raise ValidationError(
            f"the state at {ts} was replaced {age_s:.0f} s ago, and without the admin key it can be read for "
            f"{engine.limits.public_history_s:g} s - ask for a newer timestamp (`/api/query_ts`)",
            code="TimestampOutOfRange",
        )


def begin_at(engine: Engine, ts: int) -> Transaction:
    """A transaction that reads the state as of `ts`. Cost: linear in what was written since.

    Raises:
        ValidationError: `TimestampOutOfRange`, for a time that has not come yet or is no longer kept.
    """
    check_readable_at(engine, ts)
    transaction = engine.begin()
    # What a function shows may depend on the time: here that is the time of the data.
    transaction.now_ms = ts / 1e6
    seen: set[str] = set()
    after_ts = ts
    while batch := engine.storage.log(after_ts, limit=_BATCH):
        after_ts = batch[-1][0]
        # The first write after `ts` names the version of then.
        first: dict[str, DocumentWrite] = {}
        for _, write in batch:
            if write.id not in seen:
                seen.add(write.id)
                first[write.id] = write
        texts = _texts_before(engine, first)
        for write in first.values():
            table = engine.catalog.by_number(write.table_number)
            if table is None:
                continue
            past: StoredDocument | None = None
            if write.prev_ts is not None:
                past = StoredDocument.found(table, write.id, write.prev_ts, texts[write.id])
                past = None if past.gone else past
            transaction.overlay_past(engine.load(table, write.id), past, table=table, id=write.id)
    return transaction


def _texts_before(engine: Engine, writes: dict[str, DocumentWrite]) -> dict[str, bytes]:
    """Of each document, the text that its write replaced."""
    by_ts: dict[int, list[str]] = {}
    for write in writes.values():
        if write.prev_ts is not None:
            by_ts.setdefault(write.prev_ts, []).append(write.id)
    texts: dict[str, bytes] = {}
    for ts, ids in by_ts.items():
        found = {write.id: write.value for write in engine.storage.logged(ts, ids)}
        for id in ids:
            value = found.get(id)
            if value is None:
                raise StorageError(
                    f"the log should hold the version of `{id}` at {ts}, but does not - restore a backup",
                    code="DatabaseCorrupt",
                    id=id,
                )
            texts[id] = value
    return texts


def versions_of(engine: Engine, id: str, *, limit: int) -> list[tuple[int, StoredDocument | None]]:
    """The kept versions of a document, newest first, with the `ts` of each; None is its deletion.

    Cost: O(versions), each with a look through its commit; of a deleted document, also O(log).

    Raises:
        ValidationError: `InvalidId`, `InvalidHistoryLimit`.
    """
    if type(limit) is not int or limit < 0:
        raise ValidationError(
            f"`history` expects a number of versions from 0 on, got `{limit!r}`", code="InvalidHistoryLimit"
        )
    table = engine.catalog.by_number(decode_id(id)[0])
    if table is None:
        return []
    newest = engine.storage.get(table.number, id)
    ts = newest.ts if newest is not None else engine.storage.deleted_at(id)
    versions: list[tuple[int, StoredDocument | None]] = []
    while ts is not None and len(versions) < limit:
        found = engine.storage.logged(ts, [id])
        if not found:
            break  # given up by the retention
        [write] = found
        document = None if write.value is None else StoredDocument.found(table, id, ts, write.value)
        versions.append((ts, None if document is None or document.gone else document))
        ts = write.prev_ts
    return versions
