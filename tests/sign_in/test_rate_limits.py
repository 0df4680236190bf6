"""Who is told to wait, for how long, and who is not?"""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

import reactivedb as rdb
from reactivedb.testing import FakeClock

from .harness import House, RefusedError, open_house

pytestmark = pytest.mark.anyio


async def fail(house: House, name: str, times: int = 1, *, device: str | None = None) -> list[str]:
    """Try a wrong password; the codes that come back."""
    codes: list[str] = []
    for _ in range(times):
        with pytest.raises(RefusedError) as refused:
            await house.peer().sign_in(name, "wrong horse", device=device)
        codes.append(refused.value.code)
    return codes


@pytest.fixture
def limits() -> rdb.Limits:
    return rdb.Limits(sign_in_failures_max=3, sign_ups_max=3, anonymous_users_max=3)


async def test_after_so_many_failures_an_account_waits_and_recovers(
    clock: FakeClock, limits: rdb.Limits
) -> None:
    async with open_house(clock, limits=limits) as house:
        await house.peer().sign_up("ada")
        assert await fail(house, "ada", 3) == ["InvalidCredentials"] * 3
        with pytest.raises(RefusedError) as refused:
            await house.peer().sign_in("ada")
        assert refused.value.data == {
            "code": "RateLimited",
            "message": "too many attempts - wait for `retryAfterMs`",
            "retryAfterMs": 60_000,
        }
        clock.advance(59.9)
        assert await fail(house, "ada") == ["RateLimited"]
        # Being told to wait costs no time of its own.
        clock.advance(0.1)
        assert (await house.peer().sign_in("ada")).token
        assert await fail(house, "ada", 2) == ["InvalidCredentials", "RateLimited"]
        clock.advance(3600)
        assert await fail(house, "ada", 4) == ["InvalidCredentials"] * 3 + ["RateLimited"]


async def test_a_name_without_an_account_waits_as_well(clock: FakeClock, limits: rdb.Limits) -> None:
    async with open_house(clock, limits=limits) as house:
        assert await fail(house, "nobody", 4) == ["InvalidCredentials"] * 3 + ["RateLimited"]
        # Spelled otherwise it is the same name, and another one is another.
        assert await fail(house, " NOBODY ") == ["RateLimited"]
        assert await fail(house, "somebody") == ["InvalidCredentials"]


async def test_signing_in_as_often_as_one_likes_is_no_failure(clock: FakeClock, limits: rdb.Limits) -> None:
    async with open_house(clock, limits=limits) as house:
        await house.peer().sign_up("ada")
        for _ in range(5):
            await house.peer().sign_in("ada")
        assert await fail(house, "ada", 4) == ["InvalidCredentials"] * 3 + ["RateLimited"]


async def test_many_at_once_get_no_more_tries_than_one_after_another(
    clock: FakeClock, limits: rdb.Limits
) -> None:
    async with open_house(clock, limits=limits) as house:
        codes: list[str] = []

        async def try_it() -> None:
            codes.extend(await fail(house, "ada"))

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(try_it)
        assert sorted(codes) == ["InvalidCredentials"] * 3 + ["RateLimited"] * 7


async def test_an_attack_from_elsewhere_does_not_lock_out_a_known_device(
    clock: FakeClock, limits: rdb.Limits
) -> None:
    async with open_house(clock, limits=limits) as house:
        ada = await house.peer().sign_up("ada")
        await ada.mutation("signIn:signOut")
        await fail(house, "ada", 4)
        # The token is no good any more, and shows that this device once was let in.
        assert (await house.peer().sign_in("ada", device=ada.refresh_token)).user_id == ada.user_id
        # It has tries of its own, and no more of them than anybody.
        codes = await fail(house, "ada", 4, device=ada.refresh_token)
        assert codes == ["InvalidCredentials"] * 3 + ["RateLimited"]


async def test_a_session_that_is_there_goes_on_under_attack(clock: FakeClock, limits: rdb.Limits) -> None:
    async with open_house(clock, limits=limits) as house:
        ada = await house.peer().sign_up("ada")
        await fail(house, "ada", 4)
        await ada.refresh()
        await ada.change("correct horse", "battery staple")


async def test_the_device_of_another_user_is_an_unknown_one(clock: FakeClock, limits: rdb.Limits) -> None:
    async with open_house(clock, limits=limits) as house:
        await house.peer().sign_up("ada")
        eve = await house.peer().sign_up("eve")
        codes = await fail(house, "ada", 4, device=eve.refresh_token)
        assert codes == ["InvalidCredentials"] * 3 + ["RateLimited"]
        assert await fail(house, "ada") == ["RateLimited"]


async def test_a_stolen_session_guesses_its_password_as_slowly(clock: FakeClock, limits: rdb.Limits) -> None:
    async with open_house(clock, limits=limits) as house:
        ada = await house.peer().sign_up("ada")
        codes: list[str] = []
        for _ in range(4):
            with pytest.raises(RefusedError) as refused:
                await ada.change("wrong horse", "battery staple")
            codes.append(refused.value.code)
        assert codes == ["InvalidCredentials"] * 3 + ["RateLimited"]


async def test_one_password_on_many_names_is_slowed_down_too(clock: FakeClock) -> None:
    limits = rdb.Limits(sign_in_failures_total_max=3, sign_in_failure_total_recovery_s=2)
    async with open_house(clock, limits=limits) as house:
        ada = await house.peer().sign_up("ada")
        codes = [code for number in range(4) for code in await fail(house, f"user {number}")]
        assert codes == ["InvalidCredentials"] * 3 + ["RateLimited"]
        assert (await house.peer().sign_in("ada", device=ada.refresh_token)).token
        clock.advance(2)
        assert (await house.peer().sign_in("ada")).token


async def test_new_users_are_rationed(clock: FakeClock, limits: rdb.Limits) -> None:
    async with open_house(clock, limits=limits) as house:
        for number in range(3):
            await house.peer().sign_up(f"user {number}")
            await house.peer().begin()
        for refused_one in (house.peer().sign_up("one more"), house.peer().begin()):
            with pytest.raises(RefusedError, match="RateLimited"):
                await refused_one
        # Asking which names are taken is as slow.
        with pytest.raises(RefusedError, match="RateLimited"):
            await house.peer().sign_up("user 1")
        clock.advance(1)
        await house.peer().sign_up("one more")
        await house.peer().begin()


async def test_a_restart_gives_nobody_new_tries(clock: FakeClock, limits: rdb.Limits, tmp_path: Path) -> None:
    async with open_house(clock, tmp_path / "data.db", limits=limits) as house:
        assert await fail(house, "ada", 3) == ["InvalidCredentials"] * 3
    async with open_house(clock, tmp_path / "data.db", limits=limits) as house:
        assert await fail(house, "ada") == ["RateLimited"]


async def test_what_was_counted_is_forgotten_when_it_counts_no_more(clock: FakeClock) -> None:
    async with open_house(clock) as house:
        for number in range(6):
            await fail(house, f"user {number}")
        assert len(house.rows("_sign_in_rate_limits")) == 7
        clock.advance(3600)
        await fail(house, "one more")
        assert len(house.rows("_sign_in_rate_limits")) == 2


@pytest.mark.parametrize("jump_s", [30 * 24 * 3600, -30 * 24 * 3600, 120])
async def test_a_clock_that_is_set_gives_no_new_tries_and_takes_none(
    clock: FakeClock, limits: rdb.Limits, jump_s: float
) -> None:
    async with open_house(clock, limits=limits) as house:
        await house.peer().sign_up("ada")
        assert await fail(house, "ada", 3) == ["InvalidCredentials"] * 3
        clock.jump(jump_s)
        assert await fail(house, "ada") == ["RateLimited"]
        clock.jump(-jump_s)
        clock.advance(59.9)
        assert await fail(house, "ada") == ["RateLimited"]
        clock.advance(0.1)
        assert await fail(house, "ada", 2) == ["InvalidCredentials", "RateLimited"]
