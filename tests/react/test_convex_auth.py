"""Does `useConvexAuth` say who is signed in, as the server sees it, and do the queries follow?

The tokens are real ones; the page fetches them from the test's `desk`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from clients.proxy import CuttingProxy

from .conftest import HooksPage, Show, TokenDesk, query

pytestmark = pytest.mark.slow
LOADING = "(loading)"


def state(*, loading: bool = False, signed_in: bool = False, refreshing: bool = False) -> dict[str, bool]:
    return {"isLoading": loading, "isAuthenticated": signed_in, "isRefreshing": refreshing}


WAITING, IN, OUT = state(loading=True), state(signed_in=True), state()
REFRESHING = state(signed_in=True, refreshing=True)


def parts() -> dict[str, Any]:
    return {
        "auth": {"kind": "auth"},
        "me": query("members/who:amI"),
        "profile": query("members/who:profile") | {"whenSignedIn": True},
        "write": {"kind": "mutation", "mutation": "members/who:write"},
        "act": {"kind": "action", "action": "members/who:act"},
    }


@pytest.fixture
def ada(desk: TokenDesk) -> str:
    return f"{desk.provider.issuer}|ada"


@pytest.fixture
def refused(desk: TokenDesk) -> Iterator[str]:
    """Tokens of another application's users, each another one."""
    return (desk.provider.token("ada", aud="other") for _ in itertools.count())


def subjects(page: HooksPage) -> list[str]:
    """Whom the part for users has ever shown."""
    return [shown if shown == LOADING else shown["subject"] for shown in page.shown("profile")]


def authenticated(proxy: CuttingProxy) -> list[str]:
    """What kinds of tokens the page has sent."""
    return [passed.message["tokenType"] for passed in proxy.of_type("Authenticate")]


def test_a_user_is_loading_and_then_signed_in_and_was_nobody_at_no_time(
    show: Show, desk: TokenDesk, ada: str
) -> None:
    page = show(parts(), auth=True)
    page.wait_for("auth", WAITING)
    page.sign_in("ada")
    page.wait_for("auth", IN)
    page.wait_for("me", ada)
    page.wait_for("profile", {"subject": "ada"})
    assert page.call("write", {"text": "hi"}) == {"value": "ada"}
    assert page.call("act", {}) == {"value": ["ada", ada]}
    # One from the cache and a fresh one, which is not heard as a second sign-in.
    assert desk.asked == [("ada", False), ("ada", True)]
    assert page.shown("auth") == [WAITING, IN]
    assert subjects(page) == [LOADING, "ada"]
    assert page.messages == []


def test_a_page_that_knows_its_user_from_the_start_never_asks_as_nobody(
    show: Show, proxy: CuttingProxy, ada: str
) -> None:
    page = show(parts(), auth=True, user="ada", url=proxy.url)
    page.wait_for("me", ada)
    page.wait_for("auth", IN)
    assert page.shown("me") == [LOADING, ada]
    assert page.shown("auth") == [WAITING, IN]
    assert authenticated(proxy)[0] == "User"


def test_a_page_without_a_user_is_signed_out_and_asks_as_nobody(show: Show, desk: TokenDesk) -> None:
    page = show(parts(), auth=True, user=None)
    page.wait_for("auth", OUT)
    page.wait_for("me", None)
    assert page.call("write", {"text": "hi"}) == {"value": "nobody"}
    assert page.shown("auth") == [OUT]
    assert page.shown("profile") == []
    assert desk.asked == []


def test_a_user_whose_tokens_are_refused_is_signed_out_and_the_page_goes_on(
    show: Show, desk: TokenDesk, refused: Iterator[str]
) -> None:
    desk.issue = lambda _user, _fresh: next(refused)
    page = show(parts(), auth=True, user="ada")
    page.wait_for("auth", OUT)
    page.wait_for("me", None)
    assert page.shown("auth") == [WAITING, OUT]
    assert page.shown("me") == [LOADING, None]
    assert page.shown("profile") == []
    assert page.call("write", {"text": "hi"}) == {"value": "nobody"}
    # The client gives up after some attempts, and does not go on asking.
    assert 2 <= len(desk.asked) <= 4


def test_a_user_whose_first_token_is_refused_is_signed_in_by_the_second(
    show: Show, desk: TokenDesk, refused: Iterator[str], ada: str
) -> None:
    desk.issue = lambda user, fresh: desk.provider.token(user) if fresh else next(refused)
    page = show(parts(), auth=True, user="ada")
    page.wait_for("auth", IN)
    page.wait_for("me", ada)
    assert page.shown("auth") == [WAITING, IN]
    assert page.shown("me") == [LOADING, ada]


def test_a_token_is_refreshed_before_it_expires_and_nothing_on_the_page_moves(
    show: Show, desk: TokenDesk, proxy: CuttingProxy, ada: str
) -> None:
    # The client fetches anew ten seconds before the end: one second after this token came.
    desk.issue = lambda user, _fresh: desk.provider.token(user, expires_in_s=11)
    page = show(parts(), auth=True, user="ada", url=proxy.url)
    page.wait_for("profile", {"subject": "ada"})
    proxy.wait_for(lambda: len(authenticated(proxy)) == 4)
    assert page.call("write", {"text": "hi"}) == {"value": "ada"}
    assert page.shown("auth") == [WAITING, IN]
    assert page.shown("me") == [LOADING, ada]
    assert subjects(page) == [LOADING, "ada"]
    assert len(proxy.handshakes) == 1


def soon_expired(desk: TokenDesk) -> str:
    """A token that the server takes for two or three seconds more, and the client for long."""
    token = desk.provider.payload("ada", expires_in_s=-2)
    return desk.provider.key.sign(token | {"iat": token["iat"] - 3600})


def test_a_token_that_expires_is_replaced_and_its_user_stays_signed_in(
    show: Show, desk: TokenDesk, proxy: CuttingProxy, ada: str
) -> None:
    desk.issue = lambda user, _fresh: soon_expired(desk) if len(desk.asked) < 3 else desk.provider.token(user)
    page = show(parts(), auth=True, user="ada", url=proxy.url)
    page.until("() => window.shown.auth?.length === 4")
    assert page.call("write", {"text": "hi"}) == {"value": "ada"}
    assert page.shown("auth") == [WAITING, IN, REFRESHING, IN]
    assert page.shown("me") == [LOADING, ada]
    assert subjects(page) == [LOADING, "ada"]
    (error,) = [passed.message for passed in proxy.of_type("AuthError")]
    assert error["authUpdateAttempted"] is False


@pytest.mark.parametrize("answer", ["a refused token", "no token"])
def test_a_user_whose_expired_token_has_no_successor_is_signed_out(
    show: Show, desk: TokenDesk, refused: Iterator[str], ada: str, answer: str
) -> None:
    later = refused if answer == "a refused token" else itertools.repeat(None)
    desk.issue = lambda _user, _fresh: soon_expired(desk) if len(desk.asked) < 3 else next(later)
    page = show(parts(), auth=True, user="ada")
    page.wait_for("auth", IN)
    page.wait_for("auth", OUT)
    page.wait_for("me", None)
    assert page.shown("auth") == [WAITING, IN, REFRESHING, OUT]
    assert page.shown("me") == [LOADING, ada, None]
    assert page.call("write", {"text": "hi"}) == {"value": "nobody"}


def test_signing_out_takes_the_users_part_away_and_asks_the_rest_as_nobody(
    show: Show, desk: TokenDesk, proxy: CuttingProxy, ada: str
) -> None:
    page = show(parts(), auth=True, user="ada", url=proxy.url)
    page.wait_for("profile", {"subject": "ada"})
    page.wait_for("me", ada)
    page.sign_in(None)
    page.wait_for("auth", OUT)
    page.wait_for("me", None)
    page.until("() => document.getElementById('profile') === null")
    assert page.call("write", {"text": "hi"}) == {"value": "nobody"}
    assert authenticated(proxy)[-1] == "None"
    assert page.shown("auth") == [WAITING, IN, OUT]
    assert page.shown("me") == [LOADING, ada, None]
    # The part for users was never shown for nobody.
    assert subjects(page) == [LOADING, "ada"]


def test_another_user_never_sees_what_the_one_before_saw(show: Show, desk: TokenDesk) -> None:
    page = show(parts(), auth=True, user="ada")
    page.wait_for("profile", {"subject": "ada"})
    page.sign_in("bob")
    page.wait_for("profile", {"subject": "bob"})
    page.wait_for("me", f"{desk.provider.issuer}|bob")
    assert page.call("write", {"text": "hi"}) == {"value": "bob"}
    assert page.shown("auth") == [WAITING, IN, WAITING, IN]
    assert subjects(page) == [LOADING, "ada", LOADING, "bob"]
    assert not any(moment.get("auth") != IN and "profile" in moment for moment in page.moments)
