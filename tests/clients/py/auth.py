"""Does PyPI's `convex` sign in and out?"""

from __future__ import annotations

import asyncio

from calls import failure_of
from convex import ConvexClient
from convex.http_client import ConvexHttpClient
from run import Stage


def sign_in_and_out(stage: Stage) -> None:
    client = ConvexClient(stage.url)
    ada = f"{stage.params['issuer']}|ada"
    assert client.query("who:amI", {}) is None
    client.set_auth(stage.params["good"])
    assert client.mutation("who:write", {"text": "hi"}) == "ada"
    assert client.action("who:act", {}) == ["ada", ada]
    assert client.query("who:amI", {}) == ada
    client.set_auth(None)
    assert client.mutation("who:write", {"text": "hi"}) == "nobody"


def iterated(stage: Stage) -> None:
    """One subscription follows the user of its client."""
    ada = f"{stage.params['issuer']}|ada"
    client = ConvexClient(stage.url)
    seen: list[object] = []
    for me in client.subscribe("who:amI"):
        seen.append(me)
        if len(seen) == 1:
            client.set_auth(stage.params["good"])
        elif len(seen) == 2:
            client.set_auth(None)
        else:
            break
    assert seen == [None, ada, None], seen


def async_iterated(stage: Stage) -> None:
    ada = f"{stage.params['issuer']}|ada"

    async def main() -> None:
        client = ConvexClient(stage.url)
        client.set_auth(stage.params["good"])
        seen: list[object] = []
        async for me in client.subscribe("who:amI"):
            seen.append(me)
            if me == ada:
                client.set_auth(None)
            elif len(seen) > 1:
                break
        # The sign-in may come with the first result or behind it.
        assert seen in ([ada, None], [None, ada, None]), seen
        async for profile in client.subscribe("who:profile"):
            assert profile is None
            break

    asyncio.run(main())


def admin(stage: Stage) -> None:
    for caller in (ConvexClient(stage.url), ConvexHttpClient(stage.url)):
        assert failure_of(lambda caller=caller: caller.query("who:hidden"))
        caller.set_admin_auth(stage.params["key"])
        assert caller.query("who:hidden") == "internal"
        assert caller.mutation("who:hiddenMutation") == "internal"
        assert caller.action("who:hiddenAction") == "internal"
        assert caller.query("who:amI") is None


def http_cleared(stage: Stage) -> None:
    ada = f"{stage.params['issuer']}|ada"
    client = ConvexHttpClient(stage.url)
    client.set_auth(stage.params["good"])
    assert client.query("who:amI") == ada
    assert client.mutation("who:write", {"text": "hi"}) == "ada"
    assert client.action("who:act") == ["ada", ada]
    client.clear_auth()
    assert client.query("who:amI") is None
    assert client.mutation("who:write", {"text": "hi"}) == "nobody"


def http(stage: Stage) -> None:
    client = ConvexHttpClient(stage.url)
    client.set_auth(stage.params["good"])
    assert client.query("who:amI", {}) == f"{stage.params['issuer']}|ada"
    for bad in stage.params["bad"]:
        client.set_auth(bad)
        assert is_refused(client), bad


def is_refused(client: ConvexHttpClient) -> bool:
    try:
        client.query("who:amI", {})
    except Exception as error:  # the client wraps what it was told in errors of several kinds
        return "401" in str(error) or "Token" in str(error) or "Audience" in str(error)
    return False
