"""h.44-h.51: what survives a lost connection and a restarted server? Everything that was promised."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from .conftest import StartsScript
from .probe import ts_of
from .proxy import CuttingProxy, Passed
from .server import DevServer

EXIT_CODES = {"stop": 0, "kill": -signal.SIGKILL}


def greatest_ts(passed: list[Passed]) -> int:
    """The greatest timestamp that these messages showed to the client."""
    shown = [p.message["endVersion"]["ts"] for p in passed if p.type == "Transition"]
    shown += [p.message["ts"] for p in passed if p.type == "MutationResponse" and p.message["ts"]]
    return max(map(ts_of, shown))


def test_h44_h50_after_a_cut_the_same_session_sees_what_it_missed(
    node: StartsScript, server: DevServer, proxy: CuttingProxy
) -> None:
    script = node("reconnect", "missedWrites", proxy.url)
    script.hear("watching")
    proxy.shut_gate()
    proxy.cut()
    for _ in range(7):
        server.mutation("counter:increment", name="a")
    proxy.open_gate()
    session_id = script.hear("sessionId")["sessionId"]
    script.finish()
    hellos = [passed.message for passed in proxy.of_type("Connect")]
    assert [hello["sessionId"] for hello in hellos] == [session_id] * 2
    assert [hello["connectionCount"] for hello in hellos] == [0, 1]


def run_cut_mutation(
    node: StartsScript, server: DevServer, proxy: CuttingProxy, between: Callable[[], None]
) -> None:
    """The script's mutation meets an armed cut; `between` runs while the client waits to come back."""
    script = node("reconnect", "mutationCut", proxy.url)
    script.hear("watching")
    script.tell("go on")
    proxy.wait_for(lambda: any(not passed.delivered for passed in proxy.transcript))
    proxy.shut_gate()
    between()
    proxy.open_gate()
    task_id = script.hear("result")["id"]
    script.finish()
    documents = server.query("tasks:allOf", listName="home")
    assert [(document["_id"], document["text"]) for document in documents] == [(task_id, "once")]


def assert_original_answer(proxy: CuttingProxy) -> None:
    lost, repeated = proxy.of_type("MutationResponse")
    assert (lost.delivered, repeated.delivered) == (False, True)
    assert repeated.message == lost.message


def test_h45_a_cut_after_the_commit_gets_the_original_answer(
    node: StartsScript, server: DevServer, proxy: CuttingProxy
) -> None:
    proxy.cut_before("server", type="MutationResponse")
    run_cut_mutation(node, server, proxy, between=lambda: None)
    assert_original_answer(proxy)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_h46_the_original_answer_outlives_a_restart_of_the_server(
    node: StartsScript, server: DevServer, proxy: CuttingProxy, end: str
) -> None:
    def restart() -> None:
        assert getattr(server, end)() == EXIT_CODES[end]
        server.start()

    proxy.cut_before("server", type="MutationResponse")
    run_cut_mutation(node, server, proxy, between=restart)
    assert_original_answer(proxy)


def test_h47_a_cut_before_the_commit_applies_the_mutation_once_later(
    node: StartsScript, server: DevServer, proxy: CuttingProxy
) -> None:
    def nothing_yet() -> None:
        assert server.query("tasks:texts", listName="home") == []

    proxy.cut_before("client", type="Mutation")
    run_cut_mutation(node, server, proxy, between=nothing_yet)
    assert len(proxy.of_type("MutationResponse")) == 1


def test_h48_an_action_in_flight_is_rejected_and_a_mutation_behind_it_still_runs(
    node: StartsScript, server: DevServer, proxy: CuttingProxy
) -> None:
    script = node("reconnect", "actionCut", proxy.url)
    script.hear("acting")
    proxy.wait_for(lambda: bool(proxy.of_type("Action")))
    # The connection ends with the mutation on its way.
    proxy.cut_before("client", type="Mutation")
    script.tell("go on")
    script.hear("queued")
    script.finish()
    assert server.query("counter:value", name="c") == 1
    assert len(proxy.of_type("Action")) == 1


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_h49_a_restarted_server_accepts_the_timestamps_it_gave_and_goes_on_above(
    node: StartsScript, server: DevServer, proxy: CuttingProxy, end: str
) -> None:
    script = node("reconnect", "serverRestart", proxy.url)
    script.hear("written")
    proxy.shut_gate()
    getattr(server, end)()
    before = list(proxy.transcript)
    server.start()
    proxy.open_gate()
    script.tell("go on")
    script.hear("written")
    script.finish()
    after = proxy.transcript[len(before) :]
    observed = next(passed.message["maxObservedTimestamp"] for passed in after if passed.type == "Connect")
    assert ts_of(observed) == greatest_ts(before)
    written = next(passed.message["ts"] for passed in after if passed.type == "MutationResponse")
    assert ts_of(written) > greatest_ts(before)
    for passed in after:
        if passed.type == "Transition":
            assert ts_of(passed.message["endVersion"]["ts"]) >= ts_of(observed)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_h51_pypi_subscriptions_go_on_after_a_restart(
    pypi: StartsScript, server: DevServer, end: str
) -> None:
    script = pypi("calls", "server_restart", server.url)
    script.hear("watching")
    getattr(server, end)()
    server.start()
    server.mutation("counter:increment", name="c", by=5)
    server.mutation("tasks:add", listName="home", text="milk")
    script.finish(timeout_s=40)
