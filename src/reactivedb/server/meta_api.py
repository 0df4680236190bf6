"""Which server is this, is it up, and does this key open it?

The routes of section c.4 of the protocol. `convex network-test` and `convex dev` use them.
"""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ..app import Runtime
from ..limits import MIB
from ..values import dumps
from .admin import Addresses, AdminKey, admin_from, check_origin, is_admin_key, require_admin
from .bodies import announced_bytes, read_body
from .edge import deployment_url
from .replies import Refusal, json_response

# The size that `convex network-test --speed-test` sends, and room above it.
_ECHO_SIZE_BYTES_MAX: Final = 128 * MIB
# Anybody may send them, and each is held in memory.
_LARGE_ECHOES_MAX: Final = 2
_INSTANCE_NAME: Final = "reactivedb"


class MetaApi:
    """Questions about the server itself."""

    def __init__(self, runtime: Runtime, admin_key: AdminKey | None, addresses: Addresses) -> None:
        self._limits = runtime.limits
        self._told_urls = runtime.deployment.process
        self._large_echoes = 0
        self._admin_key = admin_key
        self._addresses = addresses

    def routes(self) -> list[Route]:
        return [
            Route("/version", self.version),
            Route("/instance_version", self.version),
            Route("/instance_name", self.instance_name),
            Route("/echo", self.echo, methods=["POST"]),
            Route("/api/check_admin_key", self.check_admin_key),
            Route("/api/v1/get_canonical_urls", self.canonical_urls),
            Route("/api/debug_event", self.debug_event, methods=["POST"]),
        ]

    async def version(self, request: Request) -> Response:
        return PlainTextResponse(version("reactivedb"))

    async def instance_name(self, request: Request) -> Response:
        return PlainTextResponse(_INSTANCE_NAME)

    async def echo(self, request: Request) -> Response:
        size_bytes = announced_bytes(request.headers)
        is_large = size_bytes is None or size_bytes > MIB
        if is_large and self._large_echoes >= _LARGE_ECHOES_MAX:
            raise Refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                "TooManyEchoes",
                f"expected at most {_LARGE_ECHOES_MAX} bodies above 1 MiB at once - try again in a moment",
                headers={"retry-after": "1"},
            )
        self._large_echoes += is_large
        try:
            body = await read_body(request, _ECHO_SIZE_BYTES_MAX, self._limits, unpack=False)
        finally:
            self._large_echoes -= is_large
        return Response(body, media_type=request.headers.get("content-type", "application/octet-stream"))

    async def check_admin_key(self, request: Request) -> Response:
        self._require_admin(request)
        return json_response(b'{"success":true}')

    async def canonical_urls(self, request: Request) -> Response:
        self._require_admin(request)
        urls = {
            "convexCloudUrl": self._url(request, "CONVEX_CLOUD_URL", self._addresses.cloud_url),
            "convexSiteUrl": self._url(request, "CONVEX_SITE_URL", self._addresses.site_url),
        }
        return json_response(dumps(urls))

    def _url(self, request: Request, name: str, listens_at: str | None) -> str:
        """Where the caller finds a port: where it was told, or else by the name that brought them here."""
        if told := self._told_urls.get(name):
            return told
        if listens_at is None:
            return deployment_url(request)
        if not self._addresses.are_all:
            return listens_at
        host = request.url.hostname or ""
        port = urlsplit(listens_at).port
        return f"{request.url.scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    async def debug_event(self, request: Request) -> Response:
        """Telemetry of npm's client, which it sends when asked to; nobody reads it here."""
        return json_response(b"{}")

    def _require_admin(self, request: Request) -> None:
        check_origin(request, self._addresses)
        # Some clients put the key of a GET route into its query string.
        if not is_admin_key(request.query_params.get("adminKey", ""), self._admin_key):
            require_admin(admin_from(request.headers.get("authorization"), self._admin_key))
