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
from ..user_code import contained, is_from_library, is_of, name_of, repr_of, text_of, traceback_of
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
        text = cut(str.__str__(self.message), DEFAULT_LIMITS.log_line_length_max)
        object.__setattr__(self, "message", without_surrogates(text))


def describe(error: BaseException, *, request_id: str, production: bool) -> CallError:
    """Turn what a run raised into what its caller may know. Never raises, whatever the error does."""
    head = f"[Request ID: {request_id}] Server Error"
    try:
        return _describe(error, head, production=production)
    except BaseException as broken:  # its class is user code
        contained(broken)
    return CallError(head if production else _in_development(head, name_of(error), error))


def _describe(error: BaseException, head: str, *, production: bool) -> CallError:
    if is_of(error, pydantic.ValidationError):
        error = from_pydantic(error)
    if is_of(error, ApplicationError):
        return _describe_application_error(error, head, production=production)
    if is_of(error, RequestError) or is_of(error, ConflictError):
        return CallError(error.wire_text)
    if production:
        return CallError(head)
    if is_of(error, StorageError) and is_from_library(error):
        return CallError(f"{head}\n{error.wire_text}")
    if is_of(error, SystemExit):
        error = _not_the_process(error)
    name = error.code if is_of(error, ReactiveDBError) else name_of(error)
    return CallError(_in_development(head, name, error))


def _not_the_process(error: SystemExit) -> ReactiveDBError:
    """What is said of `sys.exit()`, which would end the server and everybody's connection."""
    return ReactiveDBError(
        f"a function cannot end the process, and this one raised `SystemExit({repr_of(error.code)})` - "
        "return, or raise another error",
        code="ExitInFunction",
    ).with_traceback(traceback_of(error))


def _in_development(head: str, name: str, error: BaseException) -> str:
    """With where it was raised, from the innermost frame on, without those of this library."""
    frames = [
        f"    at {frame.f_code.co_name} ({frame.f_code.co_filename}:{line})"
        for frame, line in reversed(list(traceback.walk_tb(traceback_of(error))))
        if not frame.f_code.co_filename.startswith(_PACKAGE)
    ]
    if (left_out := len(frames) - 2 * _FRAMES_SHOWN) > 0:
        frames[_FRAMES_SHOWN:-_FRAMES_SHOWN] = [f"    ... {left_out} more"]
    return "\n".join([head, f"Uncaught {name}: {text_of(error)}", *frames])


def code_of(error: ReactiveDBError) -> str:
    """Its code. Never raises, though the error's class may be the program's own."""
    try:
        return without_surrogates(str.__str__(error.code))
    except BaseException as broken:
        contained(broken)
    return name_of(error)


def kept_text(error: BaseException, *, length_max: int) -> str:
    """What a job's row says of an error: as in development, but it was no request, and of bounded length."""
    whole = describe(error, request_id="", production=False).message
    return cut(whole.removeprefix("[Request ID: ] Server Error\n"), length_max)


def _describe_application_error(error: ApplicationError, head: str, *, production: bool) -> CallError:
    given = error.data
    try:
        data = encode(normalize(given))
    except ValidationError as unfit:
        if production:
            return CallError(head)
        return CallError(f"{head}\nUncaught ApplicationError with data that is no value: {unfit}")
    if is_of(error, InvalidCursorError):
        return CallError(error.wire_text, data)
    text = str.__str__(given) if is_of(given, str) else data.decode()
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


__all__ = ["CallError", "Value", "code_of", "describe", "from_pydantic", "kept_text"]
