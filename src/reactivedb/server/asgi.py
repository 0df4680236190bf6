"""How is a database put into an ASGI server, alone or inside another application?

`ReactiveASGI` is the application. It owns the database it opens, from the start of its lifespan to the
end; a mounted application's lifespan does not run by itself, so the outer one takes it over:

    live = rdb.asgi(app, "chat.db")
    api = FastAPI(lifespan=live.lifespan)
    api.mount("/db", live)

A database that is already open is served as it is, and stays its owner's to close.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from ..app import App, AsyncDatabase
from ..errors import SchemaError
from ..functions import URL_NAMES
from .admin import Addresses, AdminKey, is_admin_key
from .admin_key import MAKE_A_KEY
from .edge import Edge, route_path
from .gate import Gate
from .hosts import AllowedHosts
from .http_actions import HttpActions
from .probes import HEALTH, healthy
from .replies import error_response
from .routes import main_application

_logger = logging.getLogger("reactivedb.server")
_NOT_RUNNING = (
    "the database is not open: this application's lifespan has not run - pass `lifespan=live.lifespan` to "
    "the application it is mounted in, or enter `async with live.lifespan():`"
)


def asgi(
    source: App | AsyncDatabase,
    path: str | Path | None = None,
    *,
    admin_key: str | None = None,
    production: bool = False,
    allowed_hosts: Iterable[str] | None = None,
) -> ReactiveASGI:
    """Make an ASGI application of an `App` and the path of its data, or of an open database.

    Args:
        admin_key: opens internal functions to whoever shows it; without one nobody is an administrator.
        production: errors and log lines of functions stay on the server.
        allowed_hosts: the names that admin requests may come by, beside addresses and `localhost`; `None`
            leaves that to the application this one is mounted in.

    Raises:
        SchemaError: `MissingPath`, for an `App` without a path.
        ReactiveDBError: `InvalidAllowedHost`; `WeakAdminKey`, for a blank key, and for one that can be
            guessed if a host is allowed that is not this machine.
    """
    key = None if admin_key is None else AdminKey.of(admin_key)
    if production and key is not None and key.is_guessable:
        # Where this is served is another's choice, and not known here.
        _logger.warning(
            "the admin key can be guessed: let nobody else reach it, or make one by `%s`", MAKE_A_KEY
        )
    return ReactiveASGI(source, path, admin_key=key, production=production, allowed_hosts=allowed_hosts)


class ReactiveASGI:
    """The ASGI application; see `asgi`."""

    def __init__(
        self,
        source: App | AsyncDatabase,
        path: str | Path | None,
        *,
        admin_key: AdminKey | None,
        production: bool,
        allowed_hosts: Iterable[str] | None = None,
    ) -> None:
        # Where clients reach this deployment, once the one who listens knows it.
        self.addresses = Addresses()
        self._admin_key = admin_key
        self._allowed_hosts = None if allowed_hosts is None else tuple(allowed_hosts)
        # A name that was told is one that others reach this server by.
        self.require_strong_key(is_public=not AllowedHosts.of(self._allowed_hosts or ()).are_local)
        self._application: ASGIApp | None = None
        self._site: ASGIApp | None = None
        self._database: AsyncDatabase | None = None
        self._open: Callable[[], AbstractAsyncContextManager[AsyncDatabase]] | None = None
        if isinstance(source, AsyncDatabase):
            source.runtime.production |= production
            self._start(source)
        elif path is None:
            raise SchemaError(
                "an `App` is served with the path of its data, got none - pass one, or `:memory:`",
                code="MissingPath",
            )
        else:
            self._open = lambda: source.open_async(path, production=production)

    def require_strong_key(self, *, is_public: bool) -> None:
        """Raises: ReactiveDBError `WeakAdminKey`."""
        if is_public and self._admin_key is not None:
            self._admin_key.require_strong()

    @property
    def database(self) -> AsyncDatabase:
        """The open database.

        Raises:
            SchemaError: `LifespanNotRunning`.
        """
        if self._database is None:
            raise SchemaError(_NOT_RUNNING, code="LifespanNotRunning")
        return self._database

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncGenerator[None]:
        """Open the database, serve, close it; takes the outer application, as FastAPI hands it in.

        Raises:
            StorageError, SchemaError: the data cannot be opened, or do not fit the application.
        """
        if self._open is None or self._database is not None:
            yield
            return
        async with self._open() as database:
            self._start(database)
            try:
                yield
            finally:
                self._application = self._site = self._database = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        else:
            await self._serve(self._application, scope, receive, send)

    async def site(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application of the site port: the HTTP actions at its root."""
        await self._serve(self._site, scope, receive, send)

    async def _serve(self, application: ASGIApp | None, scope: Scope, receive: Receive, send: Send) -> None:
        if application is not None:
            await application(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(code=1013, reason="LifespanNotRunning")(scope, receive, send)
        elif route_path(scope) == HEALTH:
            await healthy()(scope, receive, send)
        else:
            # With what browsers need to read it.
            response = error_response(503, "LifespanNotRunning", _NOT_RUNNING)
            await Edge(response)(scope, receive, send)

    def _start(self, database: AsyncDatabase) -> None:
        runtime = database.runtime
        runtime.report.logs_failures = True
        runtime.is_admin_key = lambda text: is_admin_key(text, self._admin_key)
        deployment = runtime.deployment
        deployment.listens_at(self.addresses.cloud_url, self.addresses.site_url)
        if self._allowed_hosts is not None or self.addresses.cloud_url is not None:
            urls = [deployment.find_url(name) for name in URL_NAMES]
            allowed = AllowedHosts.of(self._allowed_hosts or (), urls=urls)
            self.addresses = replace(self.addresses, allowed=allowed)
        actions = HttpActions(runtime, self._admin_key)
        self._site = Gate(actions, runtime)
        self._application = main_application(runtime, self._admin_key, self.addresses, actions=actions)
        self._database = database

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        """The server's own lifespan protocol, when this application is not mounted but served itself."""
        started = False
        await receive()
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                started = True
                await receive()
        except Exception as error:
            phase = "shutdown" if started else "startup"
            await send({"type": f"lifespan.{phase}.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.shutdown.complete"})
