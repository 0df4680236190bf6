"""How is it said that a value does not fit?

Every refusal of this package is a `ValidationError` with `path`, `expected`, `got` and a `reason`. A path
grows as pairs while validators descend and becomes text only when something is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast

import pydantic

from reactivedb.errors import LimitExceededError, ValidationError, ValueLimitError
from reactivedb.text import beginning
from reactivedb.values import LOOKED_AT_MAX, UNSET, Int64, hides, quoted, unshown

# Text, or (path of the container, field name or position).
Path: TypeAlias = "str | tuple[Path, str | int]"
Reason = Literal["type", "missing_field", "unknown_field", "constraint", "union"]

_SHOWN_LENGTH_MAX = 80


def render_path(path: Path) -> str:
    """`.field[3].x`, in the names of the wire."""
    steps: list[str] = []
    while not isinstance(path, str):
        path, step = path
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    steps.append(path)
    return "".join(reversed(steps))


def levels(path: Path) -> int:
    """How many containers lie around the place."""
    count = 0
    while not isinstance(path, str):
        path, _ = path
        count += 1
    return count


def shown(value: object) -> str:
    """A value for a message, as the wire would have it and never longer than a line."""
    if value is UNSET:
        return "nothing"
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, int) and not isinstance(value, Int64) and value.bit_length() > 256:
        text = f"an integer of {value.bit_length()} bits"
    else:
        text = beginning(value, LOOKED_AT_MAX)
    return quoted(text, length_max=_SHOWN_LENGTH_MAX)


def shown_at(value: object, where: str, expected: str = "") -> str:
    """As `shown`, but for what may be a secret: by its place, or by what is expected there."""
    return unshown(value) if value is not UNSET and hides(where, expected) else shown(value)


def mismatch(
    expected: object, value: object, path: Path, *, reason: Reason = "type", way_out: str = ""
) -> ValidationError:
    """The error for `value` (`UNSET`: there is none) where `expected` should be."""
    where = render_path(path)
    got = shown_at(value, where, str(expected))
    place = f" at `{where}`" if where else ""
    return ValidationError(
        f"expected `{expected}`{place}, got {got}" + (f" - {way_out}" if way_out else ""),
        path=where,
        expected=str(expected),
        got=got,
        reason=reason,
    )


def missing_field(expected: object, path: Path) -> ValidationError:
    return mismatch(expected, UNSET, path, reason="missing_field", way_out="the field is missing")


def unknown_field(owner: str, known: list[str], path: Path) -> ValidationError:
    """`path` names the unknown field itself."""
    where = render_path(path)
    names = ", ".join(f"`{name}`" for name in known) or "none"
    return ValidationError(
        f"`{where}` is not a field of `{owner}` - its fields are {names}",
        path=where,
        expected=names,
        got=f"`{where}`",
        reason="unknown_field",
    )


def broken_constraint(
    error: pydantic.ValidationError, wire_names: Mapping[str, str], path: Path
) -> ValidationError:
    """What pydantic refused, in our form: the first of its complaints, at its wire path."""
    first: Any = error.errors(include_url=False, include_context=False)[0]
    for step in cast("tuple[int | str, ...]", first["loc"]):
        # Only the first step can be one of our fields; what follows is what pydantic found below it.
        path = (path, wire_names.get(step, step) if isinstance(step, str) else step)
        wire_names = {}
    where = render_path(path)
    got = shown_at(first["input"], where)
    message = first["msg"]
    place = f" at `{where}`" if where else ""
    return ValidationError(
        f"{message[:1].lower()}{message[1:]}{place}, got {got}",
        path=where,
        expected=message,
        got=got,
        reason="constraint",
    )


def too_long(length: int, length_max: int, path: Path) -> ValidationError:
    """A list has more elements than a list may have."""
    where = render_path(path)
    return ValueLimitError(
        f"expected at most {length_max} elements at {f'`{where}`' if where else 'the top'}, got {length}"
        " - keep them as documents of their own",
        code="ArrayTooLong",
        limit="array_length_max",
        maximum=length_max,
        asked=length,
        path=where,
    )


def with_code(error: ValidationError, code: str) -> ValidationError:
    """The same error under another code; a limit keeps its own, which says which one it is."""
    if isinstance(error, LimitExceededError):
        return error
    return ValidationError(error.message, code=code, **error.fields)


def unquoting(error: ValidationError) -> ValidationError:
    """The same error without what was got; a limit tells sizes only."""
    if isinstance(error, LimitExceededError) or error.fields.get("reason") == "missing_field":
        return error
    expected, reason = error.fields.get("expected", "other arguments"), error.fields.get("reason", "type")
    if reason == "unknown_field":
        # Its name is the caller's.
        return ValidationError(
            f"expected the fields {expected}, got another one", code=error.code, reason=reason
        )
    return ValidationError(
        f"expected `{expected}` at `{error.path or '.'}`, got a value that is not shown",
        code=error.code,
        path=error.path,
        reason=reason,
    )
