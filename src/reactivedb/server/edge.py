"""What happens to every request before routing?

Clients put the deployment's URL and the path together as strings, so a URL with a slash at its end gives
`//api/...`: runs of slashes become one, but for those in the path of an HTTP action, which is the handler's
to read. And browsers on any origin may call `/api` (section c.3 of the protocol), which is safe because
rights travel in headers and never in cookies.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SLASHES: Final = re.compile("/{2,}")
_HTTP_ACTION: Final = re.compile("/+http(/+|$)")
_PREFLIGHT_AGE_S: Final = 86_400
_METHODS: Final = "GET, POST, OPTIONS, PATCH, DELETE, PUT"


class Edge:
    """Middleware around all routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "//" in scope["path"]:
            scope = {**scope, "path": _squeezed(scope)}
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if scope["type"] != "http" or not is_api(route_path(scope)):
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await _preflight(origin, headers)(scope, receive, send)
        elif origin is None:
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, _with_origin(send, origin))


def route_path(scope: Scope) -> str:
    """The path below the prefix that this application is mounted at."""
    root: str = scope.get("root_path", "")
    path: str = scope["path"]
    return path[len(root) :] if root and path.startswith(root) else path


def _squeezed(scope: Scope) -> str:
    path = route_path(scope)
    before = scope["path"].removesuffix(path)
    action = _HTTP_ACTION.match(path)
    if action is None:
        return _SLASHES.sub("/", before + path)
    return f"{before}/http{action[1][:1]}{path[action.end() :]}"


def deployment_url(request: Request) -> str:
    """Where the caller reaches this application, with the prefix that it is mounted at."""
    root: str = request.scope.get("root_path", "")
    return f"{request.url.scheme}://{request.url.netloc}{root.rstrip('/')}"


def is_api(path: str) -> bool:
    return path.startswith("/api/") or path == "/api"


def _preflight(origin: str | None, headers: Headers) -> Response:
    if origin is None:
        # Somebody looks what there is, and is no browser.
        return Response(status_code=204, headers={"allow": _METHODS})
    return Response(
        status_code=204,
        headers={
            "access-control-allow-origin": origin,
            "access-control-allow-credentials": "true",
            "access-control-allow-methods": _METHODS,
            "access-control-allow-headers": headers.get("access-control-request-headers", "*"),
            "access-control-max-age": str(_PREFLIGHT_AGE_S),
            "vary": "Origin, Access-Control-Request-Headers",
        },
    )


def _with_origin(send: Send, origin: str) -> Send:
    async def send_with_origin(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["access-control-allow-origin"] = origin
            headers["access-control-allow-credentials"] = "true"
            headers.add_vary_header("Origin")
        await send(message)

    return send_with_origin
