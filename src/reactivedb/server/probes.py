"""Does the server live, can it serve, and how is it doing?

For those who operate it: `/healthz` answers as long as the process does, `/readyz` while the database can be
used, `/metrics` with figures for Prometheus. All three are let in however busy the server is. Building
indexes and migrating does not make a server unready, for it serves meanwhile; nor does overload, for then
those who are sent elsewhere would overload the rest. The figures name the application's functions, the
internal ones as well: in production they are for those who show the admin key.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ..app import Runtime
from ..values import dumps
from .admin import Addresses, AdminKey, check_origin, is_admin_key
from .replies import Refusal, error_response, json_response

if TYPE_CHECKING:
    from .metrics import Metrics

HEALTH: Final = "/healthz"
_SCHEMES: Final = ("bearer", "convex")


def healthy() -> Response:
    """The process is there, whatever its database does."""
    return PlainTextResponse("ok")


class Probes:
    """The routes of one running database."""

    def __init__(self, runtime: Runtime, admin_key: AdminKey | None, addresses: Addresses) -> None:
        self._runtime = runtime
        self._admin_key = admin_key
        self._addresses = addresses
        self._metrics: Metrics | None = None

    def routes(self) -> list[Route]:
        return [Route(HEALTH, self.health), Route("/readyz", self.ready), Route("/metrics", self.metrics)]

    async def health(self, request: Request) -> Response:
        return healthy()

    async def ready(self, request: Request) -> Response:
        delivery = self._runtime.delivery
        if delivery.broken is not None:
            # Not in the words of the error: they may name a path on the disk.
            return _unready(
                delivery.broken.code, "the disk or the file failed, and what was not synced is lost"
            )
        if not self._runtime.is_open:
            return _unready("DatabaseClosed", "the database is closed")
        work = "done" if self._runtime.schema_work.is_idle else "running"
        return json_response(dumps({"status": "ready", "schemaWork": work}))

    async def metrics(self, request: Request) -> Response:
        check_origin(request, self._addresses)
        if self._runtime.production:
            scheme, _, key = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() not in _SCHEMES or not is_admin_key(key.strip(), self._admin_key):
                raise Refusal(
                    HTTPStatus.FORBIDDEN,
                    "BadDeployKey",
                    "expected this deployment's admin key in `Authorization: Bearer KEY` - Prometheus sends "
                    "it with `authorization: {credentials: KEY}` in its `scrape_configs`",
                )
        if self._metrics is None:
            from .metrics import Metrics

            self._metrics = Metrics(self._runtime)
        text, content_type = self._metrics.text(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})


def _unready(code: str, why: str) -> Response:
    return error_response(HTTPStatus.SERVICE_UNAVAILABLE, code, f"{why} - the server has to be started again")
