"""How is a long result read page by page, so that live pages neither overlap nor leave a gap?

A cursor is a boundary in the order of a query, bound to that order by its names: table, index, fields, range
and direction. It holds no document and no number, so it survives the deletion of what it points at, a
restart, and an index built anew; nobody else can read or make one (`seal`). Filters are not part of it: they
say what is shown, not where.

A page that is run again keeps its end: the run's `Journal` lists the end of every page that the run has
made, in order, and the next run of the same live query is given it. Between two fixed boundaries a page
gives everything, however many documents that are by then, and reads nothing else.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar, cast

from ..errors import InvalidCursorError, ValidationError
from ..schema import Model
from ..values import UNSET, Unset, dumps, loads
from .places import Boundary, MisplacedBoundaryError, Window, from_tree, to_tree
from .seal import seal, unseal
from .sources import SKIPPED, Source, Step

T = TypeVar("T")
U = TypeVar("U")

# Behind the last document, whatever comes; of every query.
END: Final = "END"
# Convex's numbers: a page of more rows is better split, and so is one that has used most of what it may.
_ROWS_RECOMMENDED_MAX: Final = 6_144
_SHARE_RECOMMENDED_MAX: Final = 0.75

PageStatus = Literal["SplitRecommended", "SplitRequired"]


class PaginationOptions(Model):
    """Which page: the argument that Convex's clients call `paginationOpts`.

    `cursor` is None for the first page, else the `continue_cursor` of the page before. The others are set
    by Convex's hooks: `end_cursor` makes it a page between two cursors, `id` only makes arguments differ.
    """

    __wire_argument__: ClassVar[str] = "paginationOpts"

    num_items: int
    cursor: str | None
    end_cursor: str | Unset | None = UNSET
    id: float | Unset = UNSET
    maximum_rows_read: float | Unset = UNSET
    maximum_bytes_read: float | Unset = UNSET


class PaginationResult(Model, Generic[T]):
    """One page. `is_done` says that it reaches to the end; only then there is nothing to load after it."""

    page: list[T]
    is_done: bool
    continue_cursor: str
    split_cursor: str | None
    page_status: PageStatus | None

    def map(self, convert: Callable[[T], U], /) -> PaginationResult[U]:
        """The same page of something else; the other fields have to stay as they are."""
        return _result(
            [convert(item) for item in self.page],
            self.continue_cursor,
            split_cursor=self.split_cursor,
            status=self.page_status,
        )


class Journal:
    """The ends of the pages of one run: those it is given, and those it has made."""

    def __init__(self, text: str | None = None) -> None:
        self._given: Iterator[str] = iter(_cursors_of(text))
        self._made: list[str] = []

    def given_end(self) -> str | None:
        """The end that the page now to be read had in the run before."""
        return next(self._given, None)

    def made(self, end: str) -> None:
        self._made.append(end)

    @property
    def text(self) -> str | None:
        """For the next run; None if this one has read no page."""
        return dumps(self._made).decode() if self._made else None


def _cursors_of(text: str | None) -> list[str]:
    """What is no journal of ours counts as none: the pages are then read as for the first time."""
    if text is None:
        return []
    try:
        tree = loads(text)
    except ValidationError:
        return []
    items = cast("list[object]", tree) if isinstance(tree, list) else []
    return [item for item in items if isinstance(item, str)] if all(map(_is_text, items)) else []


def _is_text(item: object) -> bool:
    return isinstance(item, str)


class _Cursors:
    """The cursors of one query: sealed boundaries of its order."""

    def __init__(self, source: Source) -> None:
        self._name = source.fingerprint()
        self._secret = source.transaction.cursor_secret

    def text(self, boundary: Boundary) -> str:
        sealed = seal(self._secret, dumps([self._name, to_tree(boundary)]))
        return urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def boundary(self, cursor: str) -> Boundary:
        """Raises: InvalidCursorError, MisplacedBoundaryError."""
        try:
            sealed = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            tree = loads(unseal(self._secret, sealed))
            items = cast("list[object]", tree) if isinstance(tree, list) else []
            if len(items) != 2 or items[0] != self._name:
                raise _invalid("is of another query")
            return from_tree(items[1])
        except (ValueError, ValidationError, RecursionError):
            raise _invalid("is none") from None


def read_page(source: Source, options: PaginationOptions, journal: Journal) -> PaginationResult[Any]:
    """The page that the options ask for.

    Raises:
        ValidationError: `InvalidPageSize`.
        InvalidCursorError: a cursor of the options is of another query, or of none.
    """
    if options.num_items < 1:
        raise ValidationError(
            f"`numItems` is a whole number from 1 on, got {options.num_items}", code="InvalidPageSize"
        )
    try:
        result = _page_between(source, _Cursors(source), options, journal.given_end())
    except MisplacedBoundaryError:
        raise _invalid("is of another query") from None
    journal.made(result.continue_cursor)
    return result


def _page_between(
    source: Source, cursors: _Cursors, options: PaginationOptions, given_end: str | None
) -> PaginationResult[Any]:
    if options.cursor == END:
        return _result([], END)
    start = cursors.boundary(options.cursor) if options.cursor is not None else None
    if isinstance(options.end_cursor, str):
        end = options.end_cursor
        bound = None if end == END else cursors.boundary(end)
    else:
        end, bound = _still_fits(given_end, cursors)
    page = _Page(source, Window(start, bound))
    if end is None:
        page.read(options)
        end = END if page.exhausted else cursors.text(source.after(page.rows[-1]))
    else:
        page.read_all()
    return _result(page.values, end, split_cursor=page.split_cursor(cursors), status=page.status(options))


def _still_fits(end: str | None, cursors: _Cursors) -> tuple[str | None, Boundary | None]:
    """The end out of a journal; one that no longer fits the query is as good as none."""
    if end is None or end == END:
        return end, None
    try:
        return end, cursors.boundary(end)
    except (InvalidCursorError, MisplacedBoundaryError):
        return None, None


@dataclass(slots=True)
class _Usage:
    """What a run has read so far."""

    rows: float
    bytes: float
    # `distinct` reads one for each group, a join for each document that leads to one. Those that a source
    # opens before it gives its first row, as a merge does with all of its ranges, are not the page's doing.
    ranges: float


class _Page:
    """The rows of one page as they are read."""

    def __init__(self, source: Source, window: Window) -> None:
        self._source = source
        self._window = window
        self._before = self._usage()
        self.rows: list[Step] = []
        self.exhausted = False
        self._is_cut = False

    def _usage(self) -> _Usage:
        usage = self._source.transaction.usage
        return _Usage(usage.documents_read, usage.bytes_read, usage.ranges_read)

    def _used(self) -> _Usage:
        now, before = self._usage(), self._before
        return _Usage(now.rows - before.rows, now.bytes - before.bytes, now.ranges - before.ranges)

    @property
    def values(self) -> list[Any]:
        return [value for _, value in self.rows if value is not SKIPPED]

    def read_all(self) -> None:
        """To the end of the window, however much that is by now."""
        for _ in self._steps(self._source):
            pass

    def _steps(self, source: Source) -> Iterator[Step]:
        for step in source.steps(self._window):
            if not self.rows:
                self._before.ranges = source.transaction.usage.ranges_read
            self.rows.append(step)
            yield step

    def read(self, options: PaginationOptions) -> None:
        """Until enough is found, a bound is reached, or nothing is left; that is known only by asking."""
        usage = self._source.transaction.usage
        wanted = options.num_items
        end: _Usage | None = None
        for step in self._steps(self._source.expecting(wanted)):
            wanted -= step[1] is not SKIPPED
            if not wanted:
                return
            end = end or self._cut_at(self._maxima(options))
            if (
                usage.documents_read >= end.rows
                or usage.bytes_read >= end.bytes
                or usage.ranges_read >= end.ranges
            ):
                self._is_cut = True
                return
        self.exhausted = True

    def _cut_at(self, maxima: _Usage) -> _Usage:
        """What the run will have read when the page has read too much, or the run all that it may."""
        limits, before = self._source.transaction.limits, self._before
        return _Usage(
            min(before.rows + maxima.rows, limits.documents_read_max),
            min(before.bytes + maxima.bytes, limits.read_size_bytes_max),
            # A page that reads no further range is not cut for its ranges.
            max(min(before.ranges + maxima.ranges, limits.ranges_read_max), before.ranges + 1),
        )

    def _maxima(self, options: PaginationOptions) -> _Usage:
        limits = self._source.transaction.limits
        rows, size = options.maximum_rows_read, options.maximum_bytes_read
        return _Usage(
            limits.page_rows_read_max if isinstance(rows, Unset) else rows,
            limits.page_read_size_bytes_max if isinstance(size, Unset) else size,
            limits.page_ranges_read_max,
        )

    @property
    def _can_be_split(self) -> bool:
        return len(self.rows) > 2

    def split_cursor(self, cursors: _Cursors) -> str | None:
        """About the middle of the rows that were read, behind one that is shown if there is any."""
        if not self._can_be_split:
            return None
        middle = (len(self.rows) - 1) // 2
        shown = [number for number, (_, value) in enumerate(self.rows[:-1]) if value is not SKIPPED]
        nearest = min(shown, key=lambda number: abs(number - middle), default=middle)
        return cursors.text(self._source.after(self.rows[nearest]))

    def status(self, options: PaginationOptions) -> PageStatus | None:
        if not self._can_be_split:
            # Hooks hide a page that is to be split until its halves are there: this one would stay hidden.
            return None
        if self._is_cut:
            return "SplitRequired"
        used, maxima = self._used(), self._maxima(options)
        is_large = (
            used.rows > min(_ROWS_RECOMMENDED_MAX, maxima.rows * _SHARE_RECOMMENDED_MAX)
            or used.bytes > maxima.bytes * _SHARE_RECOMMENDED_MAX
            or used.ranges > maxima.ranges * _SHARE_RECOMMENDED_MAX
        )
        return "SplitRecommended" if is_large else None


def _result(
    page: list[Any], end: str, *, split_cursor: str | None = None, status: PageStatus | None = None
) -> PaginationResult[Any]:
    # Without pydantic's checks: the documents have been checked when they were stored.
    return PaginationResult[Any].model_construct(
        page=page,
        is_done=end == END,
        continue_cursor=end,
        split_cursor=split_cursor,
        page_status=status,
    )


def _invalid(what: str) -> InvalidCursorError:
    return InvalidCursorError(
        f"expected a cursor that this query gave, got one that {what} - start from the first page"
    )
