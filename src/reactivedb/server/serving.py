"""How does one process listen on its two ports, and how does it end?

uvicorn runs the applications, on uvloop where it is installed. Both ports are taken before anything is
opened, so a port in use is one clear error. SIGTERM and SIGINT end the process politely: clients are told,
requests get a few seconds, the database is closed, and `run` returns.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import anyio
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from ..app import App, end_if_from_signal, loop_factory
from ..errors import ReactiveDBError
from ..limits import Limits
from ..log import Log
from .admin import Addresses
from .asgi import ReactiveASGI, asgi
from .hosts import is_local
from .http_protocol import ReactiveHttpProtocol
from .malloc import give_back_large_blocks
from .websocket import ReactiveWebSocketProtocol

DEFAULT_PORT = 3210
DEFAULT_SITE_PORT = 3211

_BACKLOG = 2048
# A peer that answers no ping is gone; a busy one (a JavaScript page in a long task) gets its time.
_PING_INTERVAL_S = 20.0
_PING_TIMEOUT_S = 40.0
_SHUTDOWN_TIMEOUT_S = 5
# Files of the database, uploads, and HTTP requests that come beside sockets.
_OTHER_FILES = 1_000

_logger = Log("reactivedb.server")
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Listeners:
    """The two ports of a deployment, held from the moment this is made."""

    host: str
    main: socket.socket
    site: socket.socket

    @staticmethod
    def bind(host: str, port: int, site_port: int) -> Listeners:
        """Take both ports; 0 means any free one.

        Raises:
            ReactiveDBError: `PortUnavailable`; the other port is let go.
        """
        main = _listen(host, port, "--port")
        try:
            return Listeners(host, main, _listen(host, site_port, "--site-port"))
        except ReactiveDBError:
            main.close()
            raise

    @property
    def addresses(self) -> Addresses:
        host = _ANY_HOST.get(self.host, f"[{self.host}]" if ":" in self.host else self.host)
        main, site = self.main.getsockname()[1], self.site.getsockname()[1]
        return Addresses(
            cloud_url=f"http://{host}:{main}",
            site_url=f"http://{host}:{site}",
            are_all=self.host in _ANY_HOST,
        )

    @property
    def is_public(self) -> bool:
        """Whether others than this machine can reach the ports."""
        return not is_local(self.main.getsockname()[0])

    def close(self) -> None:
        self.main.close()
        self.site.close()


# More parameters than usual: each is one fact about a deployment that a caller may want to name.
def serve(
    app: App,
    path: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    site_port: int = DEFAULT_SITE_PORT,
    admin_key: str | None = None,
    compression: bool = False,
    trusted_proxies: str | None = None,
    allowed_hosts: Iterable[str] = (),
) -> None:
    """Serve an application in production until SIGTERM or SIGINT.

    Args:
        admin_key: opens internal functions to whoever shows it; one that others could guess is refused
            where others can reach the server.
        allowed_hosts: the names that admin requests may come by, beside addresses and `localhost`.
        trusted_proxies: addresses and networks, with commas between, whose `X-Forwarded-For` says who is
            asking; else those in the variable `FORWARDED_ALLOW_IPS`, else this machine's own.

    Raises:
        ReactiveDBError: `PortUnavailable`, `WeakAdminKey`, `InvalidAllowedHost`, `StorageError` or
            `SchemaError`, before anything is served.
    """
    live = asgi(app, path, admin_key=admin_key, production=True, allowed_hosts=allowed_hosts)
    listeners = Listeners.bind(host, port, site_port)
    try:
        run(lambda: serve_on(listeners, live, compression=compression, trusted_proxies=trusted_proxies))
    finally:
        listeners.close()


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine function to its end on the fastest event loop there is, in a process of its own."""
    give_back_large_blocks()
    anyio.run(main, backend_options={"loop_factory": loop_factory(fast=True)})


async def serve_on(
    listeners: Listeners,
    live: ReactiveASGI,
    *,
    compression: bool = False,
    trusted_proxies: str | None = None,
    on_ready: Callable[[Addresses], None] | None = None,
) -> None:
    """Open the database, serve it on both ports until a signal comes, close it.

    Raises:
        ReactiveDBError: `WeakAdminKey`, the key can be guessed, and others can reach the server.
        StorageError, SchemaError: the data cannot be opened, or do not fit the application; the storage was
            closed for good while it was served.
    """
    live.require_strong_key(is_public=listeners.is_public)
    live.addresses = listeners.addresses
    async with live.lifespan():
        limits = live.database.runtime.limits
        _allow_sockets(limits.sockets_max)
        config = _config(_ByPort(live, listeners), limits, compression)
        if trusted_proxies is not None:
            config.forwarded_allow_ips = trusted_proxies
        server = _Server(config)
        if on_ready is not None:
            server.on_ready = lambda: on_ready(live.addresses)
        runtime = live.database.runtime
        runtime.delivery.on_broken = lambda error: server.stop()
        await server.serve([listeners.main, listeners.site])
        if runtime.delivery.broken is not None:
            raise runtime.delivery.broken


class _ByPort:
    """One server listens on both ports; the port a request came in by says which application is meant."""

    def __init__(self, live: ReactiveASGI, listeners: Listeners) -> None:
        self._live = live
        self._site_port = listeners.site.getsockname()[1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        by_site_port = scope["server"][1] == self._site_port
        try:
            await (self._live.site if by_site_port else self._live)(scope, receive, send)
        except BaseException as error:
            end_if_from_signal(error)
            raise


class _Server(uvicorn.Server):
    """uvicorn's server, which here sleeps until it is told to end, and then returns."""

    on_ready: Callable[[], None] | None = None

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def main_loop(self) -> None:
        if self.on_ready is not None:
            self.on_ready()
        while not await self.on_tick(0):
            # The tick renews the `Date` header; uvicorn's own loop would wake ten times a second.
            with anyio.move_on_after(1.0):
                await self._stop.wait()

    def stop(self) -> None:
        """End politely; may be called from any thread."""
        self.should_exit = True
        self._loop.call_soon_threadsafe(self._stop.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.stop()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """As uvicorn's, but without raising the signal again: the end that was asked for has come."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


def _config(application: ASGIApp, limits: Limits, compression: bool) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=ReactiveHttpProtocol.with_limits(limits),
        h11_max_incomplete_event_size=limits.http_head_size_bytes_max,
        ws=ReactiveWebSocketProtocol,
        ws_max_size=limits.message_size_bytes_max,
        ws_ping_interval=_PING_INTERVAL_S,
        ws_ping_timeout=_PING_TIMEOUT_S,
        ws_per_message_deflate=compression,
        # Whoever calls opens the database, so that what goes wrong there is raised to them.
        lifespan="off",
        # An access log would hold query strings, and with them keys.
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT_S,
    )


def _allow_sockets(count: int) -> None:
    """Raise this process's own bound on open files to what that many sockets need."""
    if find_spec("resource") is None:
        return  # Windows has no such bound.
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _logger.warning(
            "%d open files are too few for `sockets_max`, %d - raise `ulimit -n`, or lower the limit",
            allowed,
            count,
        )


def _listen(host: str, port: int, option: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = (
            "is in use - stop the other server"
            if in_use
            else f"cannot be listened on ({error}) - check `--host`"
        )
        raise ReactiveDBError(
            f"port {port} of `{host}` {why}, or pass another `{option}`", code="PortUnavailable", port=port
        ) from None
