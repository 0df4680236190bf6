"""What surrounds an open database: the process's variables, and where clients reach it?

One object for the life of a database, whatever application it runs. The variables are those of the process
when the database was opened; the addresses are told by whoever listens, before the first call. A process
that is reached by other addresses than those it listens at says so in `CONVEX_CLOUD_URL` and
`CONVEX_SITE_URL`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar, cast

from ..errors import RequestError

T = TypeVar("T")
UrlName = Literal["CONVEX_CLOUD_URL", "CONVEX_SITE_URL"]
URL_NAMES: Final[tuple[UrlName, ...]] = ("CONVEX_CLOUD_URL", "CONVEX_SITE_URL")


class Deployment:
    """The surroundings of one open database."""

    def __init__(self, process: Mapping[str, str] | None = None) -> None:
        self.process: Mapping[str, str] = process or {}
        self._urls: dict[str, str] = {}
        self._parts: dict[type[Any], Any] = {}

    def put(self, part: object) -> None:
        """Keep what modules above need in runs of their functions, in the place of one of its type."""
        self._parts[type(part)] = part

    def part(self, kind: type[T]) -> T:
        """What `put` was given of that type."""
        return cast("T", self._parts[kind])

    def listens_at(self, cloud_url: str | None, site_url: str | None) -> None:
        """Take the addresses of the ports; None: they are not known."""
        found = zip(URL_NAMES, (cloud_url, site_url), strict=True)
        self._urls = {name: url for name, url in found if url is not None}

    def find_url(self, name: str) -> str | None:
        return self.process.get(name) or self._urls.get(name)

    def url(self, name: UrlName) -> str:
        """Raises: RequestError `AddressUnknown`, in a database that no server of ours listens for."""
        url = self.find_url(name)
        if url is None:
            raise RequestError(
                f"nobody has told this deployment where clients reach it - set `{name}` in the environment "
                "of its process",
                code="AddressUnknown",
            )
        return url
