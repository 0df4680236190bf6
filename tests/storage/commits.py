"""How do the storage tests write down a commit?"""

from __future__ import annotations

import json
from collections.abc import Sequence

from reactivedb.storage import Commit, DocumentWrite, IndexRow, Outcome, TableRow

TABLE = TableRow(10_001, "messages")
INDEX = IndexRow(1, TABLE.number, "by_author", ("author", "_creationTime"), "definition", "ready")


def text_of(id: str, creation_time: float = 1.0, **fields: object) -> bytes:
    document = {**fields, "_creationTime": creation_time, "_id": id}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def write(id: str, value: bytes | None = None, *, prev_ts: int | None = None) -> DocumentWrite:
    """A write to `TABLE`; without a value a tombstone."""
    return DocumentWrite(TABLE.number, id, prev_ts, value)


def insert(ts: int, *ids: str, creation_time: float = 1.0) -> Commit:
    """New documents, each with one entry of `INDEX` under its own id as the key."""
    return Commit(
        ts=ts,
        writes=[write(new, text_of(new, creation_time, author="ada")) for new in ids],
        index_removed=[],
        index_added=[(INDEX.number, new.encode(), new) for new in ids],
        outcome=None,
    )


def commit(
    ts: int,
    writes: Sequence[DocumentWrite] = (),
    *,
    removed: Sequence[bytes] = (),
    added: Sequence[tuple[bytes, str]] = (),
    outcome: Outcome | None = None,
) -> Commit:
    return Commit(
        ts=ts,
        writes=list(writes),
        index_removed=[(INDEX.number, key) for key in removed],
        index_added=[(INDEX.number, key, target) for key, target in added],
        outcome=outcome,
    )
