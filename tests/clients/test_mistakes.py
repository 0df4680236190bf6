"""h.38, h.39, h.43, h.62: what does a connection get that errs, or that speaks a newer dialect?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .probe import Message, Probe, add, probe
from .server import DevServer


@pytest.fixture
def server(shared_server: DevServer) -> DevServer:
    return shared_server


@pytest.fixture
def wire(server: DevServer) -> Iterator[Probe]:
    with probe(server.url) as opened:
        yield opened


WRONG: dict[str, str | Message] = {
    "query set version": {"type": "ModifyQuerySet", "baseVersion": 7, "newVersion": 8, "modifications": []},
    "no advance": {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 0, "modifications": []},
    "identity version": {"type": "Authenticate", "baseVersion": 3, "tokenType": "None"},
    "malformed JSON": '{"type": "Mut',
    "no object": "[]",
    "no type": "{}",
    "unknown type": {"type": "Telepathy"},
    "missing field": {"type": "Mutation", "requestId": 0, "args": [{}]},
    "wrong field": {"type": "Mutation", "requestId": "zero", "udfPath": "counter:increment", "args": [{}]},
    "duplicate query": {
        "type": "ModifyQuerySet",
        "baseVersion": 0,
        "newVersion": 1,
        "modifications": [add(0, "echo:nothing"), add(0, "echo:nothing")],
    },
    "deep nesting": "[" * 100_000,
}


@pytest.mark.parametrize("mistake", WRONG)
def test_h38_a_clients_mistake_is_fatal_for_that_connection_alone(
    server: DevServer, wire: Probe, mistake: str
) -> None:
    with probe(server.url) as other:
        other.modify(add(0, "counter:value", name=mistake))
        other.until("Transition")
        wire.send(WRONG[mistake])
        seen, code = wire.until_closed()
        assert seen, f"closed with {code} and no word"
        assert seen[-1]["type"] == "FatalError", seen
        assert isinstance(seen[-1]["error"], str)
        assert code is not None
        other.done("counter:increment", name=mistake)
        assert other.results == {0: 1.0}


def test_h38_a_binary_frame_is_fatal(server: DevServer, wire: Probe) -> None:
    wire.socket.send(b"\x00\x01")
    seen, _ = wire.until_closed()
    assert seen[-1]["type"] == "FatalError"
    assert server.query("counter:value", name="c") == 0


def test_h39_unknown_events_and_fields_are_ignored(wire: Probe) -> None:
    wire.send({"type": "Event", "eventType": "ClientConnect", "event": {"marks": []}})
    wire.send({"type": "Event", "eventType": "SomethingNew", "event": None, "extra": [1]})
    wire.send(
        {
            "type": "ModifyQuerySet",
            "baseVersion": 0,
            "newVersion": 1,
            "extra": {"deep": [None]},
            "modifications": [
                {**add(0, "counter:value", name="dialect"), "journal": None, "componentPath": "", "new": 1}
            ],
        }
    )
    wire.until("Transition")
    assert wire.results == {0: 0.0}
    wire.send(
        {
            "type": "Mutation",
            "requestId": 0,
            "udfPath": "counter.js:increment",
            "args": [{"name": "dialect"}],
            "componentPath": "",
            "extra": True,
        }
    )
    assert wire.until("MutationResponse")["result"] == 1


@pytest.mark.parametrize("path", ["/api/sync", "/api/9.9.9/sync", "/api/1.48.0/sync", "//api/1.48.0/sync"])
def test_h43_the_socket_answers_on_every_version_of_its_path(server: DevServer, path: str) -> None:
    with probe(server.url, path=path, headers={"Convex-Client": "python-0.8.1"}) as wire:
        assert wire.done("counter:increment", name=path)["result"] == 1


@pytest.mark.parametrize("kind", ["query", "mutation", "action"])
def test_h62_an_internal_function_is_answered_like_a_missing_one(
    server: DevServer, wire: Probe, kind: str
) -> None:
    name = {"query": "secret", "mutation": "secretMutation", "action": "secretAction"}[kind]

    def over_http(path: str) -> str:
        answer = server.request(kind, path).json()
        assert answer["status"] == "error"
        return answer["errorMessage"]

    def over_socket(path: str) -> str:
        if kind == "query":
            wire.modify(add(wire.query_set, path))
            return wire.until("Transition")["modifications"][0]["errorMessage"]
        (wire.mutate if kind == "mutation" else wire.act)(path)
        return wire.until("MutationResponse", "ActionResponse")["result"]

    for told in (over_http, over_socket):
        hidden, missing = told(f"hidden:{name}"), told("hidden:noSuchThing")
        assert "ould not find public function" in hidden
        # The same words but for the name; a request id, if there is one, differs between any two calls.
        assert hidden.splitlines()[-1].replace(name, "X") == missing.splitlines()[-1].replace(
            "noSuchThing", "X"
        )
    assert server.query("hidden:throughQuery") == "internal"
