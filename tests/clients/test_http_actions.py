"""h.93: does plain `fetch` get what an application's own handlers say, on both ports?"""

from __future__ import annotations

from .conftest import JsRun
from .server import APPS, DevServer

APP = APPS / "kinds"


def test_h93_http_actions_answer_fetch_on_both_ports(server: DevServer, js: JsRun) -> None:
    js("http", "actions", site=server.site_url)
