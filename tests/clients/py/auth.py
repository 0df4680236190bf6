"""Does PyPI's `convex` sign in and out?"""

from __future__ import annotations

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
