"""h.40-h.42: do large results arrive, and do idle connections stay? Each of these takes its time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import JsRun, StartsScript, running_server
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


def large_answer(server: DevServer, **options: object) -> list[dict[str, Any]]:
    """All messages that bring a result of 12 MB, to its end."""
    seen: list[dict[str, Any]] = []
    with probe(server.url, **options) as wire:
        wire.modify(add(0, "big:text", megabytes=12))
        while not seen or (
            seen[-1]["type"] == "TransitionChunk" and seen[-1]["partNumber"] + 1 < seen[-1]["totalParts"]
        ):
            seen.append(json.loads(wire.socket.recv(20)))
    return seen


def test_h41_npm_gets_a_large_transition_in_chunks_without_a_gap(server: DevServer) -> None:
    chunks = large_answer(server)
    assert {chunk["type"] for chunk in chunks} == {"TransitionChunk"}
    assert [chunk["partNumber"] for chunk in chunks] == list(range(chunks[0]["totalParts"]))
    assert len({(chunk["transitionId"], chunk["totalParts"]) for chunk in chunks}) == 1
    whole = json.loads("".join(chunk["chunk"] for chunk in chunks))
    assert whole["type"] == "Transition"
    assert sum(map(len, whole["modifications"][0]["value"])) == 12_000_000


def test_h41_pypi_which_knows_no_chunks_gets_none(server: DevServer) -> None:
    (whole,) = large_answer(server, path="/api/sync", headers={"Convex-Client": "python-0.8.1"})
    assert whole["type"] == "Transition"
    assert sum(map(len, whole["modifications"][0]["value"])) == 12_000_000


def test_h41_a_result_that_grows_past_a_chunk_reaches_npm(js: JsRun) -> None:
    js("large", "growing")


def test_h41_twelve_megabytes_reach_pypi_and_more_fails_cleanly(
    pypi: StartsScript, server: DevServer
) -> None:
    pypi("calls", "large", server.url).finish(timeout_s=60)


@pytest.mark.parametrize("agreed", [False, True])
def test_h42_npm_works_with_and_without_compression(
    node: StartsScript, server: DevServer, tmp_path: Path, agreed: bool
) -> None:
    if not agreed:
        node("large", "compression", server.url, agreed=False).finish(timeout_s=60)
        return
    with running_server(tmp_path / "compressing", "--compression") as compressing:
        node("large", "compression", compressing.url, agreed=True).finish(timeout_s=60)


def test_h42_npm_works_without_offering_compression(node: StartsScript, server: DevServer) -> None:
    node("large", "withoutCompression", server.url).finish(timeout_s=60)
