"""What is an index, and which range of it is asked for?

A class declares `by_channel = Index("channel_id")`; `Message.by_channel` is then a `BoundIndex`, and its
`eq`, `gt`, `gte`, `lt`, `lte` give an `IndexRange`: an equality prefix and at most one bounded field after
it. Ranges are immutable and hold Python values; `bounds` turns them into stored values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from reactivedb.errors import SchemaError, ValidationError

if TYPE_CHECKING:
    from reactivedb.schema.document import Document
    from reactivedb.schema.table import Table

D = TypeVar("D")


@dataclass(frozen=True)
class Bound:
    """One end of a range, still in Python."""

    value: object
    inclusive: bool


class IndexRange(Generic[D]):
    """An equality prefix and at most one bounded field after it: what `db.query` reads.

    The classes below say what may still be added, so that pyright knows it too.
    """

    __slots__ = ("equal", "lower", "name", "source", "upper")

    def __init__(
        self,
        source: type[Document] | Table,
        name: str,
        *,
        equal: tuple[object, ...] = (),
        lower: Bound | None = None,
        upper: Bound | None = None,
    ) -> None:
        self.source = source
        self.name = name
        self.equal = equal
        self.lower = lower
        self.upper = upper

    if not TYPE_CHECKING:
        # What cannot be added any more, for those who do not ask pyright.

        def eq(self, *prefix: object) -> None:
            raise ValidationError(
                f"`{self!r}` has its equal values already - give all of them to one `eq`, before any bound",
                code="EqualityNotFirst",
                index=self.name,
            )

        def gt(self, value: object, /) -> None:
            raise _twice(self, "lower", "AlreadyDefinedLowerBound")

        gte = gt

        def lt(self, value: object, /) -> None:
            raise _twice(self, "upper", "AlreadyDefinedUpperBound")

        lte = lt

    def __repr__(self) -> str:
        text = f"{source_name(self.source)}.{self.name}"
        if self.equal:
            text += f".eq({', '.join(map(repr, self.equal))})"
        if self.lower:
            text += f".{'gte' if self.lower.inclusive else 'gt'}({self.lower.value!r})"
        if self.upper:
            text += f".{'lte' if self.upper.inclusive else 'lt'}({self.upper.value!r})"
        return text


class LowerBoundRange(IndexRange[D]):
    """It may have an upper bound too."""

    __slots__ = ()

    def lt(self, value: object, /) -> IndexRange[D]:
        return self._with_upper(Bound(value, inclusive=False))

    def lte(self, value: object, /) -> IndexRange[D]:
        return self._with_upper(Bound(value, inclusive=True))

    def _with_upper(self, bound: Bound) -> IndexRange[D]:
        return IndexRange(self.source, self.name, equal=self.equal, lower=self.lower, upper=bound)


class UpperBoundRange(IndexRange[D]):
    """It may have a lower bound too."""

    __slots__ = ()

    def gt(self, value: object, /) -> IndexRange[D]:
        return self._with_lower(Bound(value, inclusive=False))

    def gte(self, value: object, /) -> IndexRange[D]:
        return self._with_lower(Bound(value, inclusive=True))

    def _with_lower(self, bound: Bound) -> IndexRange[D]:
        return IndexRange(self.source, self.name, equal=self.equal, lower=bound, upper=self.upper)


class UnboundRange(IndexRange[D]):
    """It may have both bounds."""

    __slots__ = ()

    def gt(self, value: object, /) -> LowerBoundRange[D]:
        return self._with_lower(Bound(value, inclusive=False))

    def gte(self, value: object, /) -> LowerBoundRange[D]:
        return self._with_lower(Bound(value, inclusive=True))

    def lt(self, value: object, /) -> UpperBoundRange[D]:
        return self._with_upper(Bound(value, inclusive=False))

    def lte(self, value: object, /) -> UpperBoundRange[D]:
        return self._with_upper(Bound(value, inclusive=True))

    def _with_lower(self, bound: Bound) -> LowerBoundRange[D]:
        return LowerBoundRange(self.source, self.name, equal=self.equal, lower=bound)

    def _with_upper(self, bound: Bound) -> UpperBoundRange[D]:
        return UpperBoundRange(self.source, self.name, equal=self.equal, upper=bound)


class BoundIndex(UnboundRange[D]):
    """An index of a certain table; as a range, the whole of it."""

    __slots__ = ()

    def eq(self, *prefix: object) -> UnboundRange[D]:
        """Equality on the first `len(prefix)` fields."""
        return UnboundRange(self.source, self.name, equal=prefix)


class Index:
    """A declaration: which fields a table is ordered by. The attribute's name becomes the index's."""

    def __init__(self, *fields: str, unique: bool = False, staged: bool = False) -> None:
        if not fields:
            raise SchemaError("`Index()` has no fields - name at least one", code="IndexWithoutFields")
        for field in fields:
            if not isinstance(field, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise SchemaError(
                    f'`Index` takes names of fields one by one, as `Index("author", "stars")`, got'
                    f" `{field!r}` - write them so; the index is called as its attribute",
                    code="IndexFieldNotName",
                )
        self.name = ""
        self.fields = fields
        self.unique = unique
        self.staged = staged
        self._bound: tuple[type, BoundIndex[Any]] | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type[D]) -> BoundIndex[D]:
        # Nearly always the same class asks; a subclass that inherits the index has its own.
        bound = self._bound
        if bound is None or bound[0] is not owner:
            bound = self._bound = (owner, BoundIndex(cast("type[Document]", owner), self.name))
        return bound[1]

    def __repr__(self) -> str:
        return f"Index({', '.join(map(repr, self.fields))})"


@dataclass(frozen=True)
class IndexDefinition:
    """An index as the engine sees it: `fields` are wire paths, dotted into nested objects."""

    name: str
    table: str
    fields: tuple[str, ...]
    unique: bool = False
    staged: bool = False


def source_name(source: type[Document] | Table) -> str:
    return source.__name__ if isinstance(source, type) else source.name


def _twice(range_: IndexRange[Any], end: str, code: str) -> ValidationError:
    return ValidationError(
        f"`{range_!r}` has its {end} bound already - keep one of the two",
        code=code,
        index=range_.name,
    )
