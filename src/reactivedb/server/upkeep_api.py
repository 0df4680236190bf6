"""How does an administrator erase a document in a running server, and give room back to its disk?

Routes of our own, for `reactivedb erase` and `reactivedb compact`. Backups need none: they read the file.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..app import Runtime, upkeep
from ..errors import StorageError
from ..values import dumps, loads
from .admin import Addresses, AdminKey, admin_from, check_origin, require_admin
from .bodies import read_body
from .replies import Refusal, json_response


class UpkeepApi:
    """The two routes of one running database."""

    def __init__(self, runtime: Runtime, admin_key: AdminKey | None, addresses: Addresses) -> None:
        self._runtime = runtime
        self._admin_key = admin_key
        self._addresses = addresses

    def routes(self) -> list[Route]:
        return [
            Route("/api/erase_document", self.erase, methods=["POST"]),
            Route("/api/compact", self.compact, methods=["POST"]),
        ]

    async def erase(self, request: Request) -> Response:
        self._require_admin(request)
        limits = self._runtime.limits
        body = loads(await read_body(request, limits.message_size_bytes_max, limits))
        id = cast("dict[str, Any]", body).get("id") if isinstance(body, dict) else None
        if not isinstance(id, str):
            raise Refusal(
                HTTPStatus.BAD_REQUEST, "BadRequest", 'expected `{"id": ...}`, the id of a document to erase'
            )
        report = await self._told(upkeep.erase(self._runtime, id))
        return json_response(dumps({**asdict(report), "backups": report.backups}))

    async def compact(self, request: Request) -> Response:
        self._require_admin(request)
        report = await self._told(upkeep.compact(self._runtime))
        return json_response(dumps(asdict(report)))

    async def _told(self, steps: Generator[upkeep.Step, None, upkeep.T]) -> upkeep.T:
        """Raises: Refusal; an administrator may know what the storage says, files' names included."""
        try:
            return await upkeep.run_steps_async(self._runtime, steps)
        except StorageError as error:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, error.code, error.message) from error

    def _require_admin(self, request: Request) -> None:
        check_origin(request, self._addresses)
        require_admin(admin_from(request.headers.get("authorization"), self._admin_key))
