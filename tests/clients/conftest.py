"""What does an acceptance test get? A server of its own, scripts for both clients, a cutting proxy."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from .proxy import CuttingProxy, cutting_proxy
from .script import Script
from .server import CONFORMANCE, DevServer

JS = Path(__file__).parent / "js"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Each of them starts a server and most a client process: none keeps within a quarter of a second.
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@contextlib.contextmanager
def running_server(data: Path, *options: str, app: Path = CONFORMANCE) -> Iterator[DevServer]:
    server = DevServer(data, *options, app=app)
    server.start()
    try:
        yield server
    finally:
        # Tests that care how a server ends do it themselves; here nothing of it is needed any more.
        server.kill()
        print(server.log)  # pytest shows it beside a failure


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DevServer]:
    """One of the module's `APP`, or of the conformance application."""
    with running_server(tmp_path / "data", app=getattr(request.module, "APP", CONFORMANCE)) as running:
        yield running


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """One server for a module whose tests write under names of their own: a start takes over a second."""
    with running_server(tmp_path_factory.mktemp("shared") / "data") as running:
        yield running


@pytest.fixture
def proxy(server: DevServer) -> Iterator[CuttingProxy]:
    with cutting_proxy(server.port) as running:
        yield running


class StartsScript(Protocol):
    def __call__(self, topic: str, case: str, url: str, **params: object) -> Script: ...


def _starts(language: str) -> Iterator[StartsScript]:
    started: list[Script] = []

    def start(topic: str, case: str, url: str, **params: object) -> Script:
        script = Script(language, topic, case, url, **params)
        started.append(script)
        return script

    yield start
    for script in started:
        script.end()


@pytest.fixture(scope="session")
def npm_client() -> None:
    """`npm ci`, once, if nobody has done it yet in this clone."""
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    with (JS / "package.json").open() as lock:
        # Parallel test workers come here together, and two `npm ci` would delete each other's files.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (JS / "node_modules" / "convex" / "package.json").exists():
            subprocess.run(command, cwd=JS, check=True, timeout=240)


@pytest.fixture
def node(npm_client: None) -> Iterator[StartsScript]:
    """Start a case that uses npm's `convex`."""
    yield from _starts("js")


@pytest.fixture
def pypi() -> Iterator[StartsScript]:
    """Start a case that uses PyPI's `convex`."""
    yield from _starts("py")


JsRun = Callable[..., None]


@pytest.fixture
def js(node: StartsScript, server: DevServer) -> JsRun:
    """Run one case of npm's client against the test's server to its end."""

    def run(topic: str, case: str, **params: object) -> None:
        node(topic, case, server.url, **params).finish()

    return run


@pytest.fixture
def py(pypi: StartsScript, server: DevServer) -> JsRun:
    """The same with PyPI's client."""

    def run(topic: str, case: str, **params: object) -> None:
        pypi(topic, case, server.url, **params).finish()

    return run
