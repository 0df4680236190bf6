"""Do users sign up, refresh and sign out with PyPI's `convex`?"""

from __future__ import annotations

from typing import Any

from convex import ConvexClient, ConvexError
from run import Stage


def lifetime(stage: Stage) -> None:
    client = ConvexClient(stage.url)
    assert client.query("notes:whoAmI", {}) is None
    tokens: Any = client.action("signIn:signUp", {"name": "cleo", "password": "correct horse"})
    client.set_auth(tokens["token"])
    assert client.query("notes:whoAmI", {}) == tokens["userId"]
    client.mutation("notes:write", {"text": "from Python"})

    following: Any = client.action("signIn:refresh", {"refreshToken": tokens["refreshToken"]})
    assert following["token"] != tokens["token"]
    client.set_auth(following["token"])
    assert client.query("notes:mine", {}) == ["from Python"]

    client.mutation("signIn:signOut", {"refreshToken": following["refreshToken"]})
    assert client.query("signIn:session", {}) is None
    client.set_auth(None)
    assert client.query("notes:whoAmI", {}) is None
    assert refusal(client, "signIn:refresh", refreshToken=following["refreshToken"]) == "SessionEnded"
    wrong = {"name": "cleo", "password": "wrong horse"}
    assert refusal(client, "signIn:withPassword", **wrong) == "InvalidCredentials"

    again: Any = client.action("signIn:withPassword", {"name": "Cleo", "password": "correct horse"})
    client.set_auth(again["token"])
    assert client.query("notes:whoAmI", {}) == tokens["userId"]


def refusal(client: ConvexClient, path: str, **args: str) -> str:
    try:
        client.action(path, args)
    except ConvexError as error:
        return error.data["code"]
    raise AssertionError("it was not refused")
