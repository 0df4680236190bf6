"""Does one client hold up the others? Without a socket; the time is real, for it is what is shared."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest
from inline_app import FlakyStorage, app_of

import reactivedb as rdb
from reactivedb.app import Runtime
from reactivedb.testing import FakeClock

from .test_session import Line, Peer, say, texts

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@rdb.query
def slow(ctx: rdb.QueryCtx, number: int) -> int:
    """Takes a millisecond, and reads what everybody writes."""
    ends = time.perf_counter() + 0.001
    while time.perf_counter() < ends:
        pass
    return ctx.db.query(Line).count()


@rdb.mutation
def work(ctx: rdb.MutationCtx) -> None:
    """Takes sixty milliseconds."""
    ends = time.perf_counter() + 0.06
    while time.perf_counter() < ends:
        pass


def adds(count: int) -> list[dict[str, Any]]:
    return [
        {"type": "Add", "queryId": number, "udfPath": "notes:slow", "args": [{"number": number}]}
        for number in range(count)
    ]


class Running:
    def __init__(self, **limits: Any) -> None:
        app = app_of(Line, say, texts, slow, work, limits=rdb.Limits(**limits))
        self.runtime = app.runtime(FlakyStorage(), clock=FakeClock())

    async def __aenter__(self) -> Runtime:
        started = anyio.Event()
        self.tasks = anyio.create_task_group()
        await self.tasks.__aenter__()
        self.tasks.start_soon(self.runtime.serve, started.set)
        await started.wait()
        return self.runtime

    async def __aexit__(self, *error: Any) -> None:
        self.runtime.stop()
        await self.tasks.__aexit__(*error)


async def test_who_follows_much_is_told_all_at_once_and_others_before() -> None:
    async with Running() as runtime:
        greedy, other = Peer(runtime, session_id="greedy"), Peer(runtime, session_id="other")
        greedy.modify(*adds(120))
        other.mutate(1, room="a", text="hi")
        while not other.transport.texts:
            await anyio.lowlevel.checkpoint()
        assert not greedy.transport.texts
        other.follow(1, room="a")
        assert "MutationResponse" in {message["type"] for message in await other.settled()}
        [told] = greedy.transport.take()
        # All of them as of one moment, that after the commit.
        assert [change["value"] for change in told["modifications"]] == [1] * 120
        greedy.session.closed()
        other.session.closed()


async def test_who_follows_more_than_commits_leave_time_for_is_told_in_the_end() -> None:
    async with Running() as runtime:
        greedy, busy = Peer(runtime, session_id="greedy"), Peer(runtime, session_id="busy")
        greedy.modify(*adds(60))
        count = 0
        while not greedy.transport.texts:
            count += 1
            busy.mutate(count, room="a", text="hi")
            await anyio.lowlevel.checkpoint()
        [told] = greedy.transport.messages
        assert len({change["value"] for change in told["modifications"]}) == 1
        assert len(told["modifications"]) == 60
        greedy.session.closed()
        busy.session.closed()


async def test_who_is_never_told_is_closed_by_name() -> None:
    async with Running(behind_s_max=0.03) as runtime:
        greedy, busy = Peer(runtime, session_id="greedy"), Peer(runtime, session_id="busy")
        greedy.modify(*adds(300))
        count = 0
        while greedy.transport.closed_with is None:
            count += 1
            busy.mutate(count, room="a", text="hi")
            await anyio.lowlevel.checkpoint()
        assert not greedy.transport.texts
        code, reason = greedy.transport.closed_with
        assert (code, reason.split(":")[0]) == (1013, "SubscriptionsWorkerFullError")
        assert runtime.admission.refusals == {"behind_s_max": 1}
        await busy.settled()
        busy.session.closed()


@pytest.mark.slow
async def test_an_overloaded_server_refuses_what_a_turn_has_no_room_for() -> None:
    async with Running(turn_s_max=0.1, overload_patience_s=0.0) as runtime:
        peers = [Peer(runtime, session_id=str(number)) for number in range(5)]
        for turn in range(2):
            for peer in peers:
                peer.mutate(turn, "notes:work")
            await runtime.wait_until_idle()
        closed = [peer.transport.closed_with for peer in peers]
        # The first turn was too long, so in the second there was room for two.
        assert closed[:2] == [None, None]
        assert all(closing is not None and closing[0] == 1013 for closing in closed[2:])
        assert {closing[1].split(":")[0] for closing in closed if closing} == {"TooManyConcurrentRequests"}
        assert runtime.admission.refusals == {"turn_s_max": 3}
        for peer in peers:
            peer.session.closed()
