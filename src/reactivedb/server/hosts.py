"""Which names of this server may an admin request come by? (`Host`, `Origin`, DNS rebinding)

A web page can point a name of its own at this server's address (DNS rebinding). The browser then takes the
server for the page's own origin and lets the page read its answers. Such a request carries the page's name
in `Host`. An address cannot be pointed elsewhere, and `localhost` is answered by the browser itself, so both
are always known; every other name has to be told, by `--allowed-host` or in `CONVEX_CLOUD_URL` and
`CONVEX_SITE_URL`. `X-Forwarded-Host` and its like are not read, because anybody may send them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from ..errors import ReactiveDBError
from .replies import Refusal

# RFC 1035: 253 characters; an address with its brackets is shorter.
_HOST_LENGTH_MAX: Final = 255
_ANY: Final = "*"
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%\w~-]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{0,5})?", re.ASCII)
_NAME: Final = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """The names that were told, each as `host_of` gives it; `*.NAME` is every name below it, `*` any."""

    names: frozenset[str] = frozenset()

    @staticmethod
    def of(texts: Iterable[str], *, urls: Iterable[str | None] = ()) -> AllowedHosts:
        """Those names, and the hosts of those URLs.

        Raises:
            ReactiveDBError: `InvalidAllowedHost`.
        """
        found = (_host_of_url(url) for url in urls if url is not None)
        return AllowedHosts(frozenset([*map(_told, texts), *(host for host in found if host is not None)]))

    @property
    def are_local(self) -> bool:
        """Whether they name this machine only."""
        return all(is_local(name) for name in self.names)

    def knows(self, host: str) -> bool:
        """Whether it is one of the names that were told."""
        if host in self.names or _ANY in self.names:
            return True
        parents = host.split(".")[1:]
        return any("*." + ".".join(parents[start:]) in self.names for start in range(len(parents)))


def check_hosts(request: Request, allowed: AllowedHosts) -> None:
    """Refuse an admin request that a page under a foreign name may have made.

    Raises:
        Refusal: 403 `ForeignHost` or `ForeignOrigin`.
    """
    # A request without `Host` is HTTP/1.0, which no browser speaks.
    hosts = request.headers.getlist("host")
    for text in hosts:
        host = host_of(text)
        if host is None or not (is_local(host) or _is_address(host) or allowed.knows(host)):
            raise _foreign("Host", text, host)
    own = {host_of(text) for text in hosts}
    for text in request.headers.getlist("origin"):
        # A page of another address is as foreign as one of another name: only this server's own will do.
        origin = _host_of_url(text)
        if origin is None or not (is_local(origin) or origin in own or allowed.knows(origin)):
            raise _foreign("Origin", text, origin)


def host_of(text: str) -> str | None:
    """The host of a `Host` header as it is compared: lower case, no port, no brackets, no dot at its end."""
    found = _HOST.fullmatch(text.strip(" \t")) if len(text) <= _HOST_LENGTH_MAX else None
    if found is None:
        return None
    host = found[1].lower()
    if host.startswith("["):
        try:
            return str(IPv6Address(host[1:-1].replace("%25", "%", 1)))
        except ValueError:
            return None
    host = host.removesuffix(".")
    return host if _NAME.fullmatch(host) else None


def is_local(host: str) -> bool:
    """Whether it stands for the machine that says it."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _host_of_url(url: str) -> str | None:
    """None for what has no host, such as the origin `null`."""
    try:
        parts = urlsplit(url)
    except ValueError:  # half of an IPv6 address
        return None
    # In a URL, unlike in `Host`, what stands before an `@` is a user.
    return host_of(_ascii(parts.netloc.rpartition("@")[2]) or "")


def _told(text: str) -> str:
    if text == _ANY:
        return text
    star = "*." if text.startswith("*.") else ""
    name = text.removeprefix(star).strip()
    bare = f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name
    encoded = _ascii(bare)
    host = None if encoded is None else host_of(encoded)
    if host is None or (star and (_is_address(host) or "." not in host)):
        raise ReactiveDBError(
            f"an allowed host is a name or an address without a scheme, such as `db.example.com`, "
            f"`*.example.com` or `*` for any, got `{text[:80]}` - give the name alone",
            code="InvalidAllowedHost",
        )
    return star + host


def _ascii(name: str) -> str | None:
    """As it goes over the wire: `bücher.example` is sent as `xn--bcher-kva.example`."""
    try:
        return name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return None


def _foreign(header: str, text: str, host: str | None) -> Refusal:
    name = "NAME" if host is None else host[:80]
    return Refusal(
        HTTPStatus.FORBIDDEN,
        f"Foreign{header}",
        f"expected `{header}` of an admin request to be an address or a name of this server, got "
        f"`{text[:80]}` - if it is one, start the server with `--allowed-host {name}`, or pass "
        "`allowed_hosts=` in Python",
    )
