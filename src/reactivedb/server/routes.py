"""Which code answers which path?

The API first, with 404 and 405 as JSON; what no API route claims goes to the pages, except below `/api`,
where an unknown path is an error that its caller should see as one.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from ..app import Runtime
from ..errors import ReactiveDBError
from .admin import Addresses, AdminKey
from .edge import Edge, is_api, route_path
from .environment_api import EnvironmentApi
from .gate import Gate
from .http_actions import BelowPrefix
from .http_api import HttpApi
from .meta_api import MetaApi
from .openapi import OpenApi
from .pages import Pages
from .probes import Probes
from .replies import Refusal, on_bug, on_http_exception, on_library_error, on_refusal
from .sockets import SyncEndpoint
from .storage_api import StorageApi
from .upkeep_api import UpkeepApi


def main_application(
    runtime: Runtime, admin_key: AdminKey | None, addresses: Addresses, *, actions: ASGIApp
) -> ASGIApp:
    """Everything on the main port of one running database; `actions` are its HTTP actions."""
    sync = SyncEndpoint(runtime)
    routes: list[BaseRoute] = [
        *(WebSocketRoute(path, sync) for path in ("/api/sync", "/api/{version}/sync", "/sync")),
        *HttpApi(runtime, admin_key, addresses).routes(),
        *MetaApi(runtime, admin_key, addresses).routes(),
        *EnvironmentApi(runtime, admin_key, addresses).routes(),
        *UpkeepApi(runtime, admin_key, addresses).routes(),
        *StorageApi(runtime).routes(),
        *OpenApi(runtime).routes(),
        *Probes(runtime, admin_key, addresses).routes(),
    ]
    application = Starlette(
        routes=routes,
        exception_handlers={
            Refusal: on_refusal,
            ReactiveDBError: on_library_error,
            HTTPException: on_http_exception,
            Exception: on_bug,
        },
    )
    application.router.redirect_slashes = False
    pages = Router(Pages(lambda: runtime.app.static_dir).routes(), redirect_slashes=False)
    application.router.default = _Unclaimed(pages)
    return Edge(Gate(BelowPrefix(application, actions), runtime))


class _Unclaimed:
    """What no API route claims."""

    def __init__(self, pages: ASGIApp) -> None:
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        elif is_api(route_path(scope)):
            # Convex's CLI takes a 404 for a hiccup and retries for a minute; a 400 it shows at once.
            by_cli = Request(scope).headers.get("convex-client", "").startswith("npm-cli")
            raise HTTPException(HTTPStatus.BAD_REQUEST if by_cli else HTTPStatus.NOT_FOUND, "no such route")
        else:
            await self._pages(scope, receive, send)
