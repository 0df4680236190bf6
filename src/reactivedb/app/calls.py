"""What goes into a call from outside, and what comes out of it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from ..errors import RequestError, ValidationError
from ..functions import CallError, Kind
from ..limits import Limits
from ..values import Value, from_jsonable


@dataclass(frozen=True, slots=True)
class CallResult:
    """What a caller outside is told: the value's JSON or the error, durable when this exists."""

    value: bytes | None
    error: CallError | None
    log_lines: list[str]
    ts: int
    # The database's own failure, by its code: nothing is wrong with the call, and it may be tried again.
    unavailable: str | None = None
    # The disk failed after the call had begun: what it wrote may be there after the restart, or not.
    outcome_unknown: bool = False

    @property
    def size_bytes(self) -> int:
        """Of what may be large in it."""
        return len((self.value if self.error is None else self.error.data) or b"")


@dataclass(frozen=True, slots=True)
class Asked:
    """A call from outside, before anything of it is known to be right."""

    # None: whatever the function is.
    kind: Kind | None
    path: str
    args: object
    # The state that a query is asked of; None for the newest.
    at_ts: int | None


@dataclass(frozen=True, slots=True)
class RunLog:
    """One finished run, for the log of the server."""

    # None: refused before it was known what it calls.
    kind: Kind | None
    path: str
    duration_s: float
    error: CallError | None = None
    log_lines: Sequence[str] = field(default_factory=tuple[str, ...])


@dataclass(frozen=True, slots=True)
class ReadArgs:
    """Large arguments that were read step by step (`reading`): a checked value, or why there is none."""

    value: Value = None
    refusal: RequestError | None = None


def args_of(args: object, limits: Limits) -> Value:
    """Arguments as the wire has them: an object, or a list of just one.

    Raises:
        ValidationError: `ArgumentValidationError`, or as `from_jsonable` has it.
        RequestError: why large ones were refused when they were read.
    """
    if isinstance(args, ReadArgs):
        if args.refusal is not None:
            raise args.refusal
        return args.value
    items = cast("list[object]", args) if isinstance(args, list) else [args]
    if len(items) != 1 or not isinstance(items[0], dict):
        got = f"a list of {len(items)}" if len(items) != 1 else f"`{type(items[0]).__name__}`"
        raise ValidationError(
            f"arguments are one object, got {got} - pass `{{...}}` or `[{{...}}]`",
            code="ArgumentValidationError",
        )
    return from_jsonable(items[0], limits=limits)
