"""Where do a query's documents come from, in which order, and how does reading resume in their midst?

A `Source` is lazy: it gives steps, each a place and a value, and reads no further than its consumer goes.
Every place has a boundary before and behind it (`places`), so any source can be read from one boundary to
another: that is all pagination needs. A row that a filter drops is a step too, holding `SKIPPED`, so that
a page can be cut in the midst of rows that nobody sees.

`Scan` is one range of one index, `Merge` several in one order, `Distinct` the first of each group, `Join`
what each value leads to. Reads are recorded by the transaction; a merge trims what it only looked ahead at.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from operator import itemgetter
from typing import Any, Final, TypeAlias

from ..engine import IndexScan, RangeRead, Transaction, Walk
from ..errors import ValidationError
from ..schema.index_path import resolve_index_field
from ..values import Unset, Value, dumps, end_of_values
from .places import (
    EVERYTHING,
    Boundary,
    JoinBoundary,
    MisplacedBoundaryError,
    Window,
    is_id_boundary,
    key_after,
    key_before,
    key_of,
    narrowed,
)
from .predicate import repeatable, still_as

Predicate: TypeAlias = Callable[[Any], bool]
# A place within the source's order, and what stands there.
Step: TypeAlias = tuple[Any, Any]


class _Skipped:
    def __repr__(self) -> str:
        return "SKIPPED"


SKIPPED: Final = _Skipped()


class Source(ABC):
    """Documents, or what was made of them, in an order."""

    transaction: Transaction

    @abstractmethod
    def steps(self, window: Window = EVERYTHING) -> Iterator[Step]:
        """What lies in the window. Reading is recorded as it goes; close it where it stops.

        Raises:
            MisplacedBoundaryError: the window is not of this order.
        """

    def expecting(self, count: int) -> Source:
        """The same, told that its reader will stop after so many."""
        return self

    @abstractmethod
    def before(self, step: Step) -> Boundary: ...

    @abstractmethod
    def after(self, step: Step) -> Boundary: ...

    @abstractmethod
    def name(self) -> list[Any]:
        """What the order is made of, in names that outlive a restart; cursors are bound to it."""

    @abstractmethod
    def label(self) -> str:
        """How messages call it."""

    def filter(self, keep: Predicate) -> Source:
        return Filter(self, keep)

    def distinct(self, fields: tuple[str, ...]) -> Source:
        """Raises: ValidationError `DistinctNotInOrder`."""
        raise ValidationError(
            f"`distinct` needs the order of an index, and {self.label()} has none - "
            "use it on the range itself, before `join` or another `distinct`",
            code="DistinctNotInOrder",
        )

    def count(self) -> int:
        return sum(value is not SKIPPED for _, value in self.steps())

    def fingerprint(self) -> str:
        return blake2b(dumps(self.name()), digest_size=9).hexdigest()


class Ordered(Source):
    """Documents of one table, in the order of what follows the equality prefix of their index."""

    @abstractmethod
    def steps(self, window: Window = EVERYTHING, walk: Walk | None = None) -> Iterator[Step]:
        """As of any source, as a part of a walk over several windows."""

    @property
    @abstractmethod
    def order(self) -> tuple[str, ...]:
        """Wire paths; the last is always `_id`, so that no two documents share a place."""

    @property
    @abstractmethod
    def reverse(self) -> bool: ...

    def before(self, step: Step) -> Boundary:
        return key_before(step[0], reverse=self.reverse)

    def after(self, step: Step) -> Boundary:
        return key_after(step[0], reverse=self.reverse)


@dataclass(frozen=True, slots=True)
class Scan(Ordered):
    """One range of one index. Places are index keys."""

    transaction: Transaction
    scan: IndexScan
    equal: tuple[Value | Unset, ...]
    predicates: tuple[Predicate, ...] = ()
    # How many documents will be taken, if that is known.
    expected_count: int | None = None

    @property
    def reverse(self) -> bool:
        return self.scan.reverse

    @property
    def equal_count(self) -> int:
        """How many fields are equal; the key of `by_id` is the id itself, equal or not."""
        return 0 if self.scan.index.is_by_id else len(self.equal)

    @property
    def prefix(self) -> bytes:
        """The bytes of the equal fields in every key of the range."""
        return self.scan.index.prefix(self.equal) if self.equal_count else b""

    @property
    def order(self) -> tuple[str, ...]:
        fields = self.scan.index.definition.fields
        if self.scan.index.is_by_id:
            return fields
        tail = tuple(name for name in ("_creationTime", "_id") if name not in fields)
        return (*fields, *tail)[self.equal_count :]

    def filter(self, keep: Predicate) -> Scan:
        return Scan(self.transaction, self.scan, self.equal, (*self.predicates, keep))

    def reversed(self) -> Scan:
        scan = self.scan
        opposite = IndexScan(scan.table, scan.index, scan.interval, scan.prefix, not scan.reverse)
        return Scan(self.transaction, opposite, self.equal, self.predicates)

    def expecting(self, count: int) -> Source:
        # With a filter, nobody knows how many documents have to be looked at.
        return self if self.predicates else replace(self, expected_count=count)

    def steps(self, window: Window = EVERYTHING, walk: Walk | None = None) -> Iterator[Step]:
        return self.opened(self.part(window), walk)[1]

    def part(self, window: Window, *, prefix: bytes = b"") -> IndexScan:
        """The scan inside a window, whose boundaries are keys without `prefix`."""
        if window is EVERYTHING:
            return self.scan
        if self.scan.index.is_by_id and not all(is_id_boundary(b) for b in (window.start, window.end)):
            raise MisplacedBoundaryError
        interval = narrowed(self.scan.interval, window, reverse=self.reverse, prefix=prefix)
        whole = interval == self.scan.interval
        return replace(self.scan, interval=interval, prefix=self.scan.prefix if whole else None)

    def opened(self, scan: IndexScan, walk: Walk | None) -> tuple[RangeRead, Iterator[Step]]:
        """The read that grows with the steps, and the steps."""
        read = self.transaction.begin_scan(scan)
        read.predicates = repeatable(self.predicates)
        return read, self._steps(scan, read, walk)

    def _steps(self, scan: IndexScan, read: RangeRead, walk: Walk | None) -> Iterator[Step]:
        predicates = self.predicates
        found = self.transaction.documents(scan, read, expected=self.expected_count, walk=walk)
        for key, document in found:
            value = document.object()
            if not predicates:
                yield key, value
                continue
            yield key, value if self._keeps(read, value) else SKIPPED
            # The body of a loop over the query may give a captured variable another value.
            if read.predicates and not still_as(predicates, read.predicates):
                read.unfilter()

    def _keeps(self, read: RangeRead, value: Any) -> bool:
        # A predicate that reads the database or draws a number cannot be asked outside of this run.
        transaction = self.transaction
        outer, transaction.filtering = transaction.filtering, read
        try:
            return all(keep(value) for keep in self.predicates)
        finally:
            transaction.filtering = outer

    def count(self) -> int:
        if self.predicates:
            return Source.count(self)
        return self.transaction.count(self.scan)

    def distinct(self, fields: tuple[str, ...]) -> Source:
        group_count = checked_group(self, self.scan, fields)
        return Distinct(self, self.equal_count + group_count)

    def name(self) -> list[Any]:
        low, high = self.scan.interval
        index = self.scan.index.definition
        return [index.table, index.name, list(index.fields), low.hex(), high.hex(), self.reverse]

    def label(self) -> str:
        return f"`{self.scan.table.name}`"


@dataclass(frozen=True, slots=True)
class Merge(Ordered):
    """Several ranges of one table in one order, each document once. Places are keys without the prefix.

    The order alone is its name: a range that comes or goes leaves all cursors what they are, places.
    """

    transaction: Transaction
    scans: tuple[Scan, ...]
    reverse: bool = False  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]

    @property
    def order(self) -> tuple[str, ...]:
        return self.scans[0].order if self.scans else ("_id",)

    def filter(self, keep: Predicate) -> Merge:
        return replace(self, scans=tuple(scan.filter(keep) for scan in self.scans))

    def reversed(self) -> Merge:
        return replace(self, reverse=not self.reverse, scans=tuple(scan.reversed() for scan in self.scans))

    def steps(self, window: Window = EVERYTHING, walk: Walk | None = None) -> Iterator[Step]:
        with self.transaction.walking(walk) as walk:
            yield from self._steps(window, walk)

    def _steps(self, window: Window, walk: Walk) -> Iterator[Step]:
        reads: list[tuple[bytes, RangeRead]] = []
        parts: list[Iterator[Step]] = []
        for scan in self.scans:
            prefix = scan.prefix
            read, steps = scan.opened(scan.part(window, prefix=prefix), walk)
            reads.append((prefix, read))
            parts.append(_without(len(prefix), steps))
        place: bytes | None = None
        try:
            for step in heapq.merge(*parts, key=itemgetter(0), reverse=self.reverse):
                if step[0] != place:  # else the same document, by another range
                    place = step[0]
                    yield step
        except GeneratorExit:
            # The consumer stopped at `place`: what the ranges were asked beyond it decided nothing.
            if place is not None and not self.transaction.finished:
                self._trim(reads, key_after(place, reverse=self.reverse))
            raise

    def _trim(self, reads: Sequence[tuple[bytes, RangeRead]], boundary: bytes) -> None:
        for prefix, read in reads:
            if read.predicates is not None:
                read.trim(prefix + boundary)

    def distinct(self, fields: tuple[str, ...]) -> Source:
        if not self.scans:
            return self
        return Distinct(self, checked_group(self, self.scans[0].scan, fields))

    def name(self) -> list[Any]:
        tables = {scan.scan.table.name for scan in self.scans}
        return ["merge", *tables, list(self.order), self.reverse]

    def label(self) -> str:
        return f"the merge over {self.scans[0].label()}" if self.scans else "the empty merge"


def _without(size: int, steps: Iterator[Step]) -> Iterator[Step]:
    """The same steps, their places without the first bytes."""
    for key, value in steps:
        yield key[size:], value


def checked_group(ordered: Ordered, scan: IndexScan, fields: tuple[str, ...]) -> int:
    """How many values of a place say which group it is in.

    Raises:
        ValidationError: `DistinctNotInOrder`, unless the order begins with these fields.
    """
    definition = scan.table.definition
    wanted = tuple(
        resolve_index_field(definition.validator, field, owner=f"{scan.table.name}.distinct").path
        for field in fields
    )
    if not wanted or ordered.order[: len(wanted)] != wanted:
        raise ValidationError(
            f"`distinct` skips from one value to the next, so it takes the first fields of the order "
            f"{list(ordered.order)}, got {list(wanted)} - use an index that has them there",
            code="DistinctNotInOrder",
        )
    return len(wanted)


@dataclass(frozen=True, slots=True)
class Distinct(Source):
    """The first document of each group: the rest of a group is skipped, not read."""

    of: Ordered
    # The values at the beginning of a place that are the same throughout a group.
    value_count: int

    @property
    def transaction(self) -> Transaction:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.of.transaction

    def steps(self, window: Window = EVERYTHING) -> Iterator[Step]:
        start = window.start
        with self.transaction.walking() as walk:
            while True:
                for step in self.of.steps(Window(start, window.end), walk):
                    yield step
                    if step[1] is not SKIPPED:
                        start = self.after(step)
                        break
                else:
                    return

    def before(self, step: Step) -> Boundary:
        """Before the whole group, whichever of its documents is the first by then."""
        if step[1] is SKIPPED:
            return self.of.before(step)
        group = self._group(step)
        return group + b"\xff" if self.of.reverse else group

    def after(self, step: Step) -> Boundary:
        """Behind the whole group; a document that a filter dropped has spoken for none."""
        if step[1] is SKIPPED:
            return self.of.after(step)
        group = self._group(step)
        return group if self.of.reverse else group + b"\xff"

    def _group(self, step: Step) -> bytes:
        place: bytes = step[0]
        return place[: end_of_values(place, self.value_count)]

    def name(self) -> list[Any]:
        return ["distinct", self.value_count, *self.of.name()]

    def label(self) -> str:
        return f"`distinct` of {self.of.label()}"


@dataclass(frozen=True, slots=True)
class Filter(Source):
    """What a predicate keeps of values that are no documents of one range. Places are the steps below."""

    of: Source
    keep: Predicate

    @property
    def transaction(self) -> Transaction:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.of.transaction

    def steps(self, window: Window = EVERYTHING) -> Iterator[Step]:
        for step in self.of.steps(window):
            value = step[1]
            yield step, value if value is not SKIPPED and self.keep(value) else SKIPPED

    def before(self, step: Step) -> Boundary:
        return self.of.before(step[0])

    def after(self, step: Step) -> Boundary:
        return self.of.after(step[0])

    def name(self) -> list[Any]:
        return self.of.name()

    def label(self) -> str:
        return self.of.label()


@dataclass(frozen=True, slots=True)
class One(Source):
    """A single value, which has no order to be in."""

    transaction: Transaction
    value: Any

    def steps(self, window: Window = EVERYTHING) -> Iterator[Step]:
        start = b"" if window.start is None else key_of(window.start)
        end = b"\x01" if window.end is None else key_of(window.end)
        if not start and end:
            yield b"", self.value

    def before(self, step: Step) -> Boundary:
        return step[0]

    def after(self, step: Step) -> Boundary:
        return step[0] + b"\x01"

    def name(self) -> list[Any]:
        return ["one"]

    def label(self) -> str:
        return "one value"


@dataclass(frozen=True, slots=True)
class Join(Source):
    """What each value of an outer source leads to, one after another; None leads to nothing.

    Places are the outer step, the inner step, and the inner source.
    """

    of: Source
    to: Callable[[Any], Source | None]

    @property
    def transaction(self) -> Transaction:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.of.transaction

    def steps(self, window: Window = EVERYTHING) -> Iterator[Step]:
        start, end = _join_boundary(window.start), _join_boundary(window.end)
        outer = Window(start and start.outer_before, end and end.outer_after)
        for step in self.of.steps(outer if start or end else EVERYTHING):
            source = None if step[1] is SKIPPED else self.to(step[1])
            if source is None:
                yield self._nothing(step)
                continue
            inner = self._inner_window(step, source, start, end) if start or end else EVERYTHING
            if inner is None:
                continue
            is_empty = True
            for inner_step in source.steps(inner):
                is_empty = False
                yield (step, inner_step, source), inner_step[1]
            if is_empty and inner.end is None:
                yield self._nothing(step)

    def _nothing(self, step: Step) -> Step:
        """Behind all that a document leads to, which is none or what was given before."""
        return (step, (b"", SKIPPED), One(self.transaction, None)), SKIPPED

    def _inner_window(
        self, step: Step, source: Source, start: JoinBoundary | None, end: JoinBoundary | None
    ) -> Window | None:
        """The part of what a step leads to; None if nothing of it.

        A boundary within what the same document led to when it led elsewhere lies behind it all.
        """
        first = last = None
        before = self.of.before(step)
        if start is not None and start.outer_before == before:
            if start.inner_name != source.fingerprint():
                return None
            first = start.inner
        if end is not None and end.outer_before == before and end.inner_name == source.fingerprint():
            last = end.inner
        return Window(first, last)

    def before(self, step: Step) -> Boundary:
        outer, inner, source = step[0]
        return self._boundary(outer, source, source.before(inner))

    def after(self, step: Step) -> Boundary:
        outer, inner, source = step[0]
        return self._boundary(outer, source, source.after(inner))

    def _boundary(self, outer: Step, source: Source, inner: Boundary) -> JoinBoundary:
        return JoinBoundary(self.of.before(outer), self.of.after(outer), source.fingerprint(), inner)

    def name(self) -> list[Any]:
        return ["join", *self.of.name()]

    def label(self) -> str:
        return f"a join of {self.of.label()}"


def _join_boundary(boundary: Boundary | None) -> JoinBoundary | None:
    if boundary is not None and not isinstance(boundary, JoinBoundary):
        raise MisplacedBoundaryError
    return boundary
