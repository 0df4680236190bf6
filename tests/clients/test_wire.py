"""h.35-h.37, h.45: what does a bare connection see, message by message?"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator

import pytest

from .probe import Probe, add, probe, remove, ts_of
from .server import DevServer


@pytest.fixture
def wire(server: DevServer) -> Iterator[Probe]:
    with probe(server.url) as opened:
        yield opened


def test_h35_versions_chain_and_timestamps_never_go_back(server: DevServer, wire: Probe) -> None:
    # The probe checks every Transition; here it is given many, of all kinds.
    with probe(server.url) as other:
        wire.modify(add(0, "counter:value", name="a"), add(1, "tasks:texts", listName="home"))
        wire.until("Transition")
        for number in range(20):
            other.mutate("counter:increment", name="a")
            other.mutate("tasks:add", listName="home", text=str(number))
            wire.mutate("counter:increment", name="b")
            wire.modify(add(number + 2, "counter:value", name="b"), remove(number + 1))
        last = other.done("counter:increment", name="a")
        wire.until_ts(last["ts"])
        while wire.version["querySet"] < wire.query_set:
            wire.receive()
    assert wire.results == {0: 21.0, 21: 20.0}


def test_h35_one_connection_never_sees_its_queries_apart(server: DevServer, wire: Probe) -> None:
    wire.modify(add(0, "counter:value", name="a"), add(1, "counter:value", name="b"))
    wire.until("Transition")
    with probe(server.url) as other:
        for amount in range(1, 31):
            other.mutate("counter:transfer", source="a", target="b", amount=amount)
        while wire.results[1] != 465:
            wire.until("Transition")
            assert wire.results[0] + wire.results[1] == 0


def test_h36_a_response_precedes_the_transition_that_covers_it(wire: Probe) -> None:
    wire.modify(add(0, "counter:value", name="c"))
    wire.until("Transition")
    requests = [wire.mutate("counter:increment", name="c") for _ in range(10)]
    answered: dict[int, str] = {}
    while wire.results[0] != 10 or len(answered) < 10:
        message = wire.receive()
        if message["type"] == "MutationResponse":
            assert message["success"] is True
            assert message["logLines"] == []
            assert ts_of(message["ts"]) > ts_of(wire.version["ts"])
            answered[message["requestId"]] = message["ts"]
    assert list(answered) == requests
    timestamps = [ts_of(ts) for ts in answered.values()]
    assert all(earlier < later for earlier, later in itertools.pairwise(timestamps))


def test_h36_a_mutation_that_writes_nothing_gets_its_transition_too(wire: Probe) -> None:
    wire.modify()
    wire.until("Transition")
    wire.mutate("echo:nothingWritten")
    response = wire.until("MutationResponse")
    transition = wire.until("Transition")
    assert ts_of(transition["endVersion"]["ts"]) >= ts_of(response["ts"])
    assert transition["modifications"] == []


def test_h36_a_transition_follows_an_action_response_and_covers_its_writes(wire: Probe) -> None:
    wire.modify(add(0, "tasks:texts", listName="home"))
    wire.until("Transition")
    wire.act("tasks:addThroughAction", listName="home", text="milk")
    response = wire.until("ActionResponse")
    assert response["success"] is True
    assert response["result"] == 1
    assert "ts" not in response
    while wire.results[0] != ["milk"]:
        wire.until("Transition")


def test_h36_a_failed_mutation_has_no_timestamp_and_no_error_data(wire: Probe) -> None:
    wire.mutate("failing:plainMutation")
    plain = wire.until("MutationResponse")
    assert plain["success"] is False
    assert plain["ts"] is None
    assert isinstance(plain["result"], str)
    assert "errorData" not in plain
    wire.mutate("failing:toldByMutation", data=None)
    told = wire.until("MutationResponse")
    assert told["errorData"] is None
    # PyPI's client settles a failure with data at the next Transition.
    wire.until("Transition")


def test_h37_an_empty_query_set_still_gets_its_transition(wire: Probe) -> None:
    wire.modify()
    transition = wire.until("Transition")
    assert transition["endVersion"]["querySet"] == 1
    assert transition["modifications"] == []
    wire.modify(add(0, "counter:value", name="c"))
    wire.until("Transition")
    wire.modify(remove(0))
    removed = wire.until("Transition")
    assert removed["modifications"] == [{"type": "QueryRemoved", "queryId": 0}]
    assert removed["endVersion"]["querySet"] == 3


def test_h37_an_anonymous_authenticate_advances_the_identity(wire: Probe) -> None:
    wire.send({"type": "Authenticate", "baseVersion": 0, "tokenType": "None"})
    assert wire.until("Transition")["endVersion"]["identity"] == 1


def test_h45_a_request_id_repeated_in_its_session_is_answered_from_the_record(server: DevServer) -> None:
    session = str(uuid.uuid4())
    answers = []
    for _ in range(2):
        opened = Probe(server.url)
        opened.session_id = session
        opened.hello()
        answers.append(opened.done("tasks:add", listName="home", text="once"))
        opened.close()
    assert answers[0] == answers[1]
    assert server.query("tasks:texts", listName="home") == ["once"]
