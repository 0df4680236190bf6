"""What can be asked of a range, or of several merged?

A query is an order of documents, put together by `order`, `filter`, `distinct` and `join`, and consumed
once, no further than its consumer goes. Where the documents come from: see `sources`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar, cast, overload

from ..engine import Catalog, IndexScan, IndexState, TableState, Transaction, scan_of
from ..errors import ValidationError
from ..schema import IndexRange, source_bounds
from ..values import Value
from .pagination import Journal, PaginationOptions, PaginationResult, read_page
from .sources import SKIPPED, Join, Merge, One, Scan, Source

T = TypeVar("T")
U = TypeVar("U")


class OrderedQuery(Generic[T]):
    """Documents in an order. Consumed once, by iterating or by one of the methods below."""

    def __init__(self, source: Source, journal: Journal) -> None:
        self._source = source
        self._journal = journal
        self._consumed = False

    def filter(self, keep: Callable[[T], bool], /) -> OrderedQuery[T]:
        """Only the documents for which `keep` holds. Every document of the range is still read."""
        return self._made_of(self._consume().filter(keep))

    def distinct(self, *fields: str) -> OrderedQuery[T]:
        """The first document for each value of `fields`; what lies between is skipped, not read.

        The fields are those that the order begins with: the first ones after the equality prefix of the
        index. A filter before it chooses who can be first, one behind it which of the first are shown.

        Raises:
            ValidationError: `DistinctNotInOrder`.
        """
        return self._made_of(self._consume().distinct(fields))

    @overload
    def join(self, to: Callable[[T], OrderedQuery[U]], /) -> OrderedQuery[U]: ...
    @overload
    def join(self, to: Callable[[T], U | None], /) -> OrderedQuery[U]: ...
    def join(self, to: Callable[[T], Any], /) -> OrderedQuery[Any]:
        """What each document leads to, in the order of the documents: a range, one value, or None.

        `ctx.db.query(Member.by_user.eq(user)).join(lambda member: ctx.db.get(member.team_id))`
        """
        source = self._consume()

        def lead(value: T) -> Source | None:
            found: object = to(value)
            if isinstance(found, OrderedQuery):
                return cast("OrderedQuery[Any]", found)._consume()
            return None if found is None else One(source.transaction, found)

        return self._made_of(Join(source, lead))

    def __iter__(self) -> Iterator[T]:
        for _, value in self._consume().steps():
            if value is not SKIPPED:
                yield value

    def collect(self) -> list[T]:
        """All documents of the range."""
        return list(self)

    def take(self, count: int, /) -> list[T]:
        """The first `count` documents; what lies behind them is not read."""
        if type(count) is not int or count < 0:
            raise ValidationError(
                f"`take` expects a number of documents from 0 on, got `{count!r}`", code="InvalidTake"
            )
        taken: list[T] = []
        source = self._consume()
        if count == 0:
            return taken
        for _, value in source.expecting(count).steps():
            if value is SKIPPED:
                continue
            taken.append(value)
            if len(taken) == count:
                break
        return taken

    def first(self) -> T | None:
        """The first document, or None."""
        return next(iter(self.take(1)), None)

    def unique(self) -> T | None:
        """The only document, or None.

        Raises:
            ValidationError: `NotUnique`, if there are two.
        """
        found = self.take(2)
        if len(found) == 2:
            raise ValidationError(
                f"the query of {self._source.label()} expected at most one document, but the result "
                "is not unique - use `first()`, or narrow the range",
                code="NotUnique",
            )
        return found[0] if found else None

    def count(self) -> int:
        """How many documents there are; of a range without a filter, from the index alone."""
        return self._consume().count()

    def paginate(self, options: PaginationOptions, /) -> PaginationResult[T]:
        """One page, and the cursor at which the next one begins.

        Raises:
            ValidationError: `InvalidPageSize`.
            InvalidCursorError: the cursor is of another query.
        """
        return read_page(self._consume(), options, self._journal)

    if not TYPE_CHECKING:

        def order(self, direction: str, /) -> NoReturn:
            raise ValidationError(
                f'`order("{direction}")` comes once, and before `distinct` and `join` - '
                "move it to `ctx.db.query(...)` or `merge(...)`",
                code="OrderNotFirst",
            )

    def _made_of(self, source: Source) -> OrderedQuery[Any]:
        return OrderedQuery(source, self._journal)

    def _consume(self) -> Source:
        if self._consumed:
            raise ValidationError(
                "a query is consumed once, this one was already - call `ctx.db.query` again",
                code="QueryConsumed",
            )
        self._consumed = True
        return self._source


class Query(OrderedQuery[T]):
    """A range of an index or a merge of several, ascending unless `order` says otherwise."""

    def __init__(self, source: Scan | Merge, journal: Journal) -> None:
        super().__init__(source, journal)
        self._ascending = source

    def filter(self, keep: Callable[[T], bool], /) -> Query[T]:
        """Only the documents for which `keep` holds. Every document of the range is still read."""
        self._consume()
        return Query(self._ascending.filter(keep), self._journal)

    def order(self, direction: Literal["asc", "desc"], /) -> OrderedQuery[T]:
        """Set the direction; `desc` reverses everything, ties included."""
        if direction not in ("asc", "desc"):
            raise ValidationError(
                f'`order` expects "asc" or "desc", got `{direction!r}`', code="InvalidOrder"
            )
        self._consume()
        return self._made_of(self._ascending.reversed() if direction == "desc" else self._ascending)


def scan_source(transaction: Transaction, catalog: Catalog, source: Any) -> Scan:
    """A table, an index or a range of it, as a source.

    Raises:
        ValidationError, SchemaError: as `source_bounds` and `scan_of` do.
    """
    bounds = source_bounds(source)
    return Scan(transaction, scan_of(catalog, bounds), bounds.equal)


def range_of(
    transaction: Transaction, table: TableState, index: IndexState, equal: tuple[Value, ...] = ()
) -> Scan:
    """The part of an index where its first fields have these values, for the product's own code."""
    interval = index.interval(equal, None, None)
    return Scan(transaction, IndexScan(table, index, interval, index.prefix(equal)), equal)


def merge_source(transaction: Transaction, catalog: Catalog, ranges: Iterable[IndexRange[Any]]) -> Merge:
    """Ranges of one table, merged by the order they have in common.

    Raises:
        ValidationError: `MergeOrderMismatch`; and as `scan_source` does.
    """
    scans = tuple(scan_source(transaction, catalog, range_) for range_ in ranges)
    for scan in scans[1:]:
        first = scans[0]
        if scan.scan.table is not first.scan.table or scan.order != first.order:
            raise ValidationError(
                f"merged ranges are of one table and have the same fields after their equal ones: the first "
                f"is {first.label()} by {list(first.order)}, got {scan.label()} by {list(scan.order)} - "
                "give each range as many equal values as leave the same order",
                code="MergeOrderMismatch",
            )
    return Merge(transaction, scans)
