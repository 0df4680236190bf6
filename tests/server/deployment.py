"""A server with both its ports, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path

import anyio

import reactivedb as rdb
from reactivedb.server.admin import Addresses
from reactivedb.server.serving import Listeners, run, serve_on

KEY = "test|0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Urls:
    main: str
    site: str


class Deployment:
    """A server with both its ports, in a thread of its own."""

    def __init__(
        self,
        app: rdb.App,
        path: str | Path = ":memory:",
        *,
        host: str = "127.0.0.1",
        admin_key: str = KEY,
    ) -> None:
        self._ready = threading.Event()
        self._scope: anyio.CancelScope | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners = Listeners.bind(host, 0, 0)
        self._live = rdb.asgi(app, path, admin_key=admin_key)
        self._thread = threading.Thread(target=lambda: run(self._run), daemon=True)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        with anyio.CancelScope() as self._scope:
            await serve_on(self._listeners, self._live, on_ready=self._told)

    def _told(self, addresses: Addresses) -> None:
        self._ready.set()

    def start(self) -> Urls:
        self._thread.start()
        assert self._ready.wait(timeout=10)
        addresses = self._listeners.addresses
        assert addresses.cloud_url is not None
        assert addresses.site_url is not None
        return Urls(addresses.cloud_url, addresses.site_url)

    @property
    def database(self) -> rdb.AsyncDatabase:
        return self._live.database

    def stop(self) -> None:
        assert self._loop is not None
        assert self._scope is not None
        self._loop.call_soon_threadsafe(self._scope.cancel)
        self._thread.join(timeout=10)
        self._listeners.close()
