"""A browser, a server with long lists, and the official React hook bundled for the one to ask the other."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from browser.conftest import browser, page
from clients.conftest import JS, npm_client
from clients.proxy import CuttingProxy, cutting_proxy
from clients.server import DevServer
from playwright.sync_api import Page

__all__ = ["browser", "npm_client", "page"]

HERE = Path(__file__).parent
APP = HERE.parent / "apps" / "pages"
HTML = "<!doctype html><meta charset=utf-8><div id=root></div><script src=/hook.js></script>"
Open = Callable[..., "Hook"]


@pytest.fixture(scope="session")
def web(npm_client: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a page with React and `convex` bundled into it.

    It comes from a server of its own: what Playwright makes up itself may not connect to this machine.
    """
    if not (JS / "node_modules" / "react-dom" / "package.json").exists():
        install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save"]
        subprocess.run(install, cwd=JS, check=True, timeout=240)
    folder = tmp_path_factory.mktemp("web")
    (folder / "index.html").write_text(HTML)
    command = [str(JS / "node_modules" / ".bin" / "esbuild"), str(HERE / "page.jsx"), "--bundle"]
    command += ['--define:process.env.NODE_ENV="production"', "--log-level=warning"]
    command += [f"--outfile={folder / 'hook.js'}"]
    subprocess.run(command, check=True, env=os.environ | {"NODE_PATH": str(JS / "node_modules")}, timeout=60)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as files:
        threading.Thread(target=files.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{files.server_port}/index.html"
        files.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """What a browser fetched says nothing about a test."""


class PagesServer(DevServer):
    app = APP


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DevServer]:
    running = PagesServer(tmp_path / "data")
    running.start()
    try:
        yield running
    finally:
        running.kill()
        print(running.log)


@pytest.fixture
def proxy(server: DevServer) -> Iterator[CuttingProxy]:
    with cutting_proxy(server.port) as running:
        yield running


class Hook:
    """The list that one mounted `usePaginatedQuery` shows."""

    def __init__(self, page: Page, warnings: list[str]) -> None:
        self._page = page
        self.warnings = warnings

    @property
    def shown(self) -> list[dict[str, Any]]:
        """Every state that was ever shown, in order."""
        return self._page.evaluate("window.shown")

    def load_more(self, count: int) -> None:
        self._page.evaluate("count => window.loadMore(count)", count)

    def load_all(self) -> None:
        """Press until nothing is left to load; while it loads, a press does nothing."""
        self._page.wait_for_function(
            "() => (window.loadMore(50), window.shown.at(-1).status === 'Exhausted')", timeout=15_000
        )

    def wait_for(self, **wanted: object) -> None:
        """Until the newest state has these parts."""
        try:
            self._page.wait_for_function(
                "wanted => Object.entries(wanted).every(([name, value]) =>"
                " JSON.stringify(window.shown.at(-1)?.[name]) === JSON.stringify(value))",
                arg=wanted,
                timeout=15_000,
            )
        except Exception:
            print("shown at last:", self.shown[-1:], "warnings:", self.warnings)
            raise


@pytest.fixture
def hook(page: Page, web: str, server: DevServer) -> Open:
    """Mount the hook: a query, its arguments, the size of its first page, and the URL to connect to."""

    def mount(query: str, args: dict[str, Any], *, size: int, url: str | None = None) -> Hook:
        wanted = {"query": query, "args": args, "size": size, "url": url or server.url}
        warnings: list[str] = []
        page.on("console", lambda message: warnings.append(message.text))
        page.on("pageerror", lambda error: warnings.append(str(error)))
        page.goto(f"{web}#{quote(json.dumps(wanted))}")
        return Hook(page, warnings)

    return mount
