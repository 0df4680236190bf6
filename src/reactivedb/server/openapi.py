"""What can be asked of this application over HTTP, for tools that read OpenAPI?

One operation for each public function, at `POST /api/run/...` with the format `json`, and one for each HTTP
action with a path of its own. Internal functions are not in it. It is made when it is first asked for and
again after a reload of the application.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..app import App, Runtime
from ..functions import FunctionDefinition, HttpRoute
from ..schema import JsonSchemas, Use
from ..values import dumps
from .edge import deployment_url
from .http_actions import PREFIX
from .replies import json_response

_VERSION: Final = "3.1.0"
_FORMATS: Final = (
    'Functions of this application. Arguments are written in the lossless encoding (`{"$integer": ...}` and '
    "its like). Results are described as the format `json` writes them, which is the default here; "
    "`convex_encoded_json` writes them in the lossless encoding as well."
)
_REFUSALS: Final = {
    "400": ("BadRequest", "The request is malformed."),
    "401": ("Unauthorized", "The token in `Authorization` is not accepted."),
    "403": ("Forbidden", "The admin key in `Authorization` is not this deployment's."),
    "408": ("TooSlow", "The body did not come in time."),
    "413": ("TooLarge", "The body is too large."),
    "415": ("UnknownEncoding", "The `Content-Encoding` is not known here."),
    "429": ("TooMany", "Too much is asked for at once; `Retry-After` says when to try again."),
    "500": ("OutcomeUnknown", "The disk failed meanwhile; what the call wrote may be there or not."),
    "503": ("Unavailable", "The database cannot answer now; `Retry-After` says when to try again."),
}


class OpenApi:
    """The route of one running database."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        # The last one that was asked for, and what it was made of.
        self._made: tuple[App, str, bytes] | None = None

    def routes(self) -> list[Route]:
        return [Route("/api/openapi.json", self.document)]

    async def document(self, request: Request) -> Response:
        url = deployment_url(request)
        app = self._runtime.app
        if self._made is None or self._made[:2] != (app, url):
            self._made = (app, url, dumps(openapi(app, url)))
        text = self._made[2]
        tag = f'"{hashlib.sha256(text).hexdigest()[:32]}"'
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        response = json_response(text)
        response.headers.update(headers)
        return response


def openapi(app: App, url: str) -> dict[str, Any]:
    """The document of an application that is served at `url`."""
    schemas = JsonSchemas(app.limits)
    public = sorted((known for known in app.registry if not known.internal), key=lambda known: known.path)
    paths: dict[str, dict[str, Any]] = {
        f"/api/run/{function.path.replace(':', '/')}": {"post": _operation(function, schemas)}
        for function in public
    }
    for route in app.http or ():
        if not route.is_prefix:
            at = quote(f"{PREFIX}{route.path}")
            paths.setdefault(at, {})[route.method.lower()] = _http_action(route)
    return {
        "openapi": _VERSION,
        "info": {
            "title": app.root or "reactivedb application",
            "description": _FORMATS,
            # Nobody numbers the versions of an application: this tells two apart.
            "version": hashlib.sha256(dumps([paths, schemas.components])).hexdigest()[:12],
        },
        "servers": [{"url": url}],
        "tags": [{"name": name} for name in _in_order(_module(function) for function in public)],
        "paths": paths,
        "components": {
            "schemas": schemas.components | _OWN_SCHEMAS,
            "responses": {name: _refusal(text) for name, text in _REFUSALS.values()},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A user's token; without one the caller is anonymous.",
                }
            },
        },
        "security": [{}, {"bearer": []}],
    }


_LOG_LINES: Final = {
    "type": "array",
    "items": {"type": "string"},
    "description": "What the function printed.",
}
_OWN_SCHEMAS: Final[dict[str, Any]] = {
    "reactivedb.Failure": {
        "description": "The function failed; nothing that a query or mutation wrote is left.",
        "type": "object",
        "properties": {
            "status": {"const": "error"},
            "errorMessage": {"type": "string"},
            "errorData": {"description": "What the application gave with its error."},
            "logLines": _LOG_LINES,
        },
        "required": ["status", "errorMessage"],
        "additionalProperties": False,
    },
    "reactivedb.Refusal": {
        "description": "The request was not carried out.",
        "type": "object",
        "properties": {
            "code": {"type": "string", "description": "For programs."},
            "message": {"type": "string", "description": "For people."},
        },
        "required": ["code", "message"],
        "additionalProperties": False,
    },
}


def _operation(function: FunctionDefinition, schemas: JsonSchemas) -> dict[str, Any]:
    args = schemas.arguments(function.args)
    body: dict[str, Any] = {
        "type": "object",
        # Other fields are let pass, as they are for Convex's own clients.
        "properties": {"args": args, "format": {"enum": ["json"], "default": "json"}},
    }
    if "required" in args:
        body["required"] = ["args"]
    success: dict[str, Any] = {
        "type": "object",
        "properties": {
            "status": {"const": "success"},
            "value": schemas.of(function.returns, Use.RESULT),
            "logLines": _LOG_LINES,
        },
        "required": ["status", "value"],
        "additionalProperties": False,
    }
    outcome = {"oneOf": [success, {"$ref": "#/components/schemas/reactivedb.Failure"}]}
    return {
        "operationId": function.path.replace("/", ".").replace(":", "."),
        "tags": [_module(function)],
        **_prose(function.reference.handler),
        "x-reactivedb-kind": function.kind.value,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {
                "description": "What came of it, also if the function failed.",
                "content": {"application/json": {"schema": outcome}},
            },
            **{status: {"$ref": f"#/components/responses/{name}"} for status, (name, _) in _REFUSALS.items()},
        },
    }


def _http_action(route: HttpRoute) -> dict[str, Any]:
    return {
        "operationId": f"http.{route.method.lower()}.{quote(route.path, safe='')}",
        "tags": ["http"],
        **_prose(route.handler),
        "responses": {"default": {"description": "What the handler answers."}},
    }


def _refusal(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/reactivedb.Refusal"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _prose(handler: Any) -> dict[str, str]:
    text = inspect.getdoc(handler)
    if not text:
        return {}
    first, _, rest = text.partition("\n")
    return {"summary": first, "description": text} if rest.strip() else {"summary": first}


def _module(function: FunctionDefinition) -> str:
    return function.path.rpartition(":")[0]


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
