"""Does a connection speak for its user, for nobody else, and no longer than the token says?"""

from __future__ import annotations

import base64
import json

import anyio
import pytest

import reactivedb as rdb
from reactivedb.auth import Verifier
from reactivedb.testing import FakeClock, LocalIdentityProvider

from .harness import House, module, open_house, values

pytestmark = pytest.mark.anyio


async def test_what_follows_a_token_waits_until_it_is_verified_and_keeps_its_order(house: House) -> None:
    peer = house.connect()
    peer.authenticate(house.provider.token("ada"))
    peer.follow("notes:whoami", "notes:signatures")
    peer.mutate(0, "notes:sign")
    peer.authenticate(house.provider.token("bob"))
    peer.mutate(1, "notes:sign")
    peer.authenticate(None)
    peer.mutate(2, "notes:sign")
    # Nothing was asked of anybody yet, and the loop was not held up.
    assert peer.messages == []
    answers = [await peer.next("MutationResponse") for _ in range(3)]
    assert [(answer["requestId"], answer["result"]) for answer in answers] == [
        (0, "ada"),
        (1, "bob"),
        (2, "nobody"),
    ]
    assert await house.ask("notes:signatures", None) == ["ada", "bob", "nobody"]


async def test_others_are_served_while_a_token_waits(house: House) -> None:
    waiting, other = house.connect(), house.connect()
    waiting.authenticate(house.provider.token("ada"))
    other.mutate(0, "notes:sign")
    assert (await other.next("MutationResponse"))["result"] == "nobody"
    waiting.follow("notes:whoami")
    assert values(await waiting.confirmed()) == {0: f"{house.provider.issuer}|ada"}


async def test_who_sends_too_much_while_a_token_waits_is_closed(house: House) -> None:
    peer = house.connect()
    peer.authenticate(house.provider.token("ada"))
    for number in range(house.runtime.limits.unread_messages_max + 1):
        peer.mutate(number, "notes:sign")
    assert peer.closed_with is not None
    assert peer.closed_with[0] == 1013
    assert peer.closed_with[1].startswith("TooManyConcurrentRequests")


async def test_a_connection_that_ends_while_its_token_waits_leaves_nothing(house: House) -> None:
    peer = house.connect()
    peer.authenticate(house.provider.token("ada"))
    peer.mutate(0, "notes:sign")
    peer.session.closed()
    await house.runtime.wait_until_idle()
    assert peer.messages == []
    assert await house.ask("notes:signatures", None) == []


async def test_a_bad_token_does_not_move_the_version_of_the_identity(house: House) -> None:
    peer = house.connect()
    peer.authenticate(house.provider.token("ada"))
    await peer.confirmed()
    peer.authenticate(house.provider.token("ada", aud="other"))
    error = await peer.next("AuthError")
    assert (error["baseVersion"], error["authUpdateAttempted"]) == (1, True)
    assert await peer.closed() == (1000, "WrongAudience")


async def test_a_provider_that_cannot_be_asked_makes_the_client_come_back(house: House) -> None:
    house.provider.is_failing = True
    token = house.provider.token("ada")
    peer = house.connect()
    peer.authenticate(token)
    assert await peer.closed() == (1013, "AuthProviderUnavailable")
    # An AuthError would have signed the user out.
    assert peer.messages == []
    answer = await house.post("notes:whoami", f"Bearer {token}")
    assert (answer.status_code, answer.json()["code"]) == (503, "AuthProviderUnavailable")
    house.provider.is_failing = False
    house.clock.advance(5)
    again = house.connect()
    again.authenticate(token)
    await again.confirmed()


async def signed_in(house: House, *, expires_in_s: float) -> None:
    """A peer with that token, whose keys the server knows already."""
    await house.ask("notes:whoami", house.provider.token("warming up"))
    peer = house.connect()
    peer.authenticate(house.provider.token("ada", expires_in_s=expires_in_s))
    peer.follow("notes:whoami")
    await peer.confirmed()


async def test_a_token_that_ends_closes_an_idle_connection(house: House) -> None:
    await signed_in(house, expires_in_s=60)
    peer = house.peers[-1]
    house.clock.advance(64)
    await house.runtime.wait_until_idle()
    assert peer.closed_with is None
    while not house.clock.sleeper_count:
        await anyio.lowlevel.checkpoint()
    house.clock.advance(1)
    error = await peer.next("AuthError")
    assert (error["baseVersion"], error["authUpdateAttempted"]) == (1, False)
    assert error["error"].startswith("TokenExpired")
    assert await peer.closed() == (1000, "TokenExpired")


async def test_nothing_runs_for_a_user_whose_token_has_ended(house: House) -> None:
    await signed_in(house, expires_in_s=60)
    peer = house.peers[-1]
    house.clock.advance(65)
    # The timer has had no turn of the loop yet.
    peer.mutate(0, "notes:sign")
    assert peer.closed_with == (1000, "TokenExpired")
    assert await house.ask("notes:signatures", None) == []


async def test_nothing_is_shown_to_a_user_whose_token_has_ended(house: House) -> None:
    await house.ask("notes:whoami", house.provider.token("warming up"))
    watcher, writer = house.connect(), house.connect()
    watcher.authenticate(house.provider.token("ada", expires_in_s=60))
    watcher.follow("notes:signatures")
    await watcher.confirmed()
    writer.mutate(0, "notes:sign")
    house.clock.advance(65)
    await watcher.closed()
    assert [message["type"] for message in watcher.messages] == ["AuthError"]


async def test_a_fresh_token_before_the_end_keeps_the_connection(house: House) -> None:
    await signed_in(house, expires_in_s=60)
    peer = house.peers[-1]
    house.clock.advance(50)
    peer.authenticate(house.provider.token("ada", expires_in_s=60))
    await peer.confirmed()
    house.clock.advance(50)
    peer.mutate(0, "notes:sign")
    assert (await peer.next("MutationResponse"))["result"] == "ada"
    # Whoever signs out has no token that could end.
    peer.authenticate(None)
    house.clock.advance(3600)
    peer.mutate(1, "notes:sign")
    assert (await peer.next("MutationResponse"))["result"] == "nobody"


async def test_a_fresh_token_under_way_when_the_old_one_ends_decides(house: House) -> None:
    await signed_in(house, expires_in_s=60)
    peer = house.peers[-1]
    house.provider.rotate()
    house.clock.advance(59)
    peer.authenticate(house.provider.token("ada", expires_in_s=60))
    house.clock.advance(10)
    peer.mutate(0, "notes:sign")
    assert (await peer.next("MutationResponse"))["result"] == "ada"
    assert peer.closed_with is None


def run_counts(house: House) -> dict[str, int]:
    return {live.path: live.run_count for live in house.runtime.cache._live}  # pyright: ignore[reportPrivateUsage]


async def test_a_fresh_token_of_the_same_user_runs_nothing_again(house: House) -> None:
    peer = house.connect()
    peer.authenticate(house.provider.token("ada", title="Countess"))
    peer.follow("notes:whoami", "notes:title", "notes:count")
    await peer.confirmed()
    peer.authenticate(house.provider.token("ada", title="Countess", expires_in_s=60))
    assert (await peer.confirmed())["modifications"] == []
    assert run_counts(house) == {"notes:whoami": 1, "notes:title": 1, "notes:count": 1}


async def test_a_changed_claim_runs_what_looked_at_the_identity_in_one_transition(house: House) -> None:
    peer = house.connect()
    peer.authenticate(house.provider.token("ada", title="Countess"))
    peer.follow("notes:whoami", "notes:title", "notes:count")
    await peer.confirmed()
    peer.authenticate(house.provider.token("bob", title="Baron"))
    transition = await peer.confirmed()
    assert values(transition) == {0: f"{house.provider.issuer}|bob", 1: "Baron"}
    assert (transition["startVersion"]["identity"], transition["endVersion"]["identity"]) == (1, 2)
    [counted] = [live for live in house.runtime.cache._live if live.path == "notes:count"]  # pyright: ignore[reportPrivateUsage]
    assert counted.run_count == 1
    peer.authenticate(None)
    assert values(await peer.confirmed()) == {0: None, 1: None}


async def test_a_large_result_that_stays_is_not_dropped_between_two_identities(
    provider: LocalIdentityProvider, clock: FakeClock
) -> None:
    async with open_house(provider, clock, limits=rdb.Limits(idle_result_size_bytes_max=0)) as house:
        peer = house.connect()
        peer.follow("notes:count")
        await peer.next("Transition")
        peer.authenticate(provider.token("ada"))
        assert (await peer.confirmed())["modifications"] == []
        assert run_counts(house) == {"notes:count": 1}


async def test_the_identity_goes_with_an_action_and_not_with_a_job(house: House) -> None:
    token = house.provider.token("ada")
    assert await house.ask("notes:signInAction", token, "action") == ["ada", "ada"]
    assert await house.ask("notes:sign", token, "mutation") == "ada"
    await house.ask("notes:signLater", token, "mutation")
    await house.runtime.wait_until_idle()
    assert await house.ask("notes:signatures", None) == ["ada", "ada", "nobody", "nobody"]


async def test_an_administrator_acts_as_a_user(house: House) -> None:
    user = {"issuer": "i", "subject": "s", "title": "Dr"}
    acting = base64.b64encode(json.dumps(user).encode()).decode()
    assert (await house.post("notes:title", f"Convex the key:{acting}")).json()["value"] == "Dr"
    assert (await house.post("notes:whoami", "Convex the key")).json()["value"] is None
    peer = house.connect()
    peer.tell(type="Authenticate", baseVersion=0, tokenType="Admin", value="the key", impersonating=user)
    peer.identity_version = 1
    peer.follow("notes:whoami", "notes:title")
    assert values(await peer.confirmed()) == {0: "i|s", 1: "Dr"}


async def test_a_reload_may_bring_other_providers(house: House) -> None:
    before = house.runtime.auth
    token = house.provider.token("ada")
    await house.ask("notes:whoami", token)
    house.runtime.reload(rdb.App(module(), root="", auth=house.runtime.app.auth))
    # The same providers keep their keys.
    assert house.runtime.auth is before
    house.runtime.reload(rdb.App(module(), root=""))
    assert (await house.post("notes:whoami", f"Bearer {token}")).json()["code"] == "NoAuthProvider"
    house.runtime.trust(house.provider.oidc())
    assert await house.ask("notes:whoami", token) is not None


async def test_an_accident_while_a_token_is_verified_costs_one_connection(house: House) -> None:
    async def broken(host: str, port: int) -> list[str]:
        raise KeyError(host)

    house.runtime.trusted.verifier = Verifier(
        [house.provider.oidc()],
        clock=house.clock,
        limits=house.runtime.limits,
        allow_private=lambda: True,
        resolve=broken,
    )
    other, unlucky = house.connect(), house.connect()
    unlucky.authenticate(house.provider.token("ada"))
    unlucky.mutate(0, "notes:sign")
    assert (await unlucky.closed())[0] == 1013
    other.mutate(0, "notes:sign")
    assert (await other.next("MutationResponse"))["result"] == "nobody"
    assert await house.ask("notes:signatures", None) == ["nobody"]
