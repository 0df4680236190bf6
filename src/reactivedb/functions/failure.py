"""What is the caller told when a function fails?

Errors meant for the caller (`RequestError`) are sent as they are. All else is the application's own
business: message and traceback in development, a request id alone in production.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydantic

from ..errors import (
    ApplicationError,
    ConflictError,
    InvalidCursorError,
    ReactiveDBError,
    RequestError,
    StorageError,
    ValidationError,
)
from ..limits import DEFAULT_LIMITS
from ..schema import shown_at
from ..text import cut
from ..values import Value, encode, normalize
from .log_lines import without_surrogates

_PACKAGE: Final = str(Path(__file__).parent.parent)
# At either end of a traceback: one of a recursion without end has a thousand frames.
_FRAMES_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class CallError:
    """A failure as it goes over the wire; `data` is the encoded JSON of an `ApplicationError`."""

    message: str
    data: bytes | None = None

    def __post_init__(self) -> None:
        # An error text may quote what the caller sent: much of it, and also what JSON text cannot hold.
        text = cut(self.message, DEFAULT_LIMITS.log_line_length_max)
        object.__setattr__(self, "message", without_surrogates(text))


def describe(error: BaseException, *, request_id: str, production: bool) -> CallError:
    """Turn what a run raised into what its caller may know."""
    if isinstance(error, pydantic.ValidationError):
        error = from_pydantic(error)
    if isinstance(error, ApplicationError):
        return _describe_application_error(error, request_id, production=production)
    if isinstance(error, RequestError | ConflictError):
        return CallError(error.wire_text)
    head = f"[Request ID: {request_id}] Server Error"
    if production:
        return CallError(head)
    if isinstance(error, StorageError):
        return CallError(f"{head}\n{error.wire_text}")
    name = error.code if isinstance(error, ReactiveDBError) else type(error).__name__
    frames = [
        f"    at {frame.name} ({frame.filename}:{frame.lineno})"
        for frame in reversed(traceback.extract_tb(error.__traceback__))
        if not frame.filename.startswith(_PACKAGE)
    ]
    if (left_out := len(frames) - 2 * _FRAMES_SHOWN) > 0:
        frames[_FRAMES_SHOWN:-_FRAMES_SHOWN] = [f"    ... {left_out} more"]
    return CallError("\n".join([head, f"Uncaught {name}: {error}", *frames]))


def kept_text(error: BaseException, *, length_max: int) -> str:
    """What a job's row says of an error: as in development, but it was no request, and of bounded length."""
    whole = describe(error, request_id="", production=False).message
    return cut(whole.removeprefix("[Request ID: ] Server Error\n"), length_max)


def _describe_application_error(error: ApplicationError, request_id: str, *, production: bool) -> CallError:
    try:
        data = encode(normalize(error.data))
    except ValidationError as unfit:
        head = f"[Request ID: {request_id}] Server Error"
        if production:
            return CallError(head)
        return CallError(f"{head}\nUncaught ApplicationError with data that is no value: {unfit}")
    if isinstance(error, InvalidCursorError):
        return CallError(error.wire_text, data)
    text = error.data if isinstance(error.data, str) else data.decode()
    return CallError(f"Uncaught ConvexError: {text}", data)


def from_pydantic(error: pydantic.ValidationError) -> ValidationError:
    """Our words for what a model's own constructor refused."""
    first = error.errors(include_url=False)[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return ValidationError(
        f"`{error.title}` refused a value: {first['msg']}, "
        f"got {shown_at(first['input'], path)} at `{path or '.'}`{more}",
        path=path,
    )


__all__ = ["CallError", "Value", "describe", "from_pydantic", "kept_text"]
