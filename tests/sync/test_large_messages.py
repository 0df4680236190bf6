"""What does a large message cost the others, and what becomes of it? Without a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from inline_app import FlakyStorage, app_of

import reactivedb as rdb
from reactivedb.testing import FakeClock

from .test_session import Line, Peer, say, texts

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@rdb.mutation
def measure(ctx: rdb.MutationCtx, text: str, times: int = 1) -> int:
    return len(text) * times


@rdb.mutation
def take(ctx: rdb.MutationCtx, value: rdb.Value) -> str:
    return type(value).__name__


@rdb.mutation
def total(ctx: rdb.MutationCtx, rows: list[list[float]]) -> float:
    return sum(map(sum, rows))


@rdb.mutation
def weigh(ctx: rdb.MutationCtx, data: bytes, words: list[str]) -> int:
    return len(data) + len(words)


@rdb.action
async def act(ctx: rdb.ActionCtx, text: str) -> int:
    return len(text)


@rdb.query
def echo(ctx: rdb.QueryCtx, value: rdb.Value) -> int:
    return len(value) if isinstance(value, list | str) else 0


@asynccontextmanager
async def running(**limits: Any) -> AsyncIterator[Callable[..., Peer]]:
    app = app_of(Line, say, texts, measure, take, total, weigh, act, echo, limits=rdb.Limits(**limits))
    runtime = app.runtime(FlakyStorage(), clock=FakeClock())
    started = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runtime.serve, started.set)
        await started.wait()
        yield lambda name: Peer(runtime, session_id=name)
        runtime.stop()


def call(args: str, path: str = "notes:take", request_id: int = 0, kind: str = "Mutation") -> str:
    return f'{{"type":"{kind}","requestId":{request_id},"udfPath":"{path}","args":[{args}]}}'


def args_first(args: str, path: str = "notes:take") -> str:
    """As serializers write it that sort the names."""
    return f'{{"args":[{args}],"componentPath":null,"requestId":0,"type":"Mutation","udfPath":"{path}"}}'


def answer_of(messages: list[dict[str, Any]]) -> Any:
    [answer] = [message for message in messages if message["type"].endswith("Response")]
    return answer["result"]


MANY_LISTS = "[" + ",".join(["[" + ",".join(["[]"] * 8_000) + "]"] * 100) + "]"


@pytest.mark.parametrize("write", [call, args_first])
async def test_a_function_of_a_text_refuses_lists_without_a_look_at_them(write: Callable[..., str]) -> None:
    async with running() as connect:
        peer = connect("a")
        # What stands behind the first character is no JSON: nobody has looked.
        lists = MANY_LISTS.replace("[]]", "[}]", 1)
        peer.session.receive(write(f'{{"text":{lists}}}', "notes:measure"))
        turns = 0
        while not peer.transport.texts:
            await anyio.lowlevel.checkpoint()
            turns += 1
        assert turns < 10
        answer = answer_of(peer.transport.take())
        assert answer.startswith("ArgumentValidationError: expected `v.string()` at `.text`, got `['...']`")


@pytest.mark.parametrize("write", [call, args_first])
async def test_more_values_than_the_budget_fail_the_call_and_no_other(write: Callable[..., str]) -> None:
    async with running() as connect:
        peer = connect("a")
        peer.session.receive(write(f'{{"value":{MANY_LISTS}}}'))
        assert answer_of(await peer.settled()).startswith("TooManyValues: expected at most 65536 arrays")
        peer.mutate(1, room="a", text="hi")
        assert answer_of(await peer.settled()) == 1


async def test_the_bounds_on_values_are_limits_of_the_application() -> None:
    async with running(value_containers_max=20_000, value_nodes_max=30_000) as connect:
        peer = connect("a")
        peer.session.receive(call('{"value":[' + ",".join(["[]"] * 6_000) + "]}"))
        assert answer_of(await peer.settled()) == "list"
        numbers = "[" + ",".join(["1"] * 8_000) + "]"
        peer.session.receive(call('{"value":[' + ",".join([numbers] * 4) + "]}", request_id=1))
        assert answer_of(await peer.settled()).startswith("TooManyValues: expected at most 30000 values")


@pytest.mark.slow
async def test_another_clients_message_is_handled_while_a_large_one_is_read() -> None:
    async with running() as connect:
        attacker, other = connect("a"), connect("b")
        lists = "[" + ",".join(["[" + ",".join(["[]"] * 1_000) + "]"] * 20) + "]"
        attacker.session.receive(call(f'{{"value":{lists}}}'))
        assert not attacker.transport.texts
        served = 0
        while not attacker.transport.texts:
            other.mutate(served, room="a", text="hi")
            while not other.transport.texts:
                await anyio.lowlevel.checkpoint()
            served += 1
            other.transport.take()
        assert served >= 5
        assert answer_of(await attacker.settled()) == "list"


async def test_messages_behind_a_large_one_are_handled_after_it() -> None:
    async with running() as connect:
        peer = connect("a")
        peer.session.receive(call('{"value":"' + "x" * 100_000 + '"}', request_id=0))
        peer.mutate(1, room="a", text="hi")
        peer.session.receive(call('{"value":[' + ",".join(["1"] * 8_192) + "]}", request_id=2))
        peer.mutate(3, room="a", text="hi")
        messages = await peer.settled()
        answered = [m["requestId"] for m in messages if m["type"] == "MutationResponse"]
        assert answered == [0, 1, 2, 3]


LEGAL: dict[str, tuple[str, str, object]] = {
    "a text of 16 MiB": (
        "notes:measure",
        '{"text":"' + "x,[{" * (4 * 1024 * 1024 - 8) + '","times":2}',
        2.0 * 4 * (4 * 1024 * 1024 - 8),
    ),
    "a million numbers": (
        "notes:total",
        '{"rows":[' + ",".join(["[" + ",".join(["1.5"] * 8_192) + "]"] * 128) + "]}",
        1.5 * 8_192 * 128,
    ),
    "bytes and texts": (
        "notes:weigh",
        '{"data":{"$bytes":"' + "AAAA" * 1_000_000 + '"},"words":[' + ",".join(['"word"'] * 8_192) + "]}",
        3_000_000.0 + 8_192,
    ),
    "the deepest nesting, and long": (
        "notes:take",
        '{"value":' + "[" * 63 + '"' + "x" * 100_000 + '"' + "]" * 63 + "}",
        "list",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEGAL)
async def test_large_arguments_within_the_limits_are_served(name: str) -> None:
    path, args, expected = LEGAL[name]
    async with running() as connect:
        peer = connect("a")
        peer.session.receive(call(args, path))
        assert answer_of(await peer.settled()) == expected


BAD = "x" * 70_000


@pytest.mark.parametrize(
    ("args", "path", "said"),
    [
        ('{"text":"a\\ud800' + BAD + '"}', "notes:measure", "LoneSurrogate"),
        ('{"text":"' + BAD + '","times":"a"}', "notes:measure", "ArgumentValidationError"),
        ('{"text":"' + BAD + '","what":1}', "notes:measure", "ArgumentValidationError"),
        ('{"value":{"$integer":"' + BAD + '"}}', "notes:take", "InvalidSpecialObject"),
        ('{"value":[' + "[" * 64 + f'"{BAD}"' + "]" * 64 + "]}", "notes:take", "ValueTooDeep"),
        ('{"value":[' + ",".join(["1.0000001"] * 8_193) + "]}", "notes:take", "ArrayTooLong"),
        ('{"value":"' + BAD + '"}', "notes:nowhere", "Could not find"),
        ('{"value":"' + BAD + '"},{}', "notes:take", "ArgumentValidationError"),
        ('7,"' + BAD + '"', "notes:take", "ArgumentValidationError"),
    ],
)
async def test_a_large_call_that_is_wrong_fails_like_a_small_one(args: str, path: str, said: str) -> None:
    async with running() as connect:
        peer = connect("a")
        peer.session.receive(call(args, path))
        assert said in answer_of(await peer.settled())
        peer.session.receive(call('{"text":"' + BAD + '"}', "notes:act", 1, "Action"))
        assert answer_of(await peer.settled()) == 70_000


async def test_large_arguments_of_a_query_are_followed_or_refused_by_themselves() -> None:
    async with running() as connect:
        peer = connect("a")
        peer.follow(1, "notes:echo", value="x" * 80_000)
        peer.modify(
            {"type": "Add", "queryId": 2, "udfPath": "notes:echo", "args": [{"value": [1.0001] * 9_000}]},
            {"type": "Add", "queryId": 3, "udfPath": "notes:echo", "args": [{"value": [1.0001] * 8_000}]},
        )
        changes = {c["queryId"]: c for m in await peer.settled() for c in m["modifications"]}
    assert changes[1]["value"] == 80_000
    assert changes[2]["errorMessage"].startswith("ArrayTooLong")
    assert changes[3]["value"] == 8_000


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"type":"Mutation","args":' + '{"a":' * 30_000,
        '{"type":"Event","event":' + json.dumps([[1] * 100] * 400) + ",}",
        '{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[' + "{}," * 70_000 + "{}]}",
        '{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[' + "1," * 70_000 + "1]}",
        '{"type":"Mutation","requestId":' + "9" * 70_000 + "}",
        '{"type":"Mutation","requestId":[' + "9," * 70_000 + "9]}",
    ],
)
async def test_a_large_message_that_is_none_ends_its_connection_alone(text: str) -> None:
    async with running() as connect:
        peer, other = connect("a"), connect("b")
        peer.session.receive(text)
        [fatal] = await peer.settled()
        assert fatal["type"] == "FatalError"
        assert len(fatal["error"]) < 300
        other.mutate(1, room="a", text="hi")
        assert answer_of(await other.settled()) == 1


async def test_a_large_message_of_a_connection_that_ends_meanwhile_is_let_go() -> None:
    async with running() as connect:
        peer, other = connect("a"), connect("b")
        peer.session.receive(call('{"value":"' + "x" * 100_000 + '"}'))
        assert peer.runtime.admission.held["held_size_bytes"] > 100_000
        peer.session.closed()
        assert peer.runtime.admission.held["held_size_bytes"] == 0
        await other.settled()
        assert peer.runtime.turns.is_idle
        assert not peer.transport.texts
