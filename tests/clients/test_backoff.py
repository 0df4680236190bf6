"""h.52: after a close by name npm's client waits as long as the name says, and comes back whole."""

from __future__ import annotations

from .conftest import StartsScript
from .proxy import CuttingProxy
from .server import APPS, DevServer

APP = APPS / "crowded"


def reasons(proxy: CuttingProxy) -> list[str]:
    return [passed.message["lastCloseReason"].split(":")[0] for passed in proxy.of_type("Connect")]


def test_h52_too_many_requests_keep_the_client_away_for_three_seconds_or_so(
    node: StartsScript, server: DevServer, proxy: CuttingProxy
) -> None:
    script = node("backoff", "overload", proxy.url)
    script.hear("away")
    server.mutation("work:increment")
    script.finish()
    assert reasons(proxy) == ["InitialConnect", "TooManyConcurrentRequests"]


def test_h52_an_internal_error_keeps_the_client_away_for_a_second_or_so(
    node: StartsScript, server: DevServer, proxy: CuttingProxy
) -> None:
    script = node("backoff", "accident", proxy.url)
    script.hear("following")
    proxy.close_clients(1011, "InternalServerError")
    script.hear("away")
    server.mutation("work:increment")
    script.finish()
    assert reasons(proxy) == ["InitialConnect", "InternalServerError"]
