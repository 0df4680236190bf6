"""h.11, h.86: does npm's client meet each limit at its default, with its name, and go on afterwards?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import StartsScript
from .server import DevServer

DEADLINE_S = 120.0


class LimitsServer(DevServer):
    app = Path(__file__).parent.parent / "apps" / "limits"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    running = LimitsServer(tmp_path_factory.mktemp("limits") / "data")
    running.start()
    try:
        yield running
    finally:
        running.kill()
        print(running.log)


def run(node: StartsScript, server: DevServer, case: str) -> None:
    node("limits", case, server.url).finish(timeout_s=DEADLINE_S)


def test_h11_values_and_documents_have_bounds(node: StartsScript, server: DevServer) -> None:
    run(node, server, "values")


def test_h86_reading_has_limits(node: StartsScript, server: DevServer) -> None:
    run(node, server, "reading")


def test_h86_writing_has_limits(node: StartsScript, server: DevServer) -> None:
    run(node, server, "writing")


def test_h86_scheduling_has_limits(node: StartsScript, server: DevServer) -> None:
    run(node, server, "scheduling")


def test_h86_calls_have_limits(node: StartsScript, server: DevServer) -> None:
    run(node, server, "calling")


def test_h86_time_has_a_limit(node: StartsScript, shared_server: DevServer) -> None:
    run(node, shared_server, "time")


def test_h86_log_lines_have_limits(node: StartsScript, server: DevServer) -> None:
    run(node, server, "logging")
