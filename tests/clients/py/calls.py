"""Do queries, mutations, actions and subscriptions of PyPI's `convex` work as its documentation says?"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from convex import ConvexClient, ConvexError, ConvexInt64
from convex.http_client import ConvexExecutionError, ConvexHttpClient
from run import Stage


def everywhere(client: ConvexClient, value: object) -> list[Any]:
    """The same value through a query, a mutation, an action and the store."""
    stored_id = client.mutation("echo:store", {"value": value})
    return [
        client.query("echo:fromQuery", {"value": value}),
        client.mutation("echo:fromMutation", {"value": value}),
        client.action("echo:fromAction", {"value": value}),
        client.query("echo:stored", {"id": stored_id}),
    ]


def plain_values(stage: Stage) -> None:
    client = ConvexClient(stage.url)
    nested = {"z": 1.5, "a": {"key with spaces": [True, ""]}, "deep": [[], [[None]], {"a": [{}]}]}
    for value in [None, True, False, "", "text 😀", -1.5, [], {}, nested]:
        for back in everywhere(client, value):
            assert back == value, (back, value)
            assert type(back) is type(value), (back, value)


def numbers(stage: Stage) -> None:
    client = ConvexClient(stage.url)
    for back in everywhere(client, 3):
        assert back == 3.0, back
        assert type(back) is float, back
    for number in (3, -5, 2**63 - 1, -(2**63)):
        for back in everywhere(client, ConvexInt64(number)):
            assert isinstance(back, ConvexInt64), back
            assert back.value == number, back
    for special in (math.inf, -math.inf):
        assert everywhere(client, special) == [special] * 4
    assert all(math.isnan(back) for back in everywhere(client, math.nan))
    assert all(math.copysign(1, back) == -1 for back in everywhere(client, -0.0))


def all_bytes(stage: Stage) -> None:
    client = ConvexClient(stage.url)
    value = bytes(range(256))
    assert everywhere(client, value) == [value] * 4


def calls(stage: Stage) -> None:
    client = ConvexClient(stage.url)
    assert client.query("counter:value", {"name": "c"}) == 0
    assert client.mutation("counter:increment", {"name": "c", "by": 2}) == 2
    assert client.action("tasks:addThroughAction", {"listName": "home", "text": "milk"}) == 1
    assert client.query("tasks:texts", {"listName": "home"}) == ["milk"]
    assert client.query("tasks.js:texts", {"listName": "home"}) == ["milk"]
    assert client.query("tasks:texts", {"list_name": "home"}) == ["milk"]
    assert client.query("echo:nothing") is None


def own_writes(stage: Stage) -> None:
    client = ConvexClient(stage.url)
    for count in range(1, 21):
        client.mutation("counter:increment", {"name": "c"})
        assert client.query("counter:value", {"name": "c"}) == count


def subscription(stage: Stage) -> None:
    client = ConvexClient(stage.url)
    other = ConvexClient(stage.url)
    live = client.subscribe("tasks:texts", {"listName": "home"})
    assert next(live) == []
    other.mutation("tasks:add", {"listName": "home", "text": "milk"})
    assert next(live) == ["milk"]
    client.mutation("tasks:add", {"listName": "home", "text": "bread"})
    assert next(live) == ["milk", "bread"]
    live.unsubscribe()
    again = client.subscribe("tasks:texts", {"listName": "home"})
    assert next(again) == ["milk", "bread"]


def async_subscription(stage: Stage) -> None:
    async def main() -> None:
        client = ConvexClient(stage.url)
        other = ConvexClient(stage.url)
        seen = []
        async for texts in client.subscribe("tasks:texts", {"listName": "home"}):
            seen.append(texts)
            if len(seen) == 4:
                break
            other.mutation("tasks:add", {"listName": "home", "text": str(len(seen))})
        assert seen == [[], ["1"], ["1", "2"], ["1", "2", "3"]], seen

    asyncio.run(main())


def failure_of(call: Callable[[], object]) -> Exception:
    try:
        value = call()
    except Exception as error:
        return error
    raise AssertionError(f"expected a failure, got {value!r}")


def errors(stage: Stage) -> None:
    client = ConvexClient(stage.url)
    http = ConvexHttpClient(stage.url)
    data = {"code": "Full", "nested": [None, 1.5, True]}
    for caller in (client, http):
        for kind in ("query", "mutation", "action"):
            call = getattr(caller, kind)
            told = f"failing:toldBy{kind.title()}"
            error = failure_of(lambda call=call, told=told: call(told, {"data": data}))
            assert isinstance(error, ConvexError), repr(error)
            assert error.data == data, error.data
            path = f"failing:plain{kind.title()}"
            error = failure_of(lambda call=call, path=path: call(path))
            assert not isinstance(error, ConvexError), repr(error)
            assert "a plain failure" in str(error), repr(error)
    missing = failure_of(lambda: client.query("counter:noSuchFunction", {}))
    assert "ould not find public function" in str(missing), repr(missing)
    assert client.query("counter:value", {"name": "c"}) == 0


def failing_subscription(stage: Stage) -> None:
    client = ConvexClient(stage.url)
    live = client.subscribe("counter:valueUpTo", {"name": "c", "limit": 1})
    assert next(live) == 0
    client.mutation("counter:increment", {"name": "c", "by": 2})
    assert "above 1" in str(failure_of(lambda: next(live)))
    client.mutation("counter:increment", {"name": "c", "by": -1})
    assert next(live) == 1


def http_client(stage: Stage) -> None:
    client = ConvexHttpClient(stage.url)
    assert client.mutation("counter:increment", {"name": "c", "by": 2}) == 2
    assert client.query("counter:value", {"name": "c"}) == 2
    assert client.action("tasks:addThroughAction", {"listName": "home", "text": "milk"}) == 1
    assert client.query("echo:fromQuery", {"value": {"n": ConvexInt64(5), "b": b"\x00\xff"}}) == {
        "n": ConvexInt64(5),
        "b": b"\x00\xff",
    }
    missing = failure_of(lambda: client.query("counter:noSuchFunction"))
    assert isinstance(missing, ConvexExecutionError), repr(missing)


def admin(stage: Stage) -> None:
    client = ConvexClient(stage.url)
    assert "ould not find public function" in str(failure_of(lambda: client.query("hidden:secret")))
    client.set_admin_auth(stage.params["key"])
    assert client.query("hidden:secret") == "internal"
    assert client.mutation("hidden:secretMutation") == "internal"
    assert client.action("hidden:secretAction") == "internal"
    live = client.subscribe("counter:value", {"name": "c"})
    assert next(live) == 0
    client.mutation("counter:increment", {"name": "c"})
    assert next(live) == 1


def large(stage: Stage) -> None:
    client = ConvexClient(stage.url)
    for megabytes in (1, 12):
        texts = client.query("big:text", {"megabytes": megabytes})
        assert texts == [str(number % 10) * 1_000_000 for number in range(megabytes)]
    # Above the bound of a result: a failed query of this connection, which the next call finds unharmed.
    refused = failure_of(lambda: client.query("big:text", {"megabytes": 20}))
    assert not isinstance(refused, ConvexError), repr(refused)
    assert "TooLarge" in str(refused) or "imit" in str(refused), repr(refused)
    assert client.mutation("counter:increment", {"name": "c"}) == 1


def idle(stage: Stage) -> None:
    client = ConvexClient(stage.url)
    live = client.subscribe("counter:value", {"name": "pypi"})
    assert next(live) == 0
    stage.say("idle")
    stage.hear("go on")
    assert next(live) == 1
    client.mutation("counter:increment", {"name": "pypi"})
    assert next(live) == 2


def server_restart(stage: Stage) -> None:
    client = ConvexClient(stage.url)
    texts = client.subscribe("tasks:texts", {"listName": "home"})
    count = client.subscribe("counter:value", {"name": "c"})
    assert (next(texts), next(count)) == ([], 0)
    stage.say("watching")
    # The iterators say again what they knew when the connection is back; what counts is what follows.
    while next(count) != 5:
        pass
    while next(texts) != ["milk"]:
        pass
    client.mutation("counter:increment", {"name": "c"})
    while next(count) != 6:
        pass
