"""How does an administrator set environment variables over HTTP?

The routes of section c.9 of the protocol, which `convex env` uses.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..app import CallResult, Runtime
from ..functions import ADMIN, LIST_VARIABLES, UPDATE_VARIABLES
from ..values import dumps, loads
from .admin import Addresses, AdminKey, admin_from, check_origin, require_admin
from .bodies import read_body
from .replies import Refusal, json_response


class EnvironmentApi:
    """The two routes of one running database."""

    def __init__(self, runtime: Runtime, admin_key: AdminKey | None, addresses: Addresses) -> None:
        self._runtime = runtime
        self._admin_key = admin_key
        self._addresses = addresses

    def routes(self) -> list[Route]:
        return [
            Route("/api/update_environment_variables", self.update, methods=["POST"]),
            Route("/api/list_environment_variables", self.list, methods=["GET"]),
        ]

    async def update(self, request: Request) -> Response:
        self._require_admin(request)
        limits = self._runtime.limits
        body = loads(await read_body(request, limits.message_size_bytes_max, limits))
        changes = cast("dict[str, Any]", body).get("changes") if isinstance(body, dict) else None
        _succeeded(
            await self._runtime.call("mutation", UPDATE_VARIABLES, {"changes": changes}, identity=ADMIN)
        )
        return Response(status_code=HTTPStatus.OK)

    async def list(self, request: Request) -> Response:
        self._require_admin(request)
        found = _succeeded(await self._runtime.call("query", LIST_VARIABLES, {}, identity=ADMIN))
        variables = {variable["name"]: variable["value"] for variable in found}
        return json_response(dumps({"environmentVariables": variables}))

    def _require_admin(self, request: Request) -> None:
        check_origin(request, self._addresses)
        require_admin(admin_from(request.headers.get("authorization"), self._admin_key))


def _succeeded(result: CallResult) -> Any:
    """Raises: Refusal, in the words of what failed."""
    if result.error is not None:
        code, _, message = result.error.message.partition(": ")
        raise Refusal(HTTPStatus.BAD_REQUEST, code, message)
    return loads(result.value or b"null")
