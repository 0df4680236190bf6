"""How is a folder served while it is edited?

Both ports and the database belong to this one process. A change of a Python file below the folder imports
the application afresh and hands it to the running database, which keeps its clients; if the import or the
schema fails, that is shown and the application before serves on.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import TaskGroup
from watchfiles import Change, awatch  # pyright: ignore[reportUnknownVariableType] - a part is untyped

from ..app import Runtime
from ..errors import StorageError
from ..server.admin import Addresses, AdminKey
from ..server.asgi import ReactiveASGI
from ..server.serving import Listeners, run, serve_on
from ..user_code import contained
from .data_dir import DataDir
from .failures import known_secrets
from .load import AppFolder
from .report import Report, result
from .users import development_provider

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line says about a server."""

    folder: Path
    host: str
    port: int
    site_port: int
    data: Path | None
    compression: bool
    allowed_hosts: tuple[str, ...] = ()


def dev(settings: Settings, *, open_browser: bool) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ReactiveDBError: nothing to serve, a port that is taken, data that do not fit or cannot be opened.
        Exception: whatever the application's modules raise.
    """
    folder = AppFolder(settings.folder)
    app = folder.load()
    data = DataDir.of(settings.folder, settings.data)
    data.create()
    key = data.development_key()
    report = Report(secrets=(key, *known_secrets()))
    report.install_logging()
    live = ReactiveASGI(
        app,
        data.database,
        admin_key=AdminKey.of(key),
        production=False,
        allowed_hosts=settings.allowed_hosts,
    )
    listeners = Listeners.bind(settings.host, settings.port, settings.site_port)

    provider = development_provider(data)

    stopping = threading.Event()

    def on_ready(addresses: Addresses, tasks: TaskGroup) -> None:
        live.database.runtime.report.on_run = report.run
        live.database.runtime.trust(provider)
        announce(addresses, data)
        tasks.start_soon(watch, folder, live, report, stopping)
        if open_browser and addresses.cloud_url is not None:
            _open_browser(addresses.cloud_url)

    async def serve_and_watch() -> None:
        async with anyio.create_task_group() as tasks:
            try:
                await serve_on(
                    listeners,
                    live,
                    compression=settings.compression,
                    on_ready=lambda addresses: on_ready(addresses, tasks),
                )
            finally:
                # The watching thread looks for this; it does not see a cancellation for seconds.
                stopping.set()
            tasks.cancel_scope.cancel()

    try:
        run(serve_and_watch)
    finally:
        listeners.close()


def announce(addresses: Addresses, data: DataDir) -> None:
    """Say on standard output that the server is ready, and where; leave its URL for `run`."""
    try:
        data.remember_url(addresses.cloud_url or "")
    except StorageError as error:
        if error.code != "DiskFull":
            raise
        # Serving reads needs no room.
        _log.warning("%s", error)
    result(f"reactivedb: serving {addresses.cloud_url} site {addresses.site_url} data {data.path}")


async def watch(folder: AppFolder, live: ReactiveASGI, report: Report, stopping: threading.Event) -> None:
    """Reload on each change, until `stopping` is set."""

    def is_code(change: Change, path: str) -> bool:
        return path.endswith(".py") and folder.owns(Path(path))

    try:
        changes = awatch(folder.directory, watch_filter=is_code, step=20, debounce=200, stop_event=stopping)
        async for _ in changes:
            reload(folder, live.database.runtime, report)
    except (OSError, RuntimeError) as error:
        # The system may have no watches left; serving goes on without them.
        report.line(f"changes are not noticed any more, restart to load them: {error}")


def reload(folder: AppFolder, runtime: Runtime, report: Report) -> bool:
    """Import the application afresh and put it in the place of the running one; whether that worked."""
    started = time.perf_counter()
    try:
        app = folder.load()
    except BaseException as error:
        report.failure(contained(error), folder=folder.directory)
        report.line("not reloaded: the application as it was before serves on")
        return False
    try:
        runtime.reload(app)
    except BaseException as error:
        folder.revert()
        report.failure(contained(error), folder=folder.directory)
        report.line("not reloaded: the application as it was before serves on")
        return False
    report.note(f"reloaded in {(time.perf_counter() - started) * 1e3:.0f} ms")
    return True


def _open_browser(url: str) -> None:
    """Show the page; on a machine without a display there is only a browser in this terminal: leave it."""
    on_desktop = sys.platform in ("win32", "darwin") or os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}
    if on_desktop:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
