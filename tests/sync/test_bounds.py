"""What does a connection get that asks for too much? A failure of the one query, or a close by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from reactivedb.functions import Identity
from reactivedb.limits import DEFAULT_LIMITS
from reactivedb.sync import ClientKind, Session

from .test_session import RecordingTransport, kinds, running

pytestmark = pytest.mark.anyio

BACK_OFF = "TooManyConcurrentRequests"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def closing_of(transport: RecordingTransport) -> tuple[int, str]:
    assert transport.closed_with is not None
    code, reason = transport.closed_with
    assert len(reason.encode()) <= 123
    return code, reason.split(":")[0]


def add(query_id: int, room: str = "a", path: str = "notes:texts") -> dict[str, Any]:
    return {"type": "Add", "queryId": query_id, "udfPath": path, "args": [{"room": room}]}


def remove(query_id: int) -> dict[str, Any]:
    return {"type": "Remove", "queryId": query_id}


async def test_one_query_too_many_fails_alone_and_there_is_room_again_after_a_removal() -> None:
    async with running(queries_per_client_max=2) as connect:
        peer = connect()
        peer.modify(*map(add, range(3)))
        [transition] = await peer.settled()
        told = {change["queryId"]: change for change in transition["modifications"]}
        assert [told[number]["type"] for number in range(3)] == ["QueryUpdated"] * 2 + ["QueryFailed"]
        assert told[2]["errorMessage"].startswith("TooManyQueries: `queries_per_client_max` is 2")
        peer.modify(remove(0), remove(2), add(3))
        [transition] = await peer.settled()
        assert [change["type"] for change in transition["modifications"]] == [
            "QueryRemoved",
            "QueryRemoved",
            "QueryUpdated",
        ]
        peer.session.closed()
        assert peer.runtime.admission.held["queries"] == 0


async def test_the_servers_last_query_is_taken_and_who_wants_another_comes_back_later() -> None:
    async with running(queries_max=2) as connect:
        first, second = connect(session_id="1"), connect(session_id="2")
        first.modify(add(0), add(1))
        second.modify(add(0))
        assert closing_of(second.transport) == (1013, "SubscriptionsWorkerFullError")
        assert len((await first.settled())[0]["modifications"]) == 2
        first.session.closed()
        third = connect(session_id="3")
        third.modify(add(0))
        assert len((await third.settled())[0]["modifications"]) == 1


async def test_failing_queries_are_bounded_too() -> None:
    async with running(queries_per_client_max=10) as connect:
        peer = connect()
        peer.modify(*(add(number, path="no path!") for number in range(11)))
        assert closing_of(peer.transport) == (1013, BACK_OFF)


async def test_who_takes_nothing_cannot_pile_up_removals() -> None:
    async with running(queries_per_client_max=10) as connect:
        peer = connect()
        peer.transport.writable = False
        while peer.transport.closed_with is None:
            peer.modify(add(0))
            peer.modify(remove(0))
        assert peer.query_set_version <= 100
        assert closing_of(peer.transport) == (1013, BACK_OFF)
        assert peer.runtime.admission.refusals == {"queries_per_client_max": 1}


@pytest.mark.parametrize("limit", ["pending_mutations_max", "requests_max"])
async def test_more_mutations_than_may_wait_close_with_the_word_that_makes_clients_wait(limit: str) -> None:
    async with running(**{limit: 2}) as connect:
        peer = connect()
        for number in range(4):
            peer.mutate(number, room="a", text="x")
        assert closing_of(peer.transport) == (1013, BACK_OFF)
        assert peer.runtime.admission.refusals == {limit: 1}
        await peer.settled()
        assert peer.runtime.admission.held["requests"] == 0


async def test_actions_that_run_on_are_counted_after_their_connection_has_gone() -> None:
    async with running(requests_max=2, running_actions_max=1) as connect:
        peer = connect(session_id="one")
        for number in range(2):
            peer.tell(type="Action", requestId=number, udfPath="notes:shout", args=[{"text": "hi"}])
        assert closing_of(peer.transport) == (1013, BACK_OFF)
        assert peer.runtime.admission.refusals == {"running_actions_max": 1}
        assert peer.runtime.admission.held["requests"] == 1
        other = connect(session_id="other")
        other.tell(type="Action", requestId=0, udfPath="notes:shout", args=[{"text": "hi"}])
        await other.settled()
        assert peer.runtime.admission.held["requests"] == 0


async def test_what_waits_for_an_answer_is_bounded_in_bytes() -> None:
    async with running(held_size_bytes_max=1_000) as connect:
        peer = connect()
        for _ in range(2):
            peer.tell(type="Action", requestId=0, udfPath="notes:shout", args=[{"text": "x" * 600}])
        assert closing_of(peer.transport) == (1013, BACK_OFF)
        assert peer.runtime.admission.refusals == {"held_size_bytes_max": 1}


async def test_arguments_of_followed_queries_are_held_and_given_back() -> None:
    async with running(held_size_bytes_max=1_000) as connect:
        peer = connect()
        peer.modify(add(0, "x" * 600))
        held = peer.runtime.admission.held
        assert held["held_size_bytes"] > 600
        peer.modify(add(1, "y" * 600))
        assert closing_of(peer.transport) == (1013, BACK_OFF)
        assert peer.runtime.admission.held["held_size_bytes"] == 0


async def test_one_user_has_one_share_on_however_many_sockets() -> None:
    async with running(sockets_per_identity_max=2, requests_per_identity_max=1) as connect:
        runtime = connect(session_id="first").runtime

        def signed_in(name: str) -> tuple[Session, RecordingTransport]:
            transport = RecordingTransport()
            caller = runtime.admission.connect(None)
            return Session(runtime, transport, client=ClientKind.CHUNKS, caller=caller), transport

        sockets = [signed_in(str(number)) for number in range(3)]
        user = {"issuer": "i", "subject": "ada"}
        for number, (session, _) in enumerate(sockets):
            session.receive(f'{{"type":"Connect","sessionId":"s{number}"}}')
            session.identified(identity_of(user))
        assert closing_of(sockets[2][1]) == (1013, BACK_OFF)
        assert runtime.admission.refusals == {"sockets_per_identity_max": 1}
        assert all(transport.closed_with is None for _, transport in sockets[:2])


def identity_of(attributes: dict[str, str]) -> Any:
    """What a verified token gives: a user who is no administrator."""
    return replace(Identity.acting_as(attributes), is_admin=False)


async def test_who_never_says_connect_is_closed() -> None:
    async with running(ping_interval_s=0.01) as connect:
        transport = RecordingTransport()
        silent = Session(connect().runtime, transport, client=ClientKind.CHUNKS)
        with anyio.fail_after(5):
            while transport.closed_with is None:
                await anyio.lowlevel.checkpoint()
        assert transport.closed_with == (1000, "NotConnected")
        assert "Ping" not in kinds(transport.messages)
        silent.closed()


VERSION_MAX = 2**32 - 1


@pytest.mark.parametrize("version", [VERSION_MAX + 1, 2**64, 1e300, -1, 0.5, "1", None, True])
async def test_versions_end_at_two_to_the_32(version: object) -> None:
    async with running() as connect:
        peer = connect()
        peer.tell(type="ModifyQuerySet", baseVersion=0, newVersion=version, modifications=[])
        assert kinds(peer.transport.messages) == ["FatalError"]


async def test_the_last_version_works_and_there_is_none_behind_it() -> None:
    async with running() as connect:
        peer = connect()
        peer.tell(
            type="ModifyQuerySet", baseVersion=0, newVersion=VERSION_MAX, modifications=[add(VERSION_MAX)]
        )
        [transition] = await peer.settled()
        assert transition["endVersion"]["querySet"] == VERSION_MAX
        assert transition["modifications"][0]["queryId"] == VERSION_MAX
        peer.tell(type="ModifyQuerySet", baseVersion=VERSION_MAX, newVersion=0, modifications=[])
        assert kinds(peer.transport.messages) == ["FatalError"]


async def test_a_query_id_may_be_used_again_once_it_is_free() -> None:
    async with running() as connect:
        peer = connect()
        peer.mutate(0, room="b", text="hi")
        peer.modify(add(1))
        await peer.settled()
        peer.modify(remove(1), add(1, "b"))
        [transition] = await peer.settled()
        assert [(change["type"], change.get("value")) for change in transition["modifications"]] == [
            ("QueryRemoved", None),
            ("QueryUpdated", ["hi"]),
        ]
        peer.modify(add(1))
        assert kinds(peer.transport.messages) == ["FatalError"]


async def test_the_defaults_leave_a_client_more_than_it_needs_and_each_share_more_than_the_one_inside() -> (
    None
):
    limits = DEFAULT_LIMITS
    for name in ("sockets", "queries", "requests", "held_size_bytes"):
        shares = [
            getattr(limits, f"{name}{scope}_max", 1)
            for scope in ("_per_client", "_per_identity", "_per_address", "")
        ]
        assert shares == sorted(shares)
    assert limits.held_size_bytes_per_client_max > 2 * limits.message_size_bytes_max


async def test_a_large_transition_waits_for_room_and_tells_the_newest_state_then() -> None:
    async with running(held_size_bytes_max=200_000) as connect:
        peer, other = connect(session_id="one"), connect(session_id="other")
        other.mutate(0, room="a", text="x" * 100_000)
        await other.settled()
        caller = peer.runtime.admission.connect(None)
        unsent = peer.runtime.relief.unsent(caller, lambda: None)
        unsent.is_now(150_000)
        peer.follow(0, room="a")
        assert kinds(await peer.settled()) == []
        other.mutate(1, room="a", text="the newest")
        assert kinds(await peer.settled()) == []
        unsent.is_now(0)
        await anyio.lowlevel.checkpoint()
        [transition] = await peer.settled()
        [change] = transition["modifications"]
        assert [len(change["value"][0]), change["value"][1]] == [100_000, "the newest"]
        assert peer.runtime.admission.held["held_size_bytes"] < 1_000
        caller.leave()


async def test_the_promise_of_a_client_that_leaves_is_given_back() -> None:
    async with running() as connect:
        peer = connect()
        peer.mutate(0, room="a", text="x" * 100_000)
        await peer.settled()
        peer.follow(0, room="a")
        with peer.runtime.engine.lock:
            peer.runtime.cache.refresh()
            publish = peer.session.prepare(peer.runtime.engine.committer.applied_ts)
        assert publish is not None
        assert peer.runtime.admission.held["held_size_bytes"] > 100_000
        peer.session.closed()
        assert peer.runtime.admission.held["held_size_bytes"] == 0
        publish(None)
        assert peer.runtime.admission.held["held_size_bytes"] == 0


async def test_an_actions_arguments_count_as_what_they_take_decoded() -> None:
    async with running() as connect:
        peer = connect()
        peer.tell(type="Action", requestId=0, udfPath="notes:shout", args=[{"text": "x" * 20_000}])
        assert 40_000 < peer.runtime.admission.held["held_size_bytes"] < 42_000
        peer.tell(type="Action", requestId=1, udfPath="notes:shout", args=[{"text": "a,b:" * 5_000}])
        assert peer.runtime.admission.held["held_size_bytes"] > 800_000
        await peer.settled()
        assert peer.runtime.admission.held["held_size_bytes"] == 0


async def test_an_action_whose_arguments_could_never_be_held_fails_and_its_connection_stays() -> None:
    async with running(held_size_bytes_per_client_max=50_000) as connect:
        peer = connect()
        peer.tell(type="Action", requestId=0, udfPath="notes:shout", args=[{"text": [[]] * 1_000}])
        [answer, _] = await peer.settled()
        assert (answer["type"], answer["success"]) == ("ActionResponse", False)
        assert "ArgumentsTooLarge" in answer["result"]
        assert peer.transport.closed_with is None
        peer.tell(type="Action", requestId=1, udfPath="notes:shout", args=[{"text": "hi"}])
        assert [message.get("result") for message in await peer.settled()].count("HI") == 1
