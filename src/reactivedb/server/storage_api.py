"""How do files come in and go out over HTTP?

The routes of section c.5 of the protocol. An upload shows a token, a download an address; whoever has the
URL needs nothing else, and whoever has not can guess neither. Bodies pass piece by piece and are never looked
into: a content type is stored as it was sent, and nothing is unpacked.

What strangers upload is served from the deployment's own origin, so it must not run there: browsers are told
to take the content type as it stands and to show the file in a sandbox.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, Final, cast

import anyio
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from ..app import Runtime
from ..errors import LimitExceededError, RequestError, StorageError
from ..functions import FILES_PATH, UPLOAD_PATH, Ticket
from ..limits import MIB, Limits
from ..log import Log
from ..schema import StoredFile
from ..values import dumps
from .bodies import Pace, announced_bytes, drain
from .byte_range import requested_range
from .replies import Refusal, json_response, outcome_unknown

# What is read of a file that is too large, so that its sender comes to read why.
_DRAIN_SIZE_BYTES_MAX: Final = 16 * MIB
_SHA256_SIZE_BYTES: Final = 32
_AGE_S: Final = 2_592_000
_ANY_BYTES: Final = "application/octet-stream"
# Chrome's viewer does not work in a sandbox, and brings its own.
_NOT_SANDBOXED: Final = "application/pdf"

_logger = Log("reactivedb.server")


class StorageApi:
    """The file routes of one running database."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def routes(self) -> list[Route]:
        return [
            Route(UPLOAD_PATH, self.upload, methods=["POST"]),
            Route(f"{FILES_PATH}/{{address}}", self.download, methods=["GET"]),
        ]

    async def upload(self, request: Request) -> Response:
        limits = self._runtime.limits
        ticket = self._ticket(request)
        _refuse_packed(request.headers)
        expected = expected_digests(request.headers)
        announced = announced_bytes(request.headers) or 0
        pace = Pace(request.receive, limits)
        if announced > limits.file_size_bytes_max:
            raise await _too_large(pace, limits, is_read="expect" not in request.headers)
        content_type = request.headers.get("content-type") or None
        try:
            id = await self._runtime.files.upload(ticket, _pieces(pace), content_type, expected=expected)
        except LimitExceededError as error:
            if error.limit != "file_size_bytes_max":
                raise
            raise await _too_large(pace, limits) from error
        except StorageError as error:
            raise _failed("stored", error) from error
        return json_response(dumps({"storageId": id}))

    def _ticket(self, request: Request) -> Ticket:
        """Raises: Refusal, 403 for a token that is not, or no longer, good; 409 while it is being used."""
        try:
            return self._runtime.files.ticket(request.query_params.get("token", ""))
        except RequestError as error:
            status = HTTPStatus.CONFLICT if error.code == "UploadInProgress" else HTTPStatus.FORBIDDEN
            raise Refusal(status, error.code, error.message) from error

    async def download(self, request: Request) -> Response:
        row = await self._runtime.files.find(request.path_params["address"])
        if row is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "FileNotFound",
                "there is no file at this address - it was deleted, or the URL is not whole",
            )
        found: Any = row.object()
        file = cast("StoredFile", found)
        headers = _headers_of(file)
        if _is_known(request.headers.get("if-none-match"), headers["etag"]):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        size_bytes = int(file.size)
        start, stop, status = 0, size_bytes, HTTPStatus.OK
        if request.method == "GET" and request.headers.get("if-range", headers["etag"]) == headers["etag"]:
            part = requested_range(request.headers.get("range"), size_bytes)
            if part is not None:
                start, stop, status = part.start, part.stop, HTTPStatus.PARTIAL_CONTENT
                headers["content-range"] = f"bytes {start}-{stop - 1}/{size_bytes}"
        headers["content-length"] = str(stop - start)
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        return _Download(self._runtime, file.id, range(start, stop), status=status, headers=headers)


class _Download(Response):
    """A part of a file, on its way to somebody who takes it."""

    def __init__(
        self, runtime: Runtime, id: str, part: range, *, status: HTTPStatus, headers: dict[str, str]
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        self._runtime = runtime
        self._id = id
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        patience_s = self._runtime.limits.blocked_receiver_s

        async def send_patiently(message: Message) -> None:
            with anyio.fail_after(patience_s):
                await send(message)

        try:
            async with self._runtime.files.opened(self._id) as file:
                pieces = file.pieces(self._part.start, self._part.stop)
                response = StreamingResponse(pieces, status_code=self.status_code, headers=self.headers)
                await response(scope, receive, send_patiently)
        except TimeoutError:
            # The server ends a connection whose response is not whole.
            _logger.warning("a client took nothing of a file for %g s and was cut off", patience_s)
        except StorageError as error:
            raise _failed("read", error) from error


def _failed(what: str, error: StorageError) -> Refusal:
    # The message names a place on this machine, which is nobody else's business.
    _logger.error("a file could not be %s: %s", what, error)
    if what == "stored" and error.code == "SyncFailed":
        return outcome_unknown("an upload")
    return Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE,
        error.code,
        f"the file could not be {what} - try again later; the server's log says why",
    )


async def _pieces(pace: Pace) -> AsyncIterator[bytes]:
    """Raises: Refusal, for a body that is too slow or breaks off."""
    more = True
    while more:
        message = await pace.receive()
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def _too_large(pace: Pace, limits: Limits, *, is_read: bool = True) -> Refusal:
    if is_read:
        with anyio.move_on_after(limits.http_body_idle_s):
            await drain(pace.receive, _DRAIN_SIZE_BYTES_MAX)
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "FileTooLarge",
        f"a file may have {limits.file_size_bytes_max} bytes, this one has more - send a smaller one",
        headers={"connection": "close"},
    )


def _refuse_packed(headers: Headers) -> None:
    """Raises: Refusal, 415."""
    encoding = ",".join(headers.getlist("content-encoding")).strip().lower()
    if encoding not in ("", "identity"):
        raise Refusal(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "UnknownContentEncoding",
            f"expected a file's own bytes, got `Content-Encoding: {encoding[:40]}`, which would be lost - "
            "send them without, or with the packed form's own `Content-Type`",
            headers={"accept-encoding": "identity"},
        )


def expected_digests(headers: Headers) -> list[bytes]:
    """The SHA-256 that the body has to have: of `Digest` (RFC 3230) and `Content-Digest` (RFC 9530).

    Raises:
        Refusal: 400, for one that is none. Other algorithms are left alone, as both say.
    """
    found: list[bytes] = []
    for header, mark in (("digest", ""), ("content-digest", ":")):
        for item in ",".join(headers.getlist(header)).split(","):
            name, _, value = item.strip().partition("=")
            if name.strip().lower() != "sha-256":
                continue
            text = value.strip()
            is_marked = text.startswith(mark) and text.endswith(mark) and len(text) >= 2 * len(mark)
            digest = _decoded(text[len(mark) : len(text) - len(mark)]) if is_marked else b""
            if len(digest) != _SHA256_SIZE_BYTES:
                raise Refusal(
                    HTTPStatus.BAD_REQUEST,
                    "InvalidDigest",
                    f"expected `{header.title()}` to be `sha-256={mark}BASE64{mark}` of 32 bytes, got "
                    f"`{item.strip()[:80]}`",
                )
            found.append(digest)
    return found


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _headers_of(file: StoredFile) -> dict[str, str]:
    content_type = file.content_type or _ANY_BYTES
    headers = {
        "content-type": content_type,
        "digest": f"sha-256={file.sha256}",
        # What stands at an address never changes.
        "etag": f'"{file.sha256}"',
        "accept-ranges": "bytes",
        "cache-control": f"private, max-age={_AGE_S}",
        "x-content-type-options": "nosniff",
        "access-control-expose-headers": "accept-ranges, content-length, content-range, digest, etag",
    }
    # To the letter: of `application/pdf;,text/html` browsers take the last one.
    if content_type.lower() != _NOT_SANDBOXED:
        headers["content-security-policy"] = "sandbox"
    return headers


def _is_known(if_none_match: str | None, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in tags or "*" in tags
