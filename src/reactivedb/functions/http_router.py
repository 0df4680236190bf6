"""Which handler answers which HTTP request?

An `HttpRouter` is a declaration, passed as `App(http=...)`. A route is a method with an exact path or a
prefix: the exact one wins, then the longest prefix; HEAD is answered by GET's. Requests and responses are
Starlette's, of which nothing is imported here. Who serves the routes, and where: see `server/http_actions`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from ..errors import SchemaError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from .context import ActionCtx

    HttpHandler: TypeAlias = Callable[[ActionCtx, Request], Awaitable[Response]]

H = TypeVar("H", bound="HttpHandler")

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_RESERVED: Final = "/.files/"


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """One method on one exact path, or on all that begin with `path`."""

    method: str
    path: str
    is_prefix: bool
    handler: Callable[[ActionCtx, Any], Coroutine[Any, Any, Any]]
    # The handler runs in a thread of its own, where it may block.
    thread: bool = False

    @property
    def pattern(self) -> str:
        """How specifications show it: a prefix ends in `*`."""
        return f"{self.path}*" if self.is_prefix else self.path


class HttpRouter:
    """The HTTP actions of an application.

        router = rdb.HttpRouter()

        @router.post("/hooks/mail")
        async def received(ctx: rdb.ActionCtx, request: Request) -> Response:
            await ctx.run_mutation(mails.add, body=(await request.body()).decode())
            return Response(status_code=204)

    A decorated handler stays the function it is.
    """

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], HttpRoute] = {}
        self._prefixes: dict[tuple[str, str], HttpRoute] = {}
        # The lengths of all prefixes, the longest first.
        self._prefix_lengths: list[int] = []

    def get(
        self, path: str | None = None, *, prefix: str | None = None, thread: bool = False
    ) -> Callable[[H], H]:
        """Answer GET, and HEAD without its body. Raises as `route` does."""
        return self.route("GET", path, prefix=prefix, thread=thread)

    def post(
        self, path: str | None = None, *, prefix: str | None = None, thread: bool = False
    ) -> Callable[[H], H]:
        return self.route("POST", path, prefix=prefix, thread=thread)

    def put(
        self, path: str | None = None, *, prefix: str | None = None, thread: bool = False
    ) -> Callable[[H], H]:
        return self.route("PUT", path, prefix=prefix, thread=thread)

    def patch(
        self, path: str | None = None, *, prefix: str | None = None, thread: bool = False
    ) -> Callable[[H], H]:
        return self.route("PATCH", path, prefix=prefix, thread=thread)

    def delete(
        self, path: str | None = None, *, prefix: str | None = None, thread: bool = False
    ) -> Callable[[H], H]:
        return self.route("DELETE", path, prefix=prefix, thread=thread)

    def options(
        self, path: str | None = None, *, prefix: str | None = None, thread: bool = False
    ) -> Callable[[H], H]:
        return self.route("OPTIONS", path, prefix=prefix, thread=thread)

    def route(
        self, method: str, path: str | None = None, *, prefix: str | None = None, thread: bool = False
    ) -> Callable[[H], H]:
        """Answer a method on an exact path, or on every path below `prefix`.

        With `thread=True` the handler runs in a thread of its own and may block; it stays `async def`.

        Raises:
            SchemaError: `InvalidRoute`, `DuplicateRoute`, `ActionNotAsync`.
        """
        where = _checked(method, path, prefix)

        def add(handler: H) -> H:
            if not inspect.iscoroutinefunction(handler):
                raise SchemaError(
                    f"the handler of `{method} {where}` must be `async def handler(ctx, request)`, "
                    f"got `{handler!r}`",
                    code="ActionNotAsync",
                )
            routes = self._exact if prefix is None else self._prefixes
            if (method, where) in routes:
                raise SchemaError(
                    f"`{method} {where}` has two handlers - remove one", code="DuplicateRoute", path=where
                )
            routes[method, where] = HttpRoute(method, where, prefix is not None, handler, thread)
            self._prefix_lengths = sorted({len(known) for _, known in self._prefixes}, reverse=True)
            return handler

        return add

    def find(self, method: str, path: str) -> HttpRoute | None:
        """The route that answers; O(number of different lengths of prefixes), whatever the path is."""
        method = "GET" if method == "HEAD" else method
        found = self._exact.get((method, path))
        for length in self._prefix_lengths:
            if found is not None:
                break
            found = self._prefixes.get((method, path[:length]))
        return found

    def __iter__(self) -> Iterator[HttpRoute]:
        return iter([*self._exact.values(), *self._prefixes.values()])


def _checked(method: str, path: str | None, prefix: str | None) -> str:
    """Raises: SchemaError `InvalidRoute`."""
    where = path if prefix is None else prefix
    if where is None or (path is not None and prefix is not None):
        raise _invalid("either a path or `prefix=`", f"`{path}` and `{prefix}`")
    if method not in METHODS:
        raise _invalid(f"one of the methods {', '.join(METHODS)}", f"`{method}`")
    if not where.startswith("/") or (prefix is not None and not where.endswith("/")):
        kind = "a path that begins with `/`" if prefix is None else "a prefix that begins and ends with `/`"
        raise _invalid(kind, f"`{where}`")
    if where.startswith(_RESERVED):
        raise _invalid(f"a path outside of `{_RESERVED}`, which is reserved", f"`{where}`")
    return where


def _invalid(expected: str, got: str) -> SchemaError:
    return SchemaError(f"a route has {expected}, got {got}", code="InvalidRoute")
