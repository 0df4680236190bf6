"""What does one run see, and what will it change?

A transaction is its own writes over the state at `base_ts`. Every read is recorded (`read_set`), every
write waits in memory until `Engine.commit`. It runs to its end under the engine's lock, so the state below
it does not move; when it is over, reading through it is an error.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import LimitExceededError, ReactiveDBError, ValidationError
from ..values import Value, decode_id, encode, encode_id
from .added_keys import AddedKeys
from .backfill import check_ready
from .document import StoredDocument
from .document_limits import check_document_limits
from .interval import EVERYTHING, just_above
from .read_set import RangeRead, ReadSet
from .usage import Usage
from .walk import Walk
from .write_set import DocumentChange, WriteSet

if TYPE_CHECKING:
    from .catalog import TableState
    from .engine import Engine
    from .query import IndexScan

# Index entries fetched at once: enough to save calls, few enough that `first()` stays cheap.
_CHUNK_FIRST = 32
_CHUNK_MAX = 1024
_PREFETCH_MAX = 32
# Documents fetched at first for a reader who says how many it will take: a client may ask for a page of any
# size. Four times as many come next, so that what is fetched stays within a few times of what is read.
_EXPECTED_FIRST = 64


@dataclass(slots=True)
class PendingWrite:
    """What this transaction makes of one document: `old` is in the state below, `new` is its wish."""

    table: TableState
    old: StoredDocument | None
    new: StoredDocument | None


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A point in a transaction's writes."""

    undo_count: int
    written: tuple[int, int]


class Transaction:
    """One run's view of the data. Not thread-safe: the engine's lock is held while it is used."""

    def __init__(self, engine: Engine, *, seed: bytes, now_ns: int, base_ts: int) -> None:
        self._engine = engine
        self._storage = engine.storage
        self.limits = self._limits = engine.limits
        self.base_ts = base_ts
        self.now_ms = now_ns / 1e6
        self.seed = seed
        self.read_set = ReadSet()
        self.finished = False
        # Set by the watchdog, from another thread, once the run is over its time.
        self.overdue: LimitExceededError | None = None
        # Set while user code filters: a predicate that reads cannot be asked again outside of this run.
        self.filtering: RangeRead | None = None
        self._random: random.Random | None = None
        self._pending: dict[str, PendingWrite] = {}
        # What a scan has fetched ahead and not yet given out.
        self._fetched: dict[str, StoredDocument] = {}
        self._undo: list[tuple[str, PendingWrite | None]] = []
        # Per index: keys this transaction adds, and keys of the state that it hides.
        self._added: dict[int, AddedKeys] = {}
        self._hidden: dict[int, dict[bytes, int]] = {}
        # Loops that are under way, which are not to meet what they have made.
        self._walks: list[Walk] = []
        self._ids_made = 0
        self.usage = Usage(engine.limits)

    # Determinism

    @property
    def random(self) -> random.Random:
        """The transaction's own generator: the same seed gives the same run."""
        self._not_while_filtering()
        if self._random is None:
            self._random = random.Random(self.seed)
        return self._random

    def _new_id(self, table: TableState) -> str:
        """Time and count first, so that what is inserted together lies together in the file; then chance.

        A million documents under wholly random ids cost every insert and every document of a range a page
        of their own. 64 bits of chance keep ids from being guessed; that an id tells its age is no secret,
        `_creationTime` does too.
        """
        self._ids_made += 1
        digest = hashlib.blake2b(self._ids_made.to_bytes(8, "little"), key=self.seed, digest_size=8).digest()
        time = int(self.now_ms).to_bytes(6, "big") + min(self._ids_made, 0xFFFF).to_bytes(2, "big")
        return encode_id(table.number, time + digest)

    # Reading

    def get(self, id: str) -> StoredDocument | None:
        """The document with that id, whatever its table; the read is recorded even if there is none.

        Raises:
            ValidationError: `InvalidId`.
        """
        self._begin_read()
        if not isinstance(id, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            decode_id(id)  # A dict cannot even be looked up.
        pending = self._pending.get(id)
        document = pending.new if pending is not None else self._engine.cache.get(id)
        if document is not None:
            table = document.table
        else:
            number, _ = decode_id(id)
            found = self._engine.catalog.by_number(number)
            if found is None:
                return None
            table = found
            document = self._engine.load(table, id) if pending is None else None
        self.read_set.record_exact(table.by_id.number, id.encode())
        # Looking for a document that is not there is a read too.
        self.usage.read(0 if document is None else len(document.json))
        return document

    def scan(self, scan: IndexScan) -> Iterator[tuple[StoredDocument, RangeRead]]:
        """The documents of a range in index order, each with the read it extends."""
        read = self.begin_scan(scan)
        return ((document, read) for _, document in self.documents(scan, read))

    def begin_scan(self, scan: IndexScan) -> RangeRead:
        self._begin_read()
        check_ready(self._storage, scan.index)
        self.usage.read_range()
        return self.read_set.record(
            RangeRead(scan.index.number, scan.interval, prefix=scan.prefix, reverse=scan.reverse)
        )

    def documents(
        self, scan: IndexScan, read: RangeRead, *, expected: int | None = None, walk: Walk | None = None
    ) -> Iterator[tuple[bytes, StoredDocument]]:
        """The index keys and documents of a scan, extending its read by each of them.

        `expected` is how many the caller will take, if it knows: they are fetched together. `walk` is the
        pass over several scans of which this one is a part.
        """
        alone = walk is None
        if walk is None:
            walk = Walk()
            self._walks.append(walk)
        prefetch = 0 if scan.index.is_by_id else expected or 1
        count_read = self.usage.read
        try:
            for key, id in self._keys(scan, walk, prefetch=prefetch):
                pending = self._pending.get(id)
                if pending is not None:
                    old = pending.old
                    is_moved = old is None or old.key(scan.index).key != key
                    if not walk.meets(id, is_moved=is_moved):
                        continue
                    document = pending.new
                else:
                    document = self._fetched.pop(id, None) or self._engine.load(scan.table, id)
                if document is None:
                    raise AssertionError(f"index {scan.index!r} points at {id}, which does not exist")
                read.consumed(key)
                count_read(len(document.json))
                walk.met.add(id)
                yield key, document
                self._begin_read()
            read.consumed_all()
        finally:
            if alone:
                self._walks.remove(walk)

    @contextmanager
    def walking(self, part_of: Walk | None = None) -> Generator[Walk]:
        """A pass over documents, until this ends; or a part of one."""
        if part_of is not None:
            yield part_of
            return
        walk = Walk()
        self._walks.append(walk)
        try:
            yield walk
        finally:
            self._walks.remove(walk)

    @property
    def cursor_secret(self) -> bytes:
        return self._engine.cursor_secret

    def count(self, scan: IndexScan) -> int:
        """How many documents lie in a range: from the index, without reading them."""
        read = self.begin_scan(scan)
        read.consumed_all()
        read.counted = True
        low, high = scan.interval
        if scan.index.is_by_id and scan.interval == EVERYTHING:
            # `by_id` has no entries of its own; every document is in the other one.
            total = self._engine.counts.count(scan.table.by_creation_time.number, scan.interval)
        elif scan.index.is_by_id:
            total = sum(1 for _ in self._stored_keys(scan))
        else:
            total = self._engine.counts.count(scan.index.number, scan.interval)
        total -= sum(low <= key < high for key in self._hidden.get(scan.index.number, ()))
        added = self._added.get(scan.index.number)
        if added is not None:
            total += added.count(low, high)
        return total

    def probe(self, scan: IndexScan, limit: int) -> list[str]:
        """The ids of up to `limit` documents of a range, for a rule of the schema.

        It is recorded like any read, so that the rule holds against other writers, but it does not count
        among the ranges that the function may read: the function did not ask.
        """
        self._begin_read()
        check_ready(self._storage, scan.index)
        read = self.read_set.record(RangeRead(scan.index.number, scan.interval, prefix=scan.prefix))
        found: list[str] = []
        for key, id in self._keys(scan):
            read.consumed(key)
            found.append(id)
            if len(found) == limit:
                return found
        read.consumed_all()
        return found

    def _keys(
        self, scan: IndexScan, walk: Walk | None = None, *, prefetch: int = 0
    ) -> Iterator[tuple[bytes, str]]:
        """Merge the state's keys with this transaction's own, in order.

        Sees writes made meanwhile, as far as the walk may meet them.
        """
        stored = self._stored_keys(scan, prefetch=prefetch)
        next_stored = next(stored, None)
        last: bytes | None = None
        while True:
            added = self._added.get(scan.index.number)
            if walk is not None:
                added = walk.own_keys(scan.index.number, added)
            own = _next_own(scan, added, last) if added else None
            if next_stored is not None and (own is None or (next_stored[0] > own[0]) == scan.reverse):
                if next_stored[0] not in self._hidden.get(scan.index.number, ()):
                    last = next_stored[0]
                    yield next_stored
                next_stored = next(stored, None)
            elif own is not None:
                last = own[0]
                yield own
            else:
                return

    def _stored_keys(self, scan: IndexScan, *, prefetch: int = 0) -> Iterator[tuple[bytes, str]]:
        """The state's keys. `prefetch` documents are fetched ahead at first, then ever more at once.

        One statement for 16 documents takes a third of the time of 16 statements. Where it is not known how
        many are wanted, the first comes alone and then 4 and 16, so that what is read for nothing stays
        small and is never decoded.
        """
        low, high = scan.interval
        limit = min(prefetch, _EXPECTED_FIRST) if prefetch > 1 else _CHUNK_FIRST
        wanted, start, ahead = prefetch, 1, 4
        while low < high:
            if wanted > 1:
                chunk, fetched = self._engine.scan_ahead(scan, low, high, limit=limit, wanted=wanted)
                self._fetched.update(fetched)
                start = min(wanted, len(chunk))
            else:
                chunk = self._engine.scan_keys(scan, low, high, limit)
            for position, entry in enumerate(chunk):
                if prefetch and position == start:
                    self._fetch(scan, chunk[start : start + ahead])
                    start += ahead
                    ahead = min(ahead * 4, _PREFETCH_MAX)
                yield entry
            wanted, start = max(wanted - len(chunk), 0), 0
            if len(chunk) < limit:
                return
            last = chunk[-1][0]
            low, high = (low, last) if scan.reverse else (just_above(last), high)
            limit = min(limit * 4, _CHUNK_MAX)

    def _fetch(self, scan: IndexScan, entries: Sequence[tuple[bytes, str]]) -> None:
        self._fetched.update(self._engine.fetch(scan.table, (id for _, id in entries)))

    def _begin_read(self) -> None:
        if self.finished:
            raise ReactiveDBError(
                "the database can be read only while the function runs - "
                "take what you need before it returns",
                code="TransactionFinished",
            )
        if self.overdue is not None:
            raise self.overdue
        self._not_while_filtering()

    def _not_while_filtering(self) -> None:
        if self.filtering is not None:
            self.filtering.unfilter()

    # Writing

    def check_ids(self, table: TableState, fields: dict[str, Value]) -> None:
        """Refuse fields that hold an id of another table than their validator names.

        Raises:
            ValidationError: with the path of the id.
        """
        validator = table.definition.validator
        if validator is not None and validator.has_ids:
            for found in validator.find_ids(fields):
                self._engine.check_id(found.id, found.table, found.path)

    def insert(self, table: TableState, fields: dict[str, Value], *, id: str | None = None) -> str:
        """Add a document of checked fields; gives its new id, or the one that was made for it."""
        id = id or self._new_id(table)
        for walk in self._walks:
            walk.met.add(id)
        creation_time = self._engine.next_creation_time(self.now_ms)
        self._write(table, {"_id": id, "_creationTime": creation_time, **fields}, base=None)
        return id

    def replace(self, document: StoredDocument, fields: dict[str, Value]) -> None:
        """Put checked fields in place of a document's; its id and creation time stay."""
        system: dict[str, Value] = {"_id": document.id, "_creationTime": document.creation_time}
        self._write(document.table, system | fields, base=self._base_of(document), current=document)

    def delete(self, document: StoredDocument) -> None:
        self._begin_write(0)
        self._set_pending(document.id, PendingWrite(document.table, self._base_of(document), None))

    def existing(self, id: str) -> StoredDocument:
        """The document that a write is about.

        Raises:
            ValidationError: `InvalidId`, or `DocumentNotFound` where there is none.
        """
        document = self.get(id)
        if document is None:
            raise ValidationError(
                f"expected the id of a document, got `{id}` which does not exist - it may have been deleted",
                code="DocumentNotFound",
                id=id,
            )
        return document

    def _write(
        self,
        table: TableState,
        fields: dict[str, Value],
        *,
        base: StoredDocument | None,
        current: StoredDocument | None = None,
    ) -> None:
        json = encode(fields)
        if table.is_system:
            # What the product writes has bounds of its own: a job's arguments may be larger than a document.
            self._begin_write(0)
        else:
            check_document_limits(self._limits, table.name, fields, json)
            self._begin_write(len(json))
        id = str(fields["_id"])
        new = StoredDocument(table, id, 0, json, fields)
        if current is not None:
            new.take_keys(current)
        self._set_pending(id, PendingWrite(table, base, new))

    def _base_of(self, document: StoredDocument) -> StoredDocument | None:
        """The version in the state below; the first write of a document in this run still knows it."""
        pending = self._pending.get(document.id)
        return pending.old if pending is not None else document

    def _begin_write(self, size: int) -> None:
        self._begin_read()
        self.usage.write(size)

    def overlay_past(
        self, current: StoredDocument | None, past: StoredDocument | None, *, table: TableState, id: str
    ) -> None:
        """Show an earlier version in place of the state's; for views of the past, which never commit."""
        self._replace_pending(id, PendingWrite(table, current, past))

    # Sub-transactions and their undoing

    def mark(self) -> Mark:
        """A point that `rollback_to` can return to."""
        return Mark(len(self._undo), self.usage.written)

    def rollback_to(self, mark: Mark) -> None:
        """Undo the writes made since the mark, and their count; what was read stays read."""
        while len(self._undo) > mark.undo_count:
            id, previous = self._undo.pop()
            self._replace_pending(id, previous)
        self.usage.written = mark.written

    def _set_pending(self, id: str, write: PendingWrite) -> None:
        self._undo.append((id, self._pending.get(id)))
        self._replace_pending(id, write)

    def _replace_pending(self, id: str, write: PendingWrite | None) -> None:
        previous = self._pending.pop(id, None)
        if previous is not None:
            self._overlay(id, previous, present=False)
        if write is not None:
            self._pending[id] = write
            self._overlay(id, write, present=True)

    def _overlay(self, id: str, write: PendingWrite, *, present: bool) -> None:
        for index in write.table.all_indexes:
            old = write.old.key(index).key if write.old is not None else None
            key = write.new.key(index).key if write.new is not None else None
            if key == old:
                continue  # It stays where it is in this index, and is found in `_pending` from there.
            if old is not None:
                hidden = self._hidden.setdefault(index.number, {})
                if present:
                    hidden[old] = 1
                else:
                    del hidden[old]
            if key is not None:
                added = self._added.get(index.number)
                if added is None:
                    added = self._added[index.number] = AddedKeys()
                for walk in self._walks:
                    if present:
                        walk.add(index.number, key, id, added)
                    else:
                        walk.remove(index.number, key, added)
                if present:
                    added.add(key, id)
                else:
                    added.remove(key)

    # The end

    def write_set(self) -> WriteSet:
        """What a commit would change; a document made and deleted in this run is no change."""
        return WriteSet(
            tuple(
                DocumentChange(write.table, id, write.old, write.new)
                for id, write in self._pending.items()
                if write.old is not None or write.new is not None
            )
        )


def _next_own(scan: IndexScan, added: AddedKeys, last: bytes | None) -> tuple[bytes, str] | None:
    low, high = scan.interval
    if scan.reverse:
        return added.last(low, high, before=last)
    return added.first(low, high, after=last)


def next_creation_time(now_ms: float, last: float) -> float:
    """Strictly above every creation time given before, and the clock's where that allows."""
    return max(now_ms, math.nextafter(last, math.inf))
