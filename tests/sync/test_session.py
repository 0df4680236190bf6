"""What does one connection send, and in which order? Without a socket: messages in, messages out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from inline_app import FlakyStorage, app_of

import reactivedb as rdb
from reactivedb.app import Runtime
from reactivedb.functions import log_lines
from reactivedb.protocol import decode_ts
from reactivedb.sync import ClientKind, Session
from reactivedb.testing import FakeClock


class Line(rdb.Document, table="lines"):
    room: str
    text: str

    by_room = rdb.Index("room")


@rdb.mutation
def say(ctx: rdb.MutationCtx, room: str, text: str) -> float:
    print("said", text)
    ctx.db.insert(Line(room=room, text=text))
    return float(ctx.db.query(Line).count())


@rdb.mutation
def refuse(ctx: rdb.MutationCtx) -> None:
    ctx.db.insert(Line(room="a", text="never"))
    raise rdb.ApplicationError({"code": "No"})


@rdb.query
def texts(ctx: rdb.QueryCtx, room: str) -> list[str]:
    return [line.text for line in ctx.db.query(Line.by_room.eq(room))]


@rdb.query
def whoami(ctx: rdb.QueryCtx) -> str | None:
    user = ctx.auth.get_user_identity()
    return user.subject if user else None


@rdb.action
async def shout(ctx: rdb.ActionCtx, text: str) -> str:
    return text.upper()


class RecordingTransport:
    """A peer that keeps what it is sent."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.closed_with: tuple[int, str] | None = None
        self.writable = True

    def send(self, parts: Sequence[bytes]) -> None:
        assert self.closed_with is None, "sent after the close"
        self.texts.append(b"".join(parts))

    def close(self, code: int, reason: str) -> None:
        self.closed_with = (code, reason)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts]

    def take(self) -> list[dict[str, Any]]:
        messages = self.messages
        self.texts.clear()
        return messages


class Peer:
    """A client of a runtime: it says what the official ones say."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        session_id: str = "s1",
        client: ClientKind = ClientKind.CHUNKS,
        observed_ts: str | None = None,
    ) -> None:
        self.runtime = runtime
        self.transport = RecordingTransport()
        self.session = Session(runtime, self.transport, client=client)
        self.query_set_version = 0
        # Who has observed something has been connected before.
        came_back = {} if observed_ts is None else {"maxObservedTimestamp": observed_ts}
        self.tell(
            type="Connect",
            sessionId=session_id,
            connectionCount=len(came_back),
            lastCloseReason=None,
            **came_back,
        )

    def tell(self, **message: Any) -> None:
        self.session.receive(json.dumps(message))

    def mutate(self, request_id: int, path: str = "notes:say", **args: Any) -> None:
        self.tell(type="Mutation", requestId=request_id, udfPath=path, args=[args])

    def modify(self, *modifications: dict[str, Any], base: int | None = None) -> None:
        base = self.query_set_version if base is None else base
        self.query_set_version = base + 1
        self.tell(
            type="ModifyQuerySet", baseVersion=base, newVersion=base + 1, modifications=list(modifications)
        )

    def follow(self, query_id: int, path: str = "notes:texts", **args: Any) -> None:
        self.modify({"type": "Add", "queryId": query_id, "udfPath": path, "args": [args]})

    async def settled(self) -> list[dict[str, Any]]:
        """All messages since the last time, when nothing is in flight."""
        await self.runtime.wait_until_idle()
        return self.transport.take()


@asynccontextmanager
async def running(storage: FlakyStorage | None = None, **limits: Any) -> AsyncIterator[Callable[..., Peer]]:
    app = app_of(Line, say, refuse, texts, whoami, shout, limits=rdb.Limits(**limits))
    log_lines.install()
    runtime = app.runtime(storage or FlakyStorage(), clock=FakeClock())
    runtime.is_admin_key = lambda key: key == "the key"
    started = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runtime.serve, started.set)
        await started.wait()
        peers: list[Peer] = []

        def connect(**options: Any) -> Peer:
            peers.append(Peer(runtime, **options))
            return peers[-1]

        yield connect
        for peer in peers:
            peer.session.closed()
        runtime.stop()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]


async def test_every_transition_starts_where_the_last_one_ended() -> None:
    async with running() as connect:
        peer = connect()
        peer.follow(1, room="a")
        seen = await peer.settled()
        for number in range(3):
            peer.mutate(number, room="a", text=str(number))
            seen += await peer.settled()
        peer.modify({"type": "Remove", "queryId": 1})
        seen += await peer.settled()
    version: Any = {"querySet": 0, "identity": 0, "ts": "AAAAAAAAAAA="}
    for message in seen:
        if message["type"] == "Transition":
            assert message["startVersion"] == version
            assert decode_ts(message["endVersion"]["ts"]) >= decode_ts(version["ts"])
            version = message["endVersion"]
    assert version["querySet"] == 2
    assert seen[-1]["modifications"] == [{"type": "QueryRemoved", "queryId": 1}]


async def test_a_mutation_is_answered_before_the_transition_that_covers_it() -> None:
    async with running() as connect:
        peer = connect()
        peer.follow(1, room="a")
        await peer.settled()
        peer.mutate(7, room="a", text="hi")
        answer, transition = await peer.settled()
    assert (answer["type"], answer["requestId"], answer["success"]) == ("MutationResponse", 7, True)
    assert answer["result"] == 1
    assert answer["logLines"] == ["[LOG] 'said' 'hi'"]
    assert transition["type"] == "Transition"
    assert decode_ts(transition["endVersion"]["ts"]) >= decode_ts(answer["ts"])
    [update] = transition["modifications"]
    assert update == {
        "type": "QueryUpdated",
        "queryId": 1,
        "value": ["hi"],
        "logLines": [],
        "journal": None,
    }


async def test_another_client_is_told_and_one_that_reads_elsewhere_is_not() -> None:
    async with running() as connect:
        ada, bob, cleo = (connect(session_id=name) for name in ("ada", "bob", "cleo"))
        bob.follow(1, room="a")
        cleo.follow(1, room="b")
        for peer in (bob, cleo):
            await peer.settled()
        ada.mutate(0, room="a", text="hi")
        [heard] = await bob.settled()
        assert heard["modifications"][0]["value"] == ["hi"]
        assert await cleo.settled() == []


async def test_an_empty_change_of_the_query_set_is_answered_with_an_empty_transition() -> None:
    async with running() as connect:
        peer = connect()
        peer.modify()
        [transition] = await peer.settled()
    assert transition["modifications"] == []
    assert transition["endVersion"]["querySet"] == 1


async def test_a_replayed_mutation_gets_the_recorded_answer_and_runs_nothing() -> None:
    storage = FlakyStorage()
    async with running(storage) as connect:
        first = connect(session_id="same")
        first.mutate(3, room="a", text="once")
        answer = (await first.settled())[0]
        first.session.closed()
        again = connect(session_id="same")
        again.mutate(3, room="a", text="once")
        replayed = (await again.settled())[0]
        assert replayed == answer
        other = connect(session_id="other")
        other.mutate(3, room="a", text="once")
        assert (await other.settled())[0]["result"] == 2


async def test_a_client_that_comes_back_is_told_nothing_ahead_of_the_answers_it_has_lost() -> None:
    async with running() as connect:
        first = connect(session_id="same")
        first.follow(0, room="a")
        first.mutate(1, room="a", text="observed")
        observed_ts = (await first.settled())[-1]["endVersion"]["ts"]
        for request_id in (3, 4):
            first.mutate(request_id, room="a", text=str(request_id))
        answers = [message for message in await first.settled() if message["type"] == "MutationResponse"]
        first.session.closed()
        again = connect(session_id="same", observed_ts=observed_ts)
        again.follow(0, room="a")
        again.mutate(3, room="a", text="3")
        assert await again.settled() == answers[:1]
        again.mutate(4, room="a", text="4")
        answer, transition = await again.settled()
        assert answer == answers[1]
        assert transition["modifications"][0]["value"] == ["observed", "3", "4"]


async def test_a_client_that_does_not_repeat_itself_is_told_all_the_same() -> None:
    async with running(replay_s_max=0.01) as connect:
        first = connect(session_id="same")
        first.follow(0, room="a")
        observed_ts = (await first.settled())[-1]["endVersion"]["ts"]
        first.mutate(0, room="a", text="unheard of")
        await first.settled()
        first.session.closed()
        again = connect(session_id="same", observed_ts=observed_ts)
        again.follow(0, room="a")
        with anyio.fail_after(5):
            while not (told := await again.settled()):
                await anyio.lowlevel.checkpoint()
        assert told[0]["modifications"][0]["value"] == ["unheard of"]
        # What it says later is answered as ever.
        again.mutate(0, room="a", text="unheard of")
        assert kinds(await again.settled()) == ["MutationResponse", "Transition"]


@pytest.mark.parametrize("change", ["narrowed", "removed"])
async def test_a_replay_gets_its_answer_although_a_reload_would_refuse_the_call(change: str) -> None:
    async with running() as connect:
        ada = connect(session_id="ada")
        ada.mutate(0, room="a", text="once")
        answer = (await ada.settled())[0]
        ada.session.closed()
        await ada.runtime.wait_until_idle()

        def say_briefly(ctx: rdb.MutationCtx, room: str) -> None: ...

        say_briefly.__name__ = "say"
        left = [Line, texts] if change == "removed" else [Line, texts, rdb.mutation(say_briefly)]
        ada.runtime.reload(app_of(*left))
        again = connect(session_id="ada")
        again.mutate(0, room="a", text="once")
        assert (await again.settled())[0] == answer
        again.mutate(1, room="a", text="new")
        assert (await again.settled())[0]["success"] is False


async def test_a_refused_mutation_says_why_and_leaves_nothing() -> None:
    async with running() as connect:
        peer = connect()
        peer.follow(1, room="a")
        await peer.settled()
        peer.mutate(1, "notes:refuse")
        peer.mutate(2, "notes:missing")
        refused, missing, *_ = [m for m in await peer.settled() if m["type"] == "MutationResponse"]
        assert (refused["success"], refused["errorData"], refused["ts"]) == (False, {"code": "No"}, None)
        assert missing["success"] is False
        assert "errorData" not in missing
        peer.mutate(3, room="a", text="hi")
        assert (await peer.settled())[1]["modifications"][0]["value"] == ["hi"]


async def test_a_failed_group_fails_its_mutations_and_the_session_goes_on() -> None:
    storage = FlakyStorage()
    async with running(storage) as connect:
        peer, other = connect(session_id="a"), connect(session_id="b")
        for one in (peer, other):
            one.follow(1, room="a")
            await one.settled()
        peer.mutate(1, room="a", text="kept")
        await peer.settled()
        await other.settled()
        storage.failing_flush_count = 1
        peer.mutate(2, room="a", text="lost")
        other.mutate(9, room="a", text="lost too")
        messages = await peer.settled()
        assert [m["success"] for m in messages if m["type"] == "MutationResponse"] == [False]
        assert [m["success"] for m in await other.settled() if m["type"] == "MutationResponse"] == [False]
        peer.mutate(3, room="a", text="next")
        answer, transition = await peer.settled()
        assert answer["success"] is True
        assert transition["modifications"][0]["value"] == ["kept", "next"]
        # A failed mutation was not recorded: the client may send it again.
        peer.mutate(2, room="a", text="lost")
        assert (await peer.settled())[0]["success"] is True


@pytest.mark.parametrize(("base", "new"), [(5, 6), (0, 0), (1, 0)])
async def test_a_wrong_version_of_the_query_set_ends_the_connection(base: int, new: int) -> None:
    async with running() as connect:
        peer = connect()
        peer.tell(type="ModifyQuerySet", baseVersion=base, newVersion=new, modifications=[])
        [fatal] = peer.transport.take()
        assert fatal["type"] == "FatalError"
        assert fatal["error"].startswith("BadQuerySetVersion")
        assert peer.transport.closed_with is not None
        peer.mutate(1, room="a", text="too late")
        assert peer.transport.take() == []


MALFORMED = [
    "",
    "{",
    "[]",
    "{}",
    '{"type":"Nonsense"}',
    '{"type":"Mutation","requestId":-1,"udfPath":"a","args":[]}',
    '{"type":"Connect","sessionId":"again"}',
    '{"type":"ModifyQuerySet"}',
    "\ud800",
    "9" * 9999,
    "[" * 9999,
]


@pytest.mark.parametrize("frame", MALFORMED, ids=range(len(MALFORMED)))
async def test_malformed_messages_end_this_connection_only(frame: str) -> None:
    async with running() as connect:
        bad, good = connect(session_id="bad"), connect(session_id="good")
        bad.session.receive(frame)
        assert kinds(bad.transport.take()) == ["FatalError"]
        assert bad.transport.closed_with is not None
        good.mutate(1, room="a", text="hi")
        assert (await good.settled())[0]["success"] is True


async def test_a_binary_frame_and_a_missing_connect_are_fatal() -> None:
    async with running() as connect:
        binary = connect()
        binary.session.receive_binary()
        assert kinds(binary.transport.take()) == ["FatalError"]
        transport = RecordingTransport()
        early = Session(binary.runtime, transport, client=ClientKind.CHUNKS)
        early.receive('{"type":"Event","eventType":"x","event":null}')
        assert kinds(transport.messages) == ["FatalError"]


async def test_a_slow_peer_gets_the_newest_state_and_nothing_in_between() -> None:
    async with running() as connect:
        slow, quick = connect(session_id="slow"), connect(session_id="quick")
        slow.follow(1, room="a")
        await slow.settled()
        slow.transport.writable = False
        for number in range(5):
            quick.mutate(number, room="a", text=str(number))
            await quick.settled()
        assert slow.transport.take() == []
        slow.transport.writable = True
        slow.session.writable_again()
        [transition] = await slow.settled()
        assert transition["modifications"][0]["value"] == list("01234")


async def test_chunks_join_to_the_message_that_a_whole_client_gets() -> None:
    async with running(chunk_size_bytes=300) as connect:
        npm, pypi = connect(session_id="npm"), connect(session_id="pypi", client=ClientKind.WHOLE)
        npm.mutate(1, room="a", text="ä€😀" * 400)
        await npm.settled()
        npm.follow(1, room="a")
        pypi.follow(1, room="a")
        chunks, [whole] = await npm.settled(), await pypi.settled()
    assert len(chunks) > 10
    assert {chunk["type"] for chunk in chunks} == {"TransitionChunk"}
    assert [chunk["partNumber"] for chunk in chunks] == list(range(len(chunks)))
    assert {(chunk["totalParts"], chunk["transitionId"]) for chunk in chunks} == {
        (len(chunks), chunks[0]["transitionId"])
    }
    joined = json.loads("".join(chunk["chunk"] for chunk in chunks))
    assert joined["modifications"] == whole["modifications"]
    assert whole["modifications"][0]["value"] == ["ä€😀" * 400]


async def test_a_query_that_cannot_be_followed_fails_alone() -> None:
    async with running() as connect:
        peer = connect()
        peer.modify(
            {"type": "Add", "queryId": 1, "udfPath": "no path!", "args": [{}]},
            {"type": "Add", "queryId": 2, "udfPath": "notes:missing", "args": [{}]},
            {"type": "Add", "queryId": 3, "udfPath": "notes:texts", "args": [{"room": 1}]},
            {"type": "Add", "queryId": 4, "udfPath": "notes:texts", "args": [{"room": "a"}]},
        )
        [transition] = await peer.settled()
        told = {change["queryId"]: change["type"] for change in transition["modifications"]}
        assert told == {1: "QueryFailed", 2: "QueryFailed", 3: "QueryFailed", 4: "QueryUpdated"}
        peer.modify(*({"type": "Remove", "queryId": number} for number in (1, 2, 3, 4)))
        [transition] = await peer.settled()
        assert {change["type"] for change in transition["modifications"]} == {"QueryRemoved"}


async def test_identities_are_followed_apart_and_versions_count_them() -> None:
    async with running() as connect:
        peer = connect()
        peer.follow(1, "notes:whoami")
        [first] = await peer.settled()
        assert first["modifications"][0]["value"] is None
        user = {"issuer": "i", "subject": "ada", "tokenIdentifier": "i|ada"}
        peer.tell(type="Authenticate", baseVersion=0, tokenType="Admin", value="the key", impersonating=user)
        [second] = await peer.settled()
        assert second["modifications"][0]["value"] == "ada"
        assert second["endVersion"]["identity"] == 1
        peer.tell(type="Authenticate", baseVersion=1, tokenType="None")
        [third] = await peer.settled()
        assert third["modifications"][0]["value"] is None


@pytest.mark.parametrize(("token_type", "value"), [("User", "a.b.c"), ("Admin", "another key")])
async def test_a_token_that_counts_for_nothing_is_an_auth_error(token_type: str, value: str) -> None:
    async with running() as connect:
        peer = connect()
        peer.tell(type="Authenticate", baseVersion=0, tokenType=token_type, value=value)
        [error] = peer.transport.take()
        assert (error["type"], error["baseVersion"]) == ("AuthError", 0)
        assert peer.transport.closed_with is not None


async def test_an_action_is_answered_when_it_ends() -> None:
    async with running() as connect:
        peer = connect()
        peer.tell(type="Action", requestId=4, udfPath="notes:shout", args=[{"text": "hi"}])
        answer = (await peer.settled())[0]
    assert (answer["type"], answer["requestId"], answer["result"]) == ("ActionResponse", 4, "HI")
    assert "ts" not in answer


async def test_a_session_that_is_gone_follows_nothing_and_is_sent_nothing() -> None:
    async with running() as connect:
        gone, other = connect(session_id="gone"), connect(session_id="other")
        gone.follow(1, room="a")
        await gone.settled()
        gone.mutate(1, room="a", text="finished all the same")
        gone.session.closed()
        gone.session.closed()
        other.follow(1, room="a")
        assert (await other.settled())[0]["modifications"][0]["value"] == ["finished all the same"]
        assert gone.transport.take() == []
        gone.runtime.cache.check()


async def test_more_waiting_mutations_than_allowed_end_the_connection() -> None:
    async with running(pending_mutations_max=2) as connect:
        peer = connect()
        for number in range(3):
            peer.mutate(number, room="a", text="x")
        assert peer.transport.closed_with is not None
        assert peer.transport.closed_with[0] == 1013


async def test_after_a_failed_sync_mutations_are_left_unanswered_and_the_session_ends() -> None:
    storage = FlakyStorage()
    peers: list[Peer] = []

    async def mutate_on_a_failing_disk() -> None:
        async with running(storage) as connect:
            peers.append(connect())
            storage.sync_fails = True
            for number in range(2):
                peers[0].mutate(number, room="a", text="x")
                for _ in range(10):
                    await anyio.lowlevel.checkpoint()

    with pytest.raises(ExceptionGroup):  # closing says that the storage has failed
        await mutate_on_a_failing_disk()
    answers = [m for m in peers[0].transport.take() if m["type"] == "MutationResponse"]
    assert answers == []
    assert peers[0].transport.closed_with == (1013, "OutcomeUnknown")
    assert storage.sync_count < 10  # never tried again and again
