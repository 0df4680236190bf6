"""Does the browser module keep its side of the sync protocol?"""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Page

from .scripted_server import Peer, ScriptedServer, transition, ts, updated, version

pytestmark = pytest.mark.slow

START = version(0, 0)
# Named results go to `seen`, so that a test reads in one look what a listener was told, in order.
PRELUDE = """async () => {
  const module = await import("/reactivedb.js");
  Object.assign(window, module, { seen: [], states: [] });
  window.db = new module.ReactiveClient(location.origin);
  db.onConnectionState((state) => states.push(state.phase));
  window.watch = (name, path, args = {}) => db.subscribe(path, args,
    (value) => seen.push([name, value]), (error) => seen.push([name, error.message]));
  window.note = (name, promise) => void promise.then(
    (value) => seen.push([name, value]), (error) => seen.push([name, error.message, error.data]));
}"""


def open_client(page: Page, server: ScriptedServer) -> Peer:
    page.goto(server.url)
    page.evaluate(PRELUDE)
    return server.accept()


def begin(peer: Peer) -> dict[str, Any]:
    """Take the two messages that begin each connection; gives the query set's."""
    assert peer.receive()["type"] == "Connect"
    modify = peer.receive()
    assert modify["type"] == "ModifyQuerySet"
    return modify


def success(request_id: int, result: Any, number: int) -> dict[str, Any]:
    answer = {"type": "MutationResponse", "requestId": request_id, "success": True, "logLines": []}
    return {**answer, "result": result, "ts": ts(number)}


def failure(request_id: int, text: str) -> dict[str, Any]:
    answer = {
        "type": "MutationResponse",
        "requestId": request_id,
        "success": False,
        "logLines": ["[LOG] 'x'"],
    }
    return {**answer, "result": text, "ts": None}


def reconnect_now(page: Page, server: ScriptedServer) -> Peer:
    page.wait_for_function("states.at(-1) === 'waiting'")
    page.evaluate("dispatchEvent(new Event('online'))")
    return server.accept()


def seen(page: Page, count: int) -> list[list[Any]]:
    page.wait_for_function(f"seen.length >= {count}")
    return page.evaluate("seen")


def test_two_listeners_of_one_query_share_it(page: Page, server: ScriptedServer) -> None:
    peer = open_client(page, server)
    assert peer.path == "/api/sync"
    assert begin(peer)["modifications"] == []
    page.evaluate("""() => {
      window.stops = [watch("a", "m:f", { x: 1, y: 2n }), watch("b", "m:f", { y: 2n, x: 1 })];
    }""")
    modify = peer.receive()
    assert (modify["baseVersion"], modify["newVersion"]) == (1, 2)
    assert modify["modifications"] == [
        {"type": "Add", "queryId": 0, "udfPath": "m:f", "args": [{"x": 1, "y": {"$integer": "AgAAAAAAAAA="}}]}
    ]
    peer.send(transition(START, version(2, 7), updated(0, "hello")))
    assert seen(page, 2) == [["a", "hello"], ["b", "hello"]]
    page.evaluate("() => stops.forEach((stop) => stop())")
    assert peer.receive()["modifications"] == [{"type": "Remove", "queryId": 0}]


def test_a_late_listener_gets_the_result_that_is_there(page: Page, server: ScriptedServer) -> None:
    peer = open_client(page, server)
    begin(peer)
    page.evaluate('() => void watch("a", "m:f")')
    peer.receive()
    peer.send(transition(START, version(2, 7), updated(0, 1)))
    seen(page, 1)
    page.evaluate('() => void watch("b", "m:f")')
    assert seen(page, 2)[1] == ["b", 1]


def test_a_failed_query_is_told_with_its_data_and_recovers(page: Page, server: ScriptedServer) -> None:
    peer = open_client(page, server)
    begin(peer)
    page.evaluate('() => void watch("a", "m:f")')
    peer.receive()
    failed = {"type": "QueryFailed", "queryId": 0, "errorMessage": "no", "logLines": [], "journal": None}
    peer.send(transition(START, version(2, 7), failed))
    peer.send(transition(version(2, 7), version(2, 8), updated(0, "yes")))
    assert seen(page, 2) == [["a", "no"], ["a", "yes"]]


def test_a_mutation_resolves_when_a_transition_covers_it(page: Page, server: ScriptedServer) -> None:
    peer = open_client(page, server)
    begin(peer)
    page.evaluate('() => { watch("q", "m:f"); note("done", db.mutation("m:g", { x: 1 })); }')
    assert peer.receive()["type"] == "ModifyQuerySet"
    assert peer.receive() == {"type": "Mutation", "requestId": 0, "udfPath": "m:g", "args": [{"x": 1}]}
    peer.send(success(0, 5, 20))
    peer.send(transition(START, version(2, 19), updated(0, "before")))
    assert seen(page, 1) == [["q", "before"]]
    peer.send(transition(version(2, 19), version(2, 20), updated(0, "after")))
    assert seen(page, 3)[1:] == [["q", "after"], ["done", 5]]


def test_a_failed_mutation_rejects_at_once(page: Page, server: ScriptedServer) -> None:
    peer = open_client(page, server)
    begin(peer)
    page.evaluate('() => note("failed", db.mutation("m:g"))')
    peer.receive()
    answer = {"type": "MutationResponse", "requestId": 0, "success": False, "result": "no", "ts": None}
    peer.send(
        {
            **answer,
            "logLines": ["[LOG] 'x'"],
            "errorData": {"code": "Full", "n": {"$integer": "KgAAAAAAAAA="}},
        }
    )
    page.wait_for_function("seen.length === 1")
    assert page.evaluate("seen[0][2].code + ' ' + (seen[0][2].n === 42n)") == "Full true"


def test_an_optimistic_update_gives_way_to_the_truth_without_a_flicker(
    page: Page, server: ScriptedServer
) -> None:
    peer = open_client(page, server)
    begin(peer)
    page.evaluate('() => void watch("q", "m:list")')
    peer.receive()
    peer.send(transition(START, version(2, 5), updated(0, ["a"])))
    seen(page, 1)
    page.evaluate("""() => note("done", db.mutation("m:add", {}, {
      optimistic: (store) => store.set("m:list", {}, [...store.get("m:list"), "guess"]),
    }))""")
    peer.receive()
    peer.send(transition(version(2, 5), version(2, 6), updated(0, ["a", "b"])))
    peer.send(
        {
            "type": "MutationResponse",
            "requestId": 0,
            "success": True,
            "result": None,
            "ts": ts(7),
            "logLines": [],
        }
    )
    peer.send(transition(version(2, 6), version(2, 7), updated(0, ["a", "b", "c"])))
    assert seen(page, 5) == [
        ["q", ["a"]],
        ["q", ["a", "guess"]],
        ["q", ["a", "b", "guess"]],
        ["q", ["a", "b", "c"]],
        ["done", None],
    ]


def test_a_failed_mutation_takes_its_optimistic_update_back(page: Page, server: ScriptedServer) -> None:
    peer = open_client(page, server)
    begin(peer)
    page.evaluate('() => void watch("q", "m:count")')
    peer.receive()
    peer.send(transition(START, version(2, 5), updated(0, 1)))
    seen(page, 1)
    page.evaluate("""() => note("failed", db.mutation("m:add", {}, {
      optimistic: (store) => store.set("m:count", {}, store.get("m:count") + 1),
    }))""")
    peer.receive()
    peer.send(
        {
            "type": "MutationResponse",
            "requestId": 0,
            "success": False,
            "result": "no",
            "ts": None,
            "logLines": [],
        }
    )
    assert seen(page, 4) == [["q", 1], ["q", 2], ["q", 1], ["failed", "no", None]]


def test_after_a_cut_everything_unfinished_is_taken_up_again(page: Page, server: ScriptedServer) -> None:
    peer = open_client(page, server)
    connect = peer.receive()
    assert (connect["connectionCount"], connect["lastCloseReason"]) == (0, "InitialConnect")
    assert "maxObservedTimestamp" not in connect
    peer.receive()
    page.evaluate("""() => {
      watch("q", "m:f");
      note("cut", db.mutation("m:cut"));
      note("answered", db.mutation("m:answered"));
      note("action", db.action("m:act"));
    }""")
    for _ in range(4):
        peer.receive()
    peer.send(transition(START, version(2, 5), {**updated(0, 1), "journal": "j"}))
    answer = {
        "type": "MutationResponse",
        "requestId": 1,
        "success": True,
        "result": "ok",
        "ts": ts(9),
        "logLines": [],
    }
    peer.send(answer)
    seen(page, 1)
    peer.close("CommitterFullError")
    assert seen(page, 2)[1][:2] == ["action", "connection lost while action `m:act` ran"]
    page.evaluate('() => note("unsent", db.action("m:later"))')

    peer = reconnect_now(page, server)
    again = peer.receive()
    assert again["sessionId"] == connect["sessionId"]
    assert (again["connectionCount"], again["lastCloseReason"]) == (1, "CommitterFullError")
    assert again["maxObservedTimestamp"] == ts(9)
    modify = peer.receive()
    assert (modify["baseVersion"], modify["newVersion"]) == (0, 1)
    assert modify["modifications"] == [
        {"type": "Add", "queryId": 0, "udfPath": "m:f", "args": [{}], "journal": "j"}
    ]
    resent = [peer.receive() for _ in range(3)]
    assert [(r["type"], r["requestId"]) for r in resent] == [("Mutation", 0), ("Mutation", 1), ("Action", 3)]
    peer.send(success(0, "ok", 10))
    peer.send(success(1, "ok", 9))
    peer.send(transition(START, version(1, 10), updated(0, 2)))
    assert seen(page, 5)[2:] == [["q", 2], ["cut", "ok"], ["answered", "ok"]]


def test_an_auth_error_brings_the_client_back_as_nobody(page: Page, server: ScriptedServer) -> None:
    peer = open_client(page, server)
    begin(peer)
    page.evaluate('() => db.setAuth("bad", (why) => seen.push(["refused", why]))')
    assert peer.receive() == {"type": "Authenticate", "baseVersion": 0, "tokenType": "User", "value": "bad"}
    peer.send({"type": "AuthError", "error": "expired", "baseVersion": 0, "authUpdateAttempted": True})
    peer = reconnect_now(page, server)
    begin(peer)
    assert seen(page, 1) == [["refused", "expired"]]


def test_a_chunked_transition_is_put_together(page: Page, server: ScriptedServer) -> None:
    peer = open_client(page, server)
    begin(peer)
    page.evaluate('() => void watch("q", "m:f")')
    peer.receive()
    text = json.dumps(transition(START, version(2, 5), updated(0, "long")))
    for number, part in enumerate((text[:30], text[30:90], text[90:])):
        peer.send(
            {
                "type": "TransitionChunk",
                "transitionId": "t",
                "partNumber": number,
                "totalParts": 3,
                "chunk": part,
            }
        )
    assert seen(page, 1) == [["q", "long"]]


def test_a_version_that_does_not_fit_makes_a_new_connection(page: Page, server: ScriptedServer) -> None:
    peer = open_client(page, server)
    begin(peer)
    peer.send(transition(version(5, 5), version(6, 6)))
    peer.wait_closed()
    assert server.accept().receive()["lastCloseReason"] == "VersionMismatch"


def test_a_fatal_error_ends_the_client_for_good(page: Page, server: ScriptedServer) -> None:
    peer = open_client(page, server)
    begin(peer)
    page.evaluate('() => note("cut", db.mutation("m:g"))')
    peer.receive()
    peer.send({"type": "FatalError", "error": "bad client"})
    peer.wait_closed()
    page.evaluate("dispatchEvent(new Event('online'))")
    page.evaluate('() => note("late", db.mutation("m:g"))')
    assert [entry[:2] for entry in seen(page, 2)] == [
        ["cut", "`m:g` was given up: bad client"],
        ["late", "`m:g` was not sent: bad client"],
    ]
    assert page.evaluate("states.at(-1)") == "failed"
    assert not server.has_waiting_peer


def test_a_silent_server_is_left_after_a_minute(page: Page, server: ScriptedServer) -> None:
    page.clock.install()
    peer = open_client(page, server)
    begin(peer)
    page.wait_for_function("states.at(-1) === 'open'")
    page.clock.run_for(59_000)
    peer.send({"type": "Ping"})
    page.evaluate('() => note("answered", db.action("m:f"))')
    peer.receive()
    peer.send({"type": "ActionResponse", "requestId": 0, "success": True, "result": 1, "logLines": []})
    assert seen(page, 1) == [["answered", 1]]
    page.clock.run_for(59_000)
    assert page.evaluate("states.at(-1)") == "open"
    page.clock.run_for(2_000)
    peer.wait_closed()
    assert server.accept().receive()["lastCloseReason"] == "InactiveServer"


def test_closing_rejects_what_is_open(page: Page, server: ScriptedServer) -> None:
    peer = open_client(page, server)
    begin(peer)
    page.evaluate('() => { note("cut", db.mutation("m:g")); db.close(); }')
    assert seen(page, 1)[0][1] == "`m:g` was given up: the client was closed"
    peer.wait_closed()
    assert page.evaluate("states.at(-1)") == "closed"


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("-5n", {"$integer": "+/////////8="}),
        ("2n ** 63n - 1n", {"$integer": "/////////38="}),
        ("NaN", {"$float": "AAAAAAAA+H8="}),
        ("-Infinity", {"$float": "AAAAAAAA8P8="}),
        ("-0", {"$float": "AAAAAAAAAIA="}),
        ("new Uint8Array([0, 255, 16]).buffer", {"$bytes": "AP8Q"}),
        ("({ a: [1.5, null, { b: 'ü' }], gone: undefined })", {"a": [1.5, None, {"b": "ü"}]}),
    ],
)
def test_each_kind_of_value_survives_both_ways(
    page: Page, server: ScriptedServer, value: str, encoded: object
) -> None:
    page.goto(server.url)
    page.evaluate("async () => void Object.assign(window, await import('/reactivedb.js'))")
    assert page.evaluate(f"encodeValue({value})") == encoded
    assert page.evaluate(f"encodeValue(decodeValue(encodeValue({value})))") == encoded


@pytest.mark.parametrize("value", ["2n ** 63n", "[undefined]", "({ $x: 1 })", "new Map()", "() => 1"])
def test_what_cannot_be_stored_is_refused(page: Page, server: ScriptedServer, value: str) -> None:
    page.goto(server.url)
    page.evaluate("async () => void Object.assign(window, await import('/reactivedb.js'))")
    refused = page.evaluate(
        f"() => {{ try {{ encodeValue({value}) }} catch (error) {{ return error.message }} }}"
    )
    assert refused.startswith("value")
