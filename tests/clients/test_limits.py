"""h.11, h.86: does npm's client meet each limit at its default, with its name, and go on afterwards?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import StartsScript, running_server
from .server import APPS, DevServer

DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    with running_server(tmp_path_factory.mktemp("limits") / "data", app=APPS / "limits") as running:
        yield running


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
