"""Where in an order of documents does reading stop, and go on another time?

A boundary lies between two documents, so it stays a place when both are deleted. For one range it is a
key: everything before it in reading direction is consumed. For a join it names a place in the outer order
and, within what that document leads to, a boundary of the inner one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from ..engine import just_above
from ..errors import ValidationError


@dataclass(frozen=True, slots=True)
class JoinBoundary:
    """Within what one outer document leads to: the boundaries around it, and the inner one."""

    outer_before: Boundary
    outer_after: Boundary
    # Of the inner order, so that bytes of one index are never taken for those of another.
    inner_name: str
    inner: Boundary


Boundary: TypeAlias = "bytes | JoinBoundary"


@dataclass(frozen=True, slots=True)
class Window:
    """The part between two boundaries, in reading direction; None stands for an end of the order."""

    start: Boundary | None = None
    end: Boundary | None = None


EVERYTHING = Window()


class MisplacedBoundaryError(ValidationError):
    """A boundary is not of the order it is used with."""

    default_code = "MisplacedBoundary"

    def __init__(self) -> None:
        super().__init__("a boundary is used with the query it came from, got one of another shape")


def key_before(key: bytes, *, reverse: bool) -> bytes:
    """The boundary that has `key` still to come, next of all."""
    return just_above(key) if reverse else key


def key_after(key: bytes, *, reverse: bool) -> bytes:
    """The boundary just behind `key`."""
    return key if reverse else just_above(key)


def narrowed(
    interval: tuple[bytes, bytes], window: Window, *, reverse: bool, prefix: bytes = b""
) -> tuple[bytes, bytes]:
    """The part of an interval inside a window whose boundaries are keys without `prefix`.

    Raises:
        MisplacedBoundaryError: the window is one of a join.
    """
    low, high = interval
    first, last = (window.end, window.start) if reverse else (window.start, window.end)
    if first is not None:
        low = max(low, prefix + key_of(first))
    if last is not None:
        high = min(high, prefix + key_of(last))
    return low, max(low, high)


def key_of(boundary: Boundary) -> bytes:
    """Raises: MisplacedBoundaryError."""
    if not isinstance(boundary, bytes):
        raise MisplacedBoundaryError
    return boundary


def is_id_boundary(boundary: Boundary | None) -> bool:
    """May it stand in an index whose keys are ids? A cursor is the client's word, not ours."""
    return boundary is None or (isinstance(boundary, bytes) and boundary.isascii())


def to_tree(boundary: Boundary) -> Any:
    """A boundary as JSON has it."""
    if isinstance(boundary, bytes):
        return boundary.hex()
    outer = [to_tree(boundary.outer_before), to_tree(boundary.outer_after)]
    return [*outer, boundary.inner_name, to_tree(boundary.inner)]


def from_tree(tree: object) -> Boundary:
    """Raises: MisplacedBoundaryError, for what `to_tree` did not make."""
    if isinstance(tree, str):
        try:
            return bytes.fromhex(tree)
        except ValueError:
            raise MisplacedBoundaryError from None
    items = cast("list[object]", tree) if isinstance(tree, list) else []
    if len(items) != 4 or not isinstance(items[2], str):
        raise MisplacedBoundaryError
    return JoinBoundary(from_tree(items[0]), from_tree(items[1]), items[2], from_tree(items[3]))
