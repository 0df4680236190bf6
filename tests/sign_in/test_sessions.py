"""Does a session go on as long as its user wants, and no longer?"""

from __future__ import annotations

import secrets
from pathlib import Path

import anyio
import pytest
from auth.harness import Peer as SocketPeer
from auth.harness import values

import reactivedb as rdb
from reactivedb.testing import FakeClock

from .harness import House, Peer, RefusedError, open_house

pytestmark = pytest.mark.anyio

DAY_S = 24 * 3600


async def is_over(peer: Peer) -> bool:
    """Whether nothing more is had with the peer's newest refresh token."""
    try:
        await peer.refresh()
    except RefusedError as refused:
        return refused.code == "SessionEnded"
    return False


async def test_each_refresh_gives_new_tokens_of_the_same_user_and_session(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    session = await ada.query("signIn:session")
    tokens, refresh_tokens = {ada.token}, {ada.refresh_token}
    for _ in range(5):
        house.clock.advance(500)
        await ada.refresh()
        tokens.add(ada.token)
        refresh_tokens.add(ada.refresh_token)
        assert await ada.query("signIn:session") == session
    assert (len(tokens), len(refresh_tokens)) == (6, 6)


async def test_a_refresh_token_that_was_used_before_ends_the_session(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    stolen = ada.refresh_token
    await ada.refresh()
    house.clock.advance(61)
    with pytest.raises(RefusedError, match="SessionEnded"):
        await house.peer().refresh(stolen)
    assert await is_over(ada)
    assert await ada.query("signIn:session") is None
    (row,) = house.rows("_sign_in_sessions")
    assert row["ended"] == "reused"


async def test_any_old_token_of_a_session_ends_it(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    first = ada.refresh_token
    for _ in range(30):
        house.clock.advance(500)
        await ada.refresh()
    with pytest.raises(RefusedError, match="SessionEnded"):
        await house.peer().refresh(first)
    assert await is_over(ada)


async def test_a_thief_who_refreshes_first_is_found_out_by_the_owner(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    thief = house.peer()
    await thief.refresh(ada.refresh_token)
    for _ in range(3):
        house.clock.advance(500)
        await thief.refresh()
    assert await is_over(ada)
    assert await is_over(thief)


async def test_an_answer_that_was_lost_is_given_again(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    before = ada.refresh_token
    await ada.refresh()
    answer = ada.refresh_token
    house.clock.advance(59)
    await ada.refresh(before)
    assert ada.refresh_token == answer
    house.clock.advance(500)
    assert not await is_over(ada)


async def test_two_tabs_that_refresh_at_once_both_stay_signed_in(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    tabs = [Peer(house, ada.token, ada.refresh_token) for _ in range(4)]
    for _ in range(3):
        async with anyio.create_task_group() as tasks:
            for tab in tabs:
                tasks.start_soon(tab.refresh)
        assert len({tab.refresh_token for tab in tabs}) == 1
        assert len({tab.token for tab in tabs}) == 4
        house.clock.advance(500)
    # One of them was slow, and has missed two rounds of the others in this minute.
    slow = Peer(house, refresh_token=tabs[0].refresh_token)
    for _ in range(2):
        house.clock.advance(10)
        await tabs[0].refresh()
    await slow.refresh()
    assert slow.refresh_token == tabs[0].refresh_token


async def test_what_is_no_refresh_token_ends_nothing(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    family, _, secret = (ada.refresh_token or "").partition(".")
    # Whoever knows a session's id, or guesses, cannot end it: a family is as secret as the rest.
    other = secrets.token_urlsafe(16)
    for text in (
        "",
        ".",
        "x" * 10_000,
        f"{family}.",
        f".{secret}",
        f"{other}.{secret}",
        "\u00e9.\u00e9",
        secret,
    ):
        with pytest.raises(RefusedError, match="SessionEnded"):
            await house.peer().refresh(text or "-")
        await house.peer().mutation("signIn:signOut", refreshToken=text)
    assert not await is_over(ada)


async def test_a_session_gets_so_many_tokens_a_minute(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    for _ in range(16):
        await ada.refresh()
    house.clock.advance(20)
    with pytest.raises(RefusedError) as refused:
        await ada.refresh()
    assert refused.value.data == {
        "code": "RateLimited",
        "message": "too many attempts - wait for `retryAfterMs`",
        "retryAfterMs": 40_000,
    }
    house.clock.advance(40)
    assert not await is_over(ada)


async def test_after_signing_out_nothing_more_is_had(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    await ada.mutation("signIn:signOut")
    assert await is_over(ada)
    assert await ada.query("signIn:session") is None
    # The token that is out ends by itself, within minutes.
    assert await ada.whoami() == ada.user_id
    house.clock.advance(606)
    assert await house.refused(ada.token or "") == "TokenExpired"
    await house.peer().mutation("signIn:signOut")


async def test_signing_out_needs_no_token_that_is_still_good(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    house.clock.advance(DAY_S)
    await house.peer().mutation("signIn:signOut", refreshToken=ada.refresh_token)
    assert await is_over(ada)


async def test_one_session_ends_without_the_others(house: House) -> None:
    ada, phone = await house.peer().sign_up("ada"), await house.peer().sign_in("ada")
    await phone.mutation("signIn:signOut")
    assert await is_over(phone)
    assert not await is_over(ada)


async def test_signing_out_everywhere_ends_all_sessions_of_that_user(house: House) -> None:
    ada, phone = await house.peer().sign_up("ada"), await house.peer().sign_in("ada")
    bob = await house.peer().sign_up("bob")
    assert [row["isCurrent"] for row in await ada.query("signIn:sessions")] == [False, True]
    await phone.mutation("signIn:signOutEverywhere")
    assert (await is_over(ada), await is_over(phone), await is_over(bob)) == (True, True, False)
    assert await ada.query("signIn:sessions") == []
    with pytest.raises(RefusedError, match="NotSignedIn"):
        await ada.mutation("signIn:signOutEverywhere")


async def test_the_end_of_a_session_is_seen_at_once_by_who_follows_it(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    socket = SocketPeer(house.runtime)
    socket.authenticate(ada.token)
    socket.follow("signIn:session")
    assert values(await socket.confirmed())[0]["name"] == "ada"
    await house.peer().mutation("signIn:signOut", refreshToken=ada.refresh_token)
    assert values(await socket.next("Transition")) == {0: None}
    socket.session.closed()


async def test_a_session_that_nobody_uses_ends(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    house.clock.advance(29 * DAY_S)
    assert not await is_over(ada)
    house.clock.advance(29 * DAY_S)
    assert not await is_over(ada)
    house.clock.advance(31 * DAY_S)
    assert await is_over(ada)


async def test_a_session_goes_on_after_a_restart_and_under_another_name(
    clock: FakeClock, tmp_path: Path
) -> None:
    file = tmp_path / "data.db"
    async with open_house(clock, file, url="http://one.example") as house:
        ada = await house.peer().sign_up("ada")
    async with open_house(clock, file, url="https://two.example:8443") as house:
        ada.house = house
        assert await ada.whoami() == ada.user_id
        before = ada.refresh_token
        await ada.refresh()
    async with open_house(clock, file) as house:
        # Also the answer that was lost in the restart is the same one.
        lost = house.peer()
        assert (await lost.refresh(before)).refresh_token == ada.refresh_token


async def test_old_sessions_make_room(clock: FakeClock) -> None:
    async with open_house(clock, limits=rdb.Limits(sign_in_sessions_per_user_max=3)) as house:
        first = await house.peer().sign_up("ada")
        others: list[Peer] = []
        for _ in range(3):
            clock.advance(1)
            others.append(await house.peer().sign_in("ada"))
        assert await is_over(first)
        assert not any([await is_over(other) for other in others])
        for other in others:
            await other.mutation("signIn:signOut")
        clock.advance(31 * DAY_S)
        await house.peer().sign_up("bob")
        assert len(house.rows("_sign_in_sessions")) == 1


async def test_a_clock_that_was_a_year_ahead_ends_no_session(house: House) -> None:
    ada, grace = await house.peer().sign_up("ada"), await house.peer().sign_up("grace")
    house.clock.jump(365 * DAY_S)
    await ada.refresh()
    # New sessions make room by forgetting old ones.
    for _ in range(3):
        await house.peer().sign_in("ada")
    house.clock.jump(-365 * DAY_S)
    await ada.refresh()
    await grace.refresh()
    for _ in range(20):
        house.clock.advance(61)
        await ada.refresh()
