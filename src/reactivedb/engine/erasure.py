"""How are a document's versions taken out of the log and out of recorded answers, beside running
transactions?

Each function is a generator that holds the engine's lock only between two `yield`s, some milliseconds long,
and can be given up at any of them: what it has erased stays erased, and it finds the rest when it is called
again. What remains of a document is one tombstone without a previous version. It tells consumers of the log,
and backups, that the document is gone, and was never there as far as the past can be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator
from typing import TYPE_CHECKING, Final, cast

from ..errors import ValidationError
from ..storage import Commit, DocumentWrite
from ..values import decode_id, dumps
from .write_set import WriteSet

if TYPE_CHECKING:
    from .engine import Engine

# Some two milliseconds of looking through texts.
_BATCH: Final = 500


def texts_of(json_text: bytes, length_min: int) -> set[str]:
    """The strings in a document, however deep, of at least that length; ids are no content."""
    found: set[str] = set()
    waiting: list[object] = [json.loads(json_text)]
    while waiting:
        part = waiting.pop()
        match part:
            case dict():
                fields = cast("dict[str, object]", part)
                waiting += [field for name, field in fields.items() if name != "_id"]
            case list():
                waiting += cast("list[object]", part)
            case str() as text if len(text) >= length_min and not _is_id(text):
                found.add(text)
            case _:
                pass
    return found


def written_forms(texts: Collection[str]) -> list[bytes]:
    """How those texts stand in JSON: in documents and results, and in log lines, which are ASCII."""
    forms: set[bytes] = set()
    for text in texts:
        forms.add(dumps(text)[1:-1])
        forms.add(json.dumps(text)[1:-1].encode())
    return sorted(forms)


def versions_in_log(engine: Engine, id: str) -> Generator[None, None, dict[int, bytes | None]]:
    """The text of each kept version of a document by its timestamp; None is a deletion.

    Cost: O(versions); of a document that is not stored, O(log).
    """
    table_number = decode_id(id)[0]
    with engine.lock:
        stored = engine.storage.get(table_number, id)
        ts = None if stored is None else stored.ts
    if ts is None:

        def own(at: int, write: DocumentWrite) -> None:
            nonlocal ts
            if write.id == id:
                ts = at

        yield from each_write(engine, own)
    versions: dict[int, bytes | None] = {}
    while ts is not None:
        with engine.lock:
            found = engine.storage.logged(ts, [id])
        if not found:
            break  # given up by the retention
        versions[ts] = found[0].value
        ts = found[0].prev_ts
        if len(versions) % _BATCH == 0:
            yield
    return versions


def each_write(engine: Engine, look: Callable[[int, DocumentWrite], None]) -> Generator[None]:
    """Show all that the log holds, oldest first, also what is written meanwhile."""
    after_ts = -1
    while True:
        with engine.lock:
            batch = engine.storage.log(after_ts, limit=_BATCH)
        if not batch:
            return
        for ts, write in batch:
            look(ts, write)
        after_ts = batch[-1][0]
        yield


def erase_versions(engine: Engine, id: str, timestamps: Collection[int]) -> int:
    """Leave of a document that is not stored one tombstone, in a group of its own; gives its timestamp."""
    with engine.lock:
        with engine.own_group():
            engine.storage.erase_writes(id, sorted(timestamps))
            ts = engine.committer.next_ts()
            tombstone = DocumentWrite(decode_id(id)[0], id, None, None)
            engine.committer.append(ts, WriteSet(()), Commit(ts, [tombstone], [], [], None))
        engine.cache.discard(id)
        # It holds the document as it was before its deletion.
        engine.committer.forget_history()
        return ts


def erase_answers(engine: Engine, forms: Collection[bytes], erased: bytes) -> Generator[None, None, int]:
    """Put `erased` in the place of each recorded answer that has one of the texts; gives how many.

    The records themselves stay, so that a repeated request still does not run again.
    """
    count = 0
    after_ts = -1
    while True:
        with engine.lock:
            batch = engine.storage.outcomes(after_ts, limit=_BATCH)
            if not batch:
                return count
            found = [
                outcome.ts
                for outcome in batch
                if _has_any(outcome.result, forms) or _has_any(json.dumps(outcome.log_lines).encode(), forms)
            ]
            if found:
                with engine.own_group():
                    for ts in found:
                        engine.storage.replace_outcome(ts, erased)
            count += len(found)
            after_ts = batch[-1].ts
        yield


def _has_any(text: bytes, forms: Collection[bytes]) -> bool:
    return any(form in text for form in forms)


def _is_id(text: str) -> bool:
    try:
        decode_id(text)
    except ValidationError:
        return False
    return True
