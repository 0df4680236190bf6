"""h.104, h.105: does PyPI's `convex` work as its documentation says?"""

from __future__ import annotations

import pytest

from .conftest import JsRun
from .server import DevServer


@pytest.mark.parametrize(
    "case",
    [
        "calls",
        "subscription",
        "async_subscription",
        "errors",
        "failing_subscription",
        "http_client",
    ],
)
def test_h104_pypi_client(py: JsRun, case: str) -> None:
    py("calls", case)


def test_h104_pypi_client_with_the_admin_key_reaches_internal_functions(py: JsRun, server: DevServer) -> None:
    py("calls", "admin", key=server.admin_key)


def test_h105_pypi_reads_its_own_writes(py: JsRun) -> None:
    py("calls", "own_writes")
