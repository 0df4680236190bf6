"""h.93: does plain `fetch` get what an application's own handlers say, on both ports?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import JsRun
from .server import DevServer


class KindsServer(DevServer):
    app = Path(__file__).parent.parent / "apps" / "kinds"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DevServer]:
    running = KindsServer(tmp_path / "data")
    running.start()
    yield running
    running.kill()
    print(running.log)


def test_h93_http_actions_answer_fetch_on_both_ports(server: DevServer, js: JsRun) -> None:
    js("http", "actions", site=server.site_url)
