"""h.40-h.42: do large results arrive, and do idle connections stay? Each of these takes its time."""

from __future__ import annotations

import json
import time

from .conftest import JsRun, StartsScript
from .probe import add, probe
from .server import DevServer

NPM_IDLE_S = 130.0
PYPI_IDLE_S = 70.0
PING_WITHIN_S = 16.0


def test_h40_idle_connections_are_pinged_and_stay(
    node: StartsScript, pypi: StartsScript, server: DevServer
) -> None:
    npm_client = node("large", "idle", server.url)
    pypi_client = pypi("calls", "idle", server.url)
    npm_client.hear("idle")
    pypi_client.hear("idle")
    started = time.monotonic()
    with probe(server.url) as wire:
        wire.modify(add(0, "counter:value", name="nobody's"))
        wire.until("Transition")

        def only_pings_until(idle_s: float) -> None:
            # The raw connection is the clock: nothing but Ping may come, and each in time.
            while time.monotonic() - started < idle_s:
                assert json.loads(wire.socket.recv(PING_WITHIN_S)) == {"type": "Ping"}

        only_pings_until(PYPI_IDLE_S)
        server.mutation("counter:increment", name="pypi")
        pypi_client.tell("go on")
        pypi_client.finish()
        only_pings_until(NPM_IDLE_S)
    server.mutation("counter:increment", name="npm")
    npm_client.tell("go on")
    npm_client.finish()


def test_h41_twelve_megabytes_reach_npm(node: StartsScript, server: DevServer) -> None:
    node("large", "twelveMegabytes", server.url).finish(timeout_s=60)


def test_h41_a_result_that_grows_past_a_chunk_reaches_npm(js: JsRun) -> None:
    js("large", "growing")


def test_h41_twelve_megabytes_reach_pypi_and_more_fails_cleanly(
    pypi: StartsScript, server: DevServer
) -> None:
    pypi("calls", "large", server.url).finish(timeout_s=60)


def test_h42_npm_works_without_offering_compression(node: StartsScript, server: DevServer) -> None:
    node("large", "withoutCompression", server.url).finish(timeout_s=60)
