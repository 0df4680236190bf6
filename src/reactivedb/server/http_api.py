"""How are functions called over plain HTTP?

The routes of section c.1 of the protocol. A request becomes a `Call` (path, arguments, format), checked
here for its shape only; what it means, and what it may reach, is the runtime's to decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, cast

import anyio
import anyio.lowlevel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..app import Caller, ReadArgs, Runtime, read_large
from ..functions import FunctionDefinition, Identity
from ..functions import Kind as FunctionKind
from ..protocol import decode_ts, encode_ts, normalize_path
from ..text import quoted
from ..values import decoded_size_bytes, dumps, is_light, loads, redacted
from .admin import Addresses, AdminKey, check_origin, identity_from, require_admin
from .answers import LIGHT_ANSWER_BYTES
from .bodies import read_body
from .gate import caller_of, hold, identify
from .replies import Format, Refusal, json_response, outcome, outcome_unknown, printable

Kind = Literal["query", "mutation", "action", "any"]


@dataclass(frozen=True, slots=True)
class Call:
    """One function call as a body describes it; `args` is parsed JSON in the lossless encoding."""

    path: str
    args: object
    form: Format
    caller: Caller

    @staticmethod
    def parse(body: object, request: Request, *, path: str | None = None) -> Call:
        """Read a body's fields; `path` stands in where the URL names the function.

        Raises:
            Refusal: a field is missing or has the wrong shape.
            ValidationError: the path is outside the grammar.
        """
        fields = _object(body)
        named = path if path is not None else fields.get("path")
        if not isinstance(named, str):
            raise _misshapen("`path` to be the text `folder/module:function`", named)
        args: object = fields.get("args", {})
        if not isinstance(args, dict | ReadArgs) and not _is_list_of_one_object(args):
            raise _misshapen("`args` to be an object, or a list of one object", args)
        if fields.get("componentPath") not in (None, ""):
            raise _misshapen("no `componentPath`, for there are no components", fields["componentPath"])
        normalize_path(named)
        form = Format.named(fields.get("format"), request.headers.get("convex-client"))
        return Call(named, cast("object", args), form, caller_of(request.scope))


class HttpApi:
    """The call routes of one running database."""

    def __init__(self, runtime: Runtime, admin_key: AdminKey | None, addresses: Addresses) -> None:
        self._runtime = runtime
        self._admin_key = admin_key
        self._addresses = addresses

    def routes(self) -> list[Route]:
        post = ["POST"]
        return [
            Route("/api/query", self.query, methods=["GET", "POST"]),
            Route("/api/mutation", self.mutation, methods=post),
            Route("/api/action", self.action, methods=post),
            Route("/api/query_ts", self.query_ts, methods=post),
            Route("/api/query_at_ts", self.query_at_ts, methods=post),
            Route("/api/query_batch", self.query_batch, methods=post),
            Route("/api/function", self.function, methods=post),
            Route("/api/run/{path:path}", self.run, methods=post),
        ]

    async def query(self, request: Request) -> Response:
        identity = await self._identity(request)
        if request.method == "POST":
            return await self._answer("query", await self._call(request, "query", identity), identity)
        fields: dict[str, object] = dict(request.query_params)
        if isinstance(text := fields.get("args"), str):
            body = b'{"args":%b}' % printable(text).encode()
            args = await self._read(request, body, "query", identity, path=str(fields.get("path")))
            fields["args"] = cast("dict[str, object]", args).get("args")
        return await self._answer("query", Call.parse(fields, request), identity)

    async def mutation(self, request: Request) -> Response:
        identity = await self._identity(request)
        return await self._answer("mutation", await self._call(request, "mutation", identity), identity)

    async def action(self, request: Request) -> Response:
        identity = await self._identity(request)
        return await self._answer("action", await self._call(request, "action", identity), identity)

    async def query_ts(self, request: Request) -> Response:
        return json_response(dumps({"ts": encode_ts(self._runtime.latest_ts)}))

    async def query_at_ts(self, request: Request) -> Response:
        identity = await self._identity(request)
        body = _object(await self._json(request, "query", identity))
        at_ts = decode_ts(body.get("ts"))
        return await self._answer("query", Call.parse(body, request), identity, at_ts=at_ts)

    async def query_batch(self, request: Request) -> Response:
        identity = await self._identity(request)
        bodies = _object(await self._json(request, "query", identity)).get("queries")
        if not isinstance(bodies, list):
            raise _misshapen("`queries` to be a list of query bodies", bodies)
        limits = self._runtime.limits
        asked = cast("list[object]", bodies)
        if len(asked) > limits.queries_per_batch_max:
            raise _too_much("queries", limits.queries_per_batch_max, len(asked))
        calls = [Call.parse(body, request) for body in asked]
        at_ts = self._runtime.latest_ts
        caller = caller_of(request.scope)
        results: list[bytes] = []
        size_bytes = 0
        try:
            for call in calls:
                results.append(await self._outcome("query", call, identity, at_ts=at_ts))
                # The next ones may wait for their turn.
                caller.hold_answer(len(results[-1]))
                size_bytes += len(results[-1])
                if size_bytes > limits.result_size_bytes_max:
                    raise _too_much("bytes of results", limits.result_size_bytes_max, size_bytes)
                # Queries do not wait for anything; others want to be served between them.
                await anyio.lowlevel.checkpoint()
            return json_response(b'{"results":[' + b",".join(results) + b"]}")
        finally:
            caller.hold_bytes(-size_bytes)

    async def function(self, request: Request) -> Response:
        check_origin(request, self._addresses)
        identity = await self._identity(request)
        require_admin(identity)
        return await self._answer("any", await self._call(request, "any", identity), identity)

    async def run(self, request: Request) -> Response:
        identity = await self._identity(request)
        module, _, export = request.path_params["path"].rpartition("/")
        path = f"{module}:{export}" if module and ":" not in export else request.path_params["path"]
        return await self._answer("any", await self._call(request, "any", identity, path=path), identity)

    async def _identity(self, request: Request) -> Identity:
        header = request.headers.get("authorization")
        identity = await identity_from(header, self._admin_key, self._runtime.auth)
        identify(request.scope, identity)
        return identity

    async def _call(
        self, request: Request, kind: Kind, identity: Identity, *, path: str | None = None
    ) -> Call:
        return Call.parse(await self._json(request, kind, identity, path=path), request, path=path)

    async def _answer(
        self, kind: Kind, call: Call, identity: Identity, *, at_ts: int | None = None
    ) -> Response:
        return json_response(await self._outcome(kind, call, identity, at_ts=at_ts))

    async def _outcome(self, kind: Kind, call: Call, identity: Identity, *, at_ts: int | None) -> bytes:
        result = await self._runtime.call(
            kind, call.path, call.args, identity=identity, internal=identity.is_admin, at_ts=at_ts
        )
        if result.outcome_unknown:
            raise outcome_unknown(call.path)
        if result.unavailable is not None:
            assert result.error is not None
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                result.unavailable,
                result.error.message.removeprefix(f"{result.unavailable}: "),
                headers={"retry-after": "1"},
            )
        steps = outcome(result, call.form)
        size_bytes = result.size_bytes
        if size_bytes <= LIGHT_ANSWER_BYTES:
            return await self._runtime.turns.run(call.caller, steps)
        # Until its turn comes it is there as text, and then also as what is written of it.
        call.caller.hold_answer(2 * size_bytes)
        try:
            return await self._runtime.turns.run(call.caller, steps)
        finally:
            call.caller.hold_bytes(-2 * size_bytes)

    async def _json(
        self, request: Request, kind: Kind, identity: Identity, *, path: str | None = None
    ) -> object:
        limits = self._runtime.limits
        body = await read_body(request, limits.message_size_bytes_max, limits)
        if kind == "action":
            # It has its arguments for as long as it runs, and not as text.
            hold(request.scope, decoded_size_bytes(body) - len(body))
        return await self._read(request, body, kind, identity, path=path)

    async def _read(
        self, request: Request, body: bytes, kind: Kind, identity: Identity, *, path: str | None
    ) -> object:
        """Parse a body; a large one in turns with others, with `ReadArgs` for what it calls."""
        runtime = self._runtime
        caller = caller_of(request.scope)
        if is_light(body):
            runtime.turns.served(caller)
            return loads(body)
        wanted = None if kind == "any" else FunctionKind(kind)

        def find(fields: dict[str, Any]) -> FunctionDefinition:
            named = path if path is not None else fields.get("path")
            name = named if isinstance(named, str) else ""
            return runtime.runner.registry.find(name, wanted, internal=identity.is_admin)

        named_by = frozenset({"path"}) if path is None else frozenset[str]()
        return await runtime.turns.run(caller, read_large(body, find, runtime.limits, named_by=named_by))


def _object(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise _misshapen("a JSON object as body", body)
    return cast("dict[str, Any]", body)


def _is_list_of_one_object(args: object) -> bool:
    return (
        isinstance(args, list)
        and len(items := cast("list[object]", args)) == 1
        and isinstance(items[0], dict)
    )


def _misshapen(expected: str, got: object) -> Refusal:
    # The whole of a large body is not written out for the sake of its beginning.
    shown = "null" if got is None else f"`{redacted(quoted(got, 1000))[:80]}`"
    if isinstance(got, dict | list):
        shown = f"a {'list' if isinstance(got, list) else 'JSON object'} of {len(cast('list[object]', got))}"
    return Refusal(HTTPStatus.BAD_REQUEST, "BadRequestBody", f"expected {expected}, got {shown}")


def _too_much(what: str, maximum: int, got: int) -> Refusal:
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "BatchTooLarge",
        f"expected at most {maximum} {what} in one batch, got {got} - ask in several",
    )
