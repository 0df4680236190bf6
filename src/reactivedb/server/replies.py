"""How does an answer look over HTTP: a function's outcome, or a refusal of the request itself?

Section c.1 of the protocol: the outcome of a function is always status 200, whether it failed or not; what
is wrong with the request has a 4xx or 5xx and a body of `code` and `message`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any, Final, cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..app import CallResult
from ..errors import (
    AuthenticationError,
    AuthProviderError,
    ConflictError,
    LimitExceededError,
    ProtocolError,
    ReactiveDBError,
    RequestError,
    StorageError,
    ValueLimitError,
)
from ..limits import ERROR_TEXT_LENGTH_MAX
from ..log import Log
from ..text import cut, quoted
from ..values import Steps, decode, dumps, encode_plain, is_small, loads, rewrite

# As official clients wait after a socket that was closed for too many requests.
RETRY_AFTER_S: Final = 3


class Refusal(Exception):  # noqa: N818 - a request is refused; nothing here is broken
    """The request cannot be answered; becomes a response with this status, code and message."""

    def __init__(
        self, status: HTTPStatus, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    @property
    def response(self) -> Response:
        response = error_response(self.status, self.code, self.message)
        response.headers.update(self.headers)
        return response


_logger = Log("reactivedb.server")


def outcome_unknown(what: str) -> Refusal:
    """The disk failed while a call waited for it. Without `Retry-After`: sent again, it might run twice."""
    return Refusal(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "OutcomeUnknown",
        f"the server's disk failed before `{quoted(what, 200)}` was safe on it, so that what it wrote may be "
        "there once the server is back, or not - look then, before you send it again",
    )


class Format(Enum):
    """How values are written in an answer (section a.2)."""

    ENCODED = "convex_encoded_json"
    # As `ENCODED`, with each number as a float: PyPI's HTTP client refuses a number without a fraction.
    FRACTIONS = "convex_encoded_json for Python"
    PLAIN = "json"

    @staticmethod
    def named(name: object, client: str | None) -> Format:
        """The format of that name for a client (its `Convex-Client` header).

        Raises:
            Refusal: the name is none.
        """
        match name:
            case None if not _knows_formats(client):
                return Format.ENCODED
            case None | "json" | "convex_clean_json":
                return Format.PLAIN
            case "convex_encoded_json" | "convex_json":
                return Format.FRACTIONS if client and client.startswith("python-") else Format.ENCODED
            case _:
                raise Refusal(
                    HTTPStatus.BAD_REQUEST,
                    "BadFormat",
                    f"expected `format` to be `convex_encoded_json` or `json`, got `{quoted(name, 40)}`",
                )

    def write_in_steps(self, encoded: bytes) -> Steps:
        """As `write`, for a value that may be large."""
        if self is Format.ENCODED or is_small(encoded):
            return self.write(encoded)
        return (yield from rewrite(encoded, self.write))

    def write(self, encoded: bytes) -> bytes:
        """A value that is in the lossless encoding, in this format."""
        match self:
            case Format.ENCODED:
                return encoded
            case Format.FRACTIONS:
                return dumps(_with_fractions(loads(encoded)))
            case Format.PLAIN:
                return encode_plain(decode(encoded))


_CLIENT: Final = re.compile(r"(npm|python)-(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")
# The first versions that say which format they want; older ones read the lossless one alone.
_FIRST_WITH_FORMAT: Final = {"npm": (1, 4, 1), "python": (0, 5, 0)}


def _knows_formats(client: str | None) -> bool:
    found = _CLIENT.match(client or "")
    if found is None:
        return True
    return tuple(int(part or 0) for part in found.groups()[1:]) >= _FIRST_WITH_FORMAT[found[1]]


def outcome(result: CallResult, form: Format) -> Steps:
    """The JSON text for what a function came to."""
    if result.error is None:
        parts = [b'{"status":"success","value":', (yield from form.write_in_steps(result.value or b"null"))]
    else:
        parts = [b'{"status":"error","errorMessage":', dumps(printable(result.error.message))]
        if result.error.data is not None:
            parts += [b',"errorData":', (yield from form.write_in_steps(result.error.data))]
    if result.log_lines:
        parts += [b',"logLines":', dumps([printable(line) for line in result.log_lines])]
    return b"".join([*parts, b"}"])


def json_response(body: bytes, *, status: int = HTTPStatus.OK) -> Response:
    return Response(body, status_code=status, media_type="application/json")


def error_response(status: int, code: str, message: str) -> Response:
    text = printable(cut(message, ERROR_TEXT_LENGTH_MAX))
    return json_response(dumps({"code": code, "message": text}), status=status)


def printable(text: str) -> str:
    """Text that UTF-8 can hold: a lone surrogate, which a caller may well send, is written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


async def on_refusal(request: Request, error: Exception) -> Response:
    return cast("Refusal", error).response


async def on_library_error(request: Request, error: Exception) -> Response:
    """What the core raises about the request itself (a function's failure is an outcome instead)."""
    library_error = cast("ReactiveDBError", error)
    message = library_error.message
    if isinstance(error, StorageError):
        # It names a place on this machine, which is nobody else's business.
        _logger.error("a request could not be answered: %s", error)
        if error.code == "SyncFailed" and request.method not in ("GET", "HEAD"):
            return outcome_unknown(f"{request.method[:20]} {request.url.path}").response
        message = "the database cannot answer now - try again later; the server's log says why"
    response = error_response(_status_of(library_error), library_error.code, message)
    if library_error.code == "TooManyConcurrentRequests":
        response.headers["retry-after"] = str(RETRY_AFTER_S)
    return response


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What Starlette's routing raises: no route, or not with this method."""
    exception = cast("HTTPException", error)
    status = HTTPStatus(exception.status_code)
    response = error_response(
        status,
        "".join(word.capitalize() for word in status.phrase.split()),
        f"`{request.method[:20]} {request.url.path[:200]}` cannot be answered: {exception.detail}",
    )
    response.headers.update(exception.headers or {})
    return response


async def on_bug(request: Request, error: Exception) -> Response:
    """Our own mistake; the server's log has the traceback."""
    return error_response(
        HTTPStatus.INTERNAL_SERVER_ERROR, "InternalServerError", "the server failed; its log says more"
    )


def _with_fractions(tree: Any) -> Any:
    match tree:
        case bool():
            return tree
        case int():
            return float(tree)
        case list():
            return [_with_fractions(item) for item in cast("list[Any]", tree)]
        case dict():
            return {key: _with_fractions(item) for key, item in cast("dict[str, Any]", tree).items()}
        case _:
            return tree


def _status_of(error: ReactiveDBError) -> HTTPStatus:
    match error:
        case AuthProviderError():
            return HTTPStatus.SERVICE_UNAVAILABLE
        case AuthenticationError():
            return HTTPStatus.UNAUTHORIZED
        case ValueLimitError():
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        case LimitExceededError():
            return HTTPStatus.TOO_MANY_REQUESTS
        case RequestError() | ProtocolError():
            return HTTPStatus.BAD_REQUEST
        case ConflictError() | StorageError():
            return HTTPStatus.SERVICE_UNAVAILABLE
        case _:
            return HTTPStatus.INTERNAL_SERVER_ERROR
