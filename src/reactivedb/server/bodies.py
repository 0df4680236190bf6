"""How is a request's body taken in, and when is it too large, too slow or not what it says?

Nobody can make the server wait for a body for ever, or hold more of it than the route allows: `Pace` says
how long the next piece may take, `read_body` stops at the limit, and what is compressed is unpacked piece by
piece up to that same limit. What still comes of a refused body is dropped unread, for a while
(`http_protocol`): a connection that is closed under a client that writes takes the answer with it.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from http import HTTPStatus
from importlib import import_module
from typing import Any, Final, Protocol

import anyio
import anyio.lowlevel
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Receive

from ..limits import DEFAULT_LIMITS, KIB, Limits
from .gate import hold
from .replies import Refusal

# How many times the limit a body may have and still be read to its end, to be refused politely.
DRAIN_FACTOR_MAX: Final = 4
# Python refuses to read numbers of thousands of digits.
_DIGITS_MAX: Final = 20
# What is unpacked before others are served: half a millisecond.
_UNPACKED_BYTES: Final = 256 * KIB
_ENCODINGS: Final = "gzip, deflate, br"
# `zlib` takes a gzip header, or its own.
_GZIP_BITS: Final = 16 + zlib.MAX_WBITS


class Pace:
    """How long the next piece of one body may take.

    Only the time that is spent waiting counts, so a handler may take its own time between two pieces.
    """

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self._waited_s: float = 0.0
        self._size_bytes: int = 0

    async def receive(self) -> Message:
        """The next message.

        Raises:
            Refusal: 408 `BodyTooSlow`; or, if the client has left, `RequestCancelled`.
        """
        began_s = time.monotonic()
        earned_s = self._size_bytes / self._limits.http_body_rate_bytes_per_s_min
        left_s = max(0.0, self._limits.http_body_idle_s + earned_s - self._waited_s)
        message: Message | None = None
        with anyio.move_on_after(min(left_s, self._limits.http_body_idle_s)):
            message = await self._receive()
        if message is None:
            raise Refusal(
                HTTPStatus.REQUEST_TIMEOUT,
                "BodyTooSlow",
                f"expected the next piece of the body within {self._limits.http_body_idle_s:g} s and "
                f"{self._limits.http_body_rate_bytes_per_s_min} bytes a second on average, got "
                f"{self._size_bytes} bytes - send it again over a better line",
                # There is nothing to wait for any more.
                headers={"connection": "close"},
            )
        if message["type"] != "http.request":
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "RequestCancelled", "the client has left")
        self._waited_s += time.monotonic() - began_s
        self._size_bytes += len(message.get("body", b""))
        return message


class _Decoder(Protocol):
    """Unpacks a body piece by piece."""

    def unpack(self, piece: bytes) -> Iterator[bytes]:
        """What the piece holds, some `_UNPACKED_BYTES` at a time."""
        ...

    @property
    def complete(self) -> bool:
        """The compressed text has come to its end, and nothing stands behind it."""
        ...


async def read_body(
    request: Request, size_bytes_max: int, limits: Limits = DEFAULT_LIMITS, *, unpack: bool = True
) -> bytes:
    """The whole body, unpacked as its `Content-Encoding` says.

    Raises:
        Refusal: 413 above the limit, 408 for one that does not come, 415 for an encoding that is not known
            here, 400 for one that is not what it says; 429 or 503 if bodies take too much memory already.
    """
    decoder = _decoder(request.headers.get("content-encoding", "")) if unpack else None
    if "expect" in request.headers and (announced_bytes(request.headers) or 0) > size_bytes_max:
        raise too_large(size_bytes_max)
    pace = Pace(request.receive, limits)
    body = bytearray()
    ended = False
    while not ended:
        message = await pace.receive()
        ended = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        if decoder is None:
            hold(request.scope, len(piece))
            body += piece
        else:
            for unpacked in _unpacked(decoder, piece):
                hold(request.scope, len(unpacked))
                body += unpacked
                if len(body) > size_bytes_max:
                    break
                # A few bytes may become megabytes, and others want to be served meanwhile.
                await anyio.lowlevel.checkpoint()
        if len(body) > size_bytes_max:
            if not ended:
                await drain(pace.receive, DRAIN_FACTOR_MAX * size_bytes_max)
            raise too_large(size_bytes_max)
    if decoder is not None and not decoder.complete:
        raise _badly_encoded("it ends too early, or something stands behind its end")
    return bytes(body)


async def drain(receive: Receive, size_bytes_max: int) -> None:
    """Read on and forget: a client that is still writing cannot read why it is refused."""
    more = True
    while more and size_bytes_max > 0:
        try:
            message = await receive()
        except Refusal:
            return  # Too slow, or gone: it has been refused already.
        size_bytes_max -= len(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)


def too_large(size_bytes_max: int) -> Refusal:
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "BodyTooLarge",
        f"expected at most {size_bytes_max} bytes of body",
    )


def announced_bytes(headers: Headers) -> int | None:
    """What `Content-Length` says; None without one. A number with more digits than any size stays large."""
    text = headers.get("content-length", "")
    return int(text[:_DIGITS_MAX]) if text.isdecimal() else None


def _decoder(encoding: str) -> _Decoder | None:
    """Raises: Refusal, 415."""
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _Zlib(_GZIP_BITS)
        case "deflate":
            return _Zlib(zlib.MAX_WBITS)
        case "br":
            return _Brotli()
        case other:
            raise Refusal(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "UnknownContentEncoding",
                f"expected `Content-Encoding` to be one of {_ENCODINGS}, got `{other[:40]}`",
                headers={"accept-encoding": _ENCODINGS},
            )


def _unpacked(decoder: _Decoder, piece: bytes) -> Iterator[bytes]:
    if not piece:
        return
    try:
        yield from decoder.unpack(piece)
    except ValueError as error:
        raise _badly_encoded(str(error)) from None


def _badly_encoded(reason: str) -> Refusal:
    return Refusal(
        HTTPStatus.BAD_REQUEST,
        "BadContentEncoding",
        f"expected the body to be as `Content-Encoding` says: {reason}",
    )


class _Zlib:
    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)

    def unpack(self, piece: bytes) -> Iterator[bytes]:
        if self._stream.eof:
            raise ValueError("something stands behind its end")
        try:
            unpacked = self._stream.decompress(piece, _UNPACKED_BYTES)
            while unpacked:
                yield unpacked
                # What was packed may be used up, and what it stands for not be given yet.
                unpacked = self._stream.decompress(self._stream.unconsumed_tail, _UNPACKED_BYTES)
        except zlib.error as error:
            raise ValueError(str(error)) from None

    @property
    def complete(self) -> bool:
        return self._stream.eof and not self._stream.unused_data


class _Brotli:
    def __init__(self) -> None:
        # By name, for it comes without types; and here, for hardly anybody but Convex's CLI sends it.
        brotli: Any = import_module("brotli")
        self._error: type[Exception] = brotli.error
        self._stream = brotli.Decompressor()

    def unpack(self, piece: bytes) -> Iterator[bytes]:
        try:
            while True:
                yield self._stream.process(piece, output_buffer_limit=_UNPACKED_BYTES)
                if self._stream.can_accept_more_data():
                    return
                piece = b""
        except self._error as error:
            raise ValueError(str(error)) from None

    @property
    def complete(self) -> bool:
        return bool(self._stream.is_finished())
