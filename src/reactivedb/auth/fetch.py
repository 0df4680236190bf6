"""What stands at this URL, if it is one that a server may be sent to?

A provider's keys are asked for by whoever sends a token, so the request must not become a way into the
network behind the server: https only, no address but public ones, and the address that was checked is the
one connected to. Redirects are not followed, no proxy or cookie is used, and time and size are bounded.
Both rules on addresses fall where `allow_private` says so.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast
from urllib.parse import urlsplit

import anyio
import httpcore2

from ..errors import AuthProviderError
from ..limits import KIB
from ..values import redacted
from .addresses import is_public

_TIMEOUT_S: Final = 5.0
_BODY_SIZE_BYTES_MAX: Final = 512 * KIB

# The addresses of a host and port, as texts.
Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A body, and for how many seconds its sender calls it good."""

    body: bytes
    max_age_s: float | None


async def resolve(host: str, port: int) -> list[str]:
    """Raises: OSError."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


async def fetch(url: str, *, allow_private: bool, resolve: Resolve = resolve) -> Fetched:
    """GET.

    Raises:
        AuthProviderError: no answer, none with status 200, or none that may be asked for.
    """
    if urlsplit(url).scheme != "https" and not (allow_private and urlsplit(url).scheme == "http"):
        raise _unavailable(url, "it is not asked without https")
    try:
        with anyio.fail_after(_TIMEOUT_S):
            return await _get(url, _CheckedBackend(resolve, allow_private))
    except TimeoutError:
        raise _unavailable(url, f"no answer within {_TIMEOUT_S:.0f} s") from None
    except (OSError, ValueError, httpcore2.NetworkError, httpcore2.TimeoutException) as error:
        raise _unavailable(url, f"it cannot be reached ({type(error).__name__})") from error
    except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol) as error:
        raise _unavailable(url, f"it does not speak HTTP ({type(error).__name__})") from error


async def _get(url: str, backend: _CheckedBackend) -> Fetched:
    headers = [("Accept", "application/json"), ("Accept-Encoding", "identity"), ("User-Agent", "reactivedb")]
    pool = httpcore2.AsyncConnectionPool(network_backend=backend, max_connections=1)
    async with pool, pool.stream("GET", url, headers=[("Host", urlsplit(url).netloc), *headers]) as response:
        if response.status != 200:
            raise _unavailable(url, f"it answers with status {response.status}")
        body = bytearray()
        async for piece in response.aiter_stream():
            body += piece
            if len(body) > _BODY_SIZE_BYTES_MAX:
                raise _unavailable(url, f"it answers with more than {_BODY_SIZE_BYTES_MAX} bytes")
        return Fetched(bytes(body), _max_age_s(response.headers))


class _CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that were looked at."""

    def __init__(self, resolve: Resolve, allow_private: bool) -> None:
        self._resolve = resolve
        self._allow_private = allow_private
        # The package's own stand-in for a missing anyio hides the type from checkers.
        self._inner = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the base class's signature; `fetch` bounds it all
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        addresses = await self._resolve(host, port)
        private = [address for address in addresses if not is_public(address)]
        if private and not self._allow_private:
            raise AuthProviderError(
                f"the auth provider at `{host}` has a private address, which is not asked - declare the "
                "provider with `allow_private=True` if that is meant",
                code="PrivateAuthProvider",
            )
        for address in addresses[:-1]:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore2.NetworkError:
                continue  # the next address may answer; the error of the last one is told
        if not addresses:
            raise OSError(f"`{host}` has no address")
        return await self._inner.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)


def _max_age_s(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    for name, value in headers:
        if name.lower() == b"cache-control" and (found := re.search(rb"max-age=(\d{1,9})", value.lower())):
            return float(found[1])
    return None


def _unavailable(url: str, why: str) -> AuthProviderError:
    return AuthProviderError(f"the auth provider's keys at `{redacted(url[:200])}` cannot be had: {why}")
