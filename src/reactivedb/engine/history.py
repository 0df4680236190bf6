"""What did the data look like at an earlier timestamp?

A view of the past is the state minus the log: a transaction in which every document that has changed since
is overlaid with its version of then. It is read and dropped, never committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ValidationError
from .document import StoredDocument

if TYPE_CHECKING:
    from .engine import Engine
    from .transaction import Transaction

_BATCH = 1_000


def begin_at(engine: Engine, ts: int) -> Transaction:
    """A transaction that reads the state as of `ts`. Cost: linear in what was written since.

    Raises:
        ValidationError: `TimestampOutOfRange`, for a time that has not come yet.
    """
    if not 0 <= ts <= engine.committer.applied_ts:
        raise ValidationError(
            f"a timestamp to read at lies between 0 and {engine.committer.applied_ts} (now), got {ts}",
            code="TimestampOutOfRange",
        )
    transaction = engine.begin()
    seen: set[str] = set()
    after_ts = ts
    while batch := engine.storage.log(after_ts, limit=_BATCH):
        after_ts = batch[-1][0]
        for _, write in batch:
            if write.id in seen:
                continue
            seen.add(write.id)
            table = engine.catalog.by_number(write.table_number)
            if table is None:
                continue
            past: StoredDocument | None = None
            if write.prev_ts is not None:
                past = StoredDocument(
                    table, write.id, write.prev_ts, _value_at(engine, write.id, write.prev_ts)
                )
            transaction.overlay_past(engine.load(table, write.id), past, table=table, id=write.id)
    return transaction


def _value_at(engine: Engine, id: str, ts: int) -> bytes:
    """The text that the commit at `ts` gave a document."""
    for row_ts, write in engine.storage.log(ts - 1, limit=1):
        if row_ts == ts and write.id == id and write.value is not None:
            return write.value
    raise ValidationError(
        f"the version of `{id}` at {ts} is no longer kept - read at a later timestamp",
        code="TimestampOutOfRange",
    )
