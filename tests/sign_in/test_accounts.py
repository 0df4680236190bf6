"""Do accounts, passwords and anonymous users do what the guide says?"""

from __future__ import annotations

import sys
import time

import anyio
import pytest
from anyio.lowlevel import checkpoint
from argon2 import PasswordHasher

import reactivedb as rdb
from reactivedb.sign_in import passwords
from reactivedb.testing import FakeClock

from .harness import PASSWORD, House, RefusedError, open_house, payload_of

pytestmark = pytest.mark.anyio


async def test_who_signs_up_is_signed_in_and_can_sign_in_again(house: House) -> None:
    ada = await house.peer().sign_up("Ada")
    assert await ada.whoami() == ada.user_id
    assert await ada.query("notes:claims") == {"name": "Ada", "anonymous": False}
    again = await house.peer().sign_in("Ada")
    assert (await again.whoami(), again.token != ada.token) == (ada.user_id, True)


async def test_a_wrong_password_and_an_unknown_name_are_answered_alike(house: House) -> None:
    await house.peer().sign_up("ada")
    told: list[tuple[int, object]] = []
    attempts = [("ada", "wrong horse"), ("bob", PASSWORD), ("", PASSWORD), ("a" * 200, PASSWORD), ("ada", "")]
    for name, password in attempts:
        with pytest.raises(RefusedError) as refused:
            await house.peer().sign_in(name, password)
        told.append((refused.value.status, refused.value.data))
    assert told[0][1] == {
        "code": "InvalidCredentials",
        "message": "there is no account with this name and this password",
    }
    assert all(answer == told[0] for answer in told)


@pytest.mark.slow
async def test_an_unknown_name_is_as_much_work_as_a_wrong_password() -> None:
    hash = await passwords.hashed(PASSWORD)

    async def seconds(hash: str | None) -> float:
        began = time.perf_counter()
        assert await passwords.verify(hash, "wrong horse") is None
        return time.perf_counter() - began

    known = min([await seconds(hash) for _ in range(5)])
    unknown = min([await seconds(None) for _ in range(5)])
    assert known / 2 < unknown < known * 2


async def test_names_differ_by_more_than_case_width_and_blanks(house: House) -> None:
    ada = await house.peer().sign_up(" Straße ")
    assert (await ada.query("signIn:session"))["name"] == "Straße"
    for name in ("STRASSE", "straße", " \uff33trasse"):
        with pytest.raises(RefusedError, match="NameTaken"):
            await house.peer().sign_up(name)
        assert (await house.peer().sign_in(name)).user_id == ada.user_id


async def test_a_password_is_the_same_however_its_letters_are_composed(house: House) -> None:
    ada = await house.peer().sign_up("ada", "caf\u00e9 au lait")
    assert (await house.peer().sign_in("ada", "cafe\u0301 au lait")).user_id == ada.user_id


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\u2028b", "a" * 129, "\ufdfa" * 20])
async def test_a_name_that_cannot_be_one_is_refused(house: House, name: str) -> None:
    with pytest.raises(RefusedError) as refused:
        await house.peer().sign_up(name)
    assert refused.value.code == "InvalidName"


@pytest.mark.parametrize("password", ["", "1234567", "x" * 1025, "\u00e9" * 513, "x" * 5_000_000])
async def test_a_password_too_short_or_too_long_is_refused_before_it_is_hashed(
    house: House, password: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        await house.peer().sign_up("ada", password)
    assert refused.value.code == "InvalidPassword"
    # Not counted either: nothing was hashed.
    assert house.rows("_sign_in_rate_limits") == []
    with pytest.raises(RefusedError, match="InvalidCredentials"):
        await house.peer().sign_in("ada", "x" * 5_000_000)
    assert house.rows("_sign_in_rate_limits") == []


async def test_of_many_who_want_one_name_at_once_one_gets_it(house: House) -> None:
    outcomes: list[str] = []

    async def try_it() -> None:
        try:
            outcomes.append((await house.peer().sign_up("ada")).user_id or "")
        except RefusedError as refused:
            outcomes.append(refused.code)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(try_it)
    assert outcomes.count("NameTaken") == 3
    assert len(house.rows("_sign_in_users")) == len(house.rows("_sign_in_passwords")) == 1


async def test_the_loop_turns_while_a_password_is_hashed(house: House) -> None:
    turns_while_hashing = 0
    ended = anyio.Event()

    async def sign_up() -> None:
        await house.peer().sign_up("ada")
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sign_up)
        while not ended.is_set():
            turns_while_hashing += 1
            await checkpoint()
    # All else that signing up does takes some dozens.
    assert turns_while_hashing > 200


async def test_too_many_who_wait_for_a_hash_are_sent_away(clock: FakeClock) -> None:
    limits = rdb.Limits(password_hashes_waiting_max=1)
    async with open_house(clock, limits=limits) as house:
        outcomes: list[object] = []

        async def try_it(name: str) -> None:
            try:
                await house.peer().sign_up(name)
                outcomes.append("signed up")
            except RefusedError as refused:
                outcomes.append((refused.code, refused.data.get("retryAfterMs")))

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(try_it, f"user {number}")
        assert sorted(map(str, outcomes)) == ["('RateLimited', 2000)"] * 2 + ["signed up"]


async def test_a_hash_of_older_settings_is_made_anew_when_its_owner_signs_in(house: House) -> None:
    await house.peer().sign_up("ada")
    (row,) = house.rows("_sign_in_passwords")
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    house.rewrite("_sign_in_passwords", row["_id"], hash=weak)
    await house.peer().sign_in("ada")
    (row,) = house.rows("_sign_in_passwords")
    assert row["hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    await house.peer().sign_in("ada")
    assert house.rows("_sign_in_passwords") == [row]


async def test_an_anonymous_user_stays_the_same_with_an_account(house: House) -> None:
    guest = await house.peer().begin()
    before, user_id, session = guest.refresh_token, guest.user_id, await guest.query("signIn:session")
    assert session["name"] is None
    assert await guest.query("notes:claims") == {"name": None, "anonymous": True}
    await guest.sign_up("ada")
    assert guest.user_id == user_id == await guest.whoami()
    assert await guest.query("notes:claims") == {"name": "ada", "anonymous": False}
    assert (await house.peer().sign_in("ada")).user_id == user_id
    # What somebody may have seen of the time before leads nowhere now.
    with pytest.raises(RefusedError, match="SessionEnded"):
        await house.peer().refresh(before)


async def test_who_has_an_account_cannot_make_another_one_of_it(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    with pytest.raises(RefusedError, match="HasAccount"):
        await ada.sign_up("ada two")


async def test_changing_a_password_takes_the_old_one_and_ends_other_sessions(house: House) -> None:
    ada, elsewhere = await house.peer().sign_up("ada"), await house.peer().sign_in("ada")
    with pytest.raises(RefusedError, match="InvalidCredentials"):
        await ada.change("wrong horse", "battery staple")
    with pytest.raises(RefusedError, match="InvalidPassword"):
        await ada.change(PASSWORD, "short")
    await ada.change(PASSWORD, "battery staple")
    assert (await ada.query("signIn:session"))["userId"] == ada.user_id
    await ada.refresh()
    assert await elsewhere.query("signIn:session") is None
    with pytest.raises(RefusedError, match="SessionEnded"):
        await elsewhere.refresh()
    with pytest.raises(RefusedError, match="InvalidCredentials"):
        await house.peer().sign_in("ada")
    assert (await house.peer().sign_in("ada", "battery staple")).user_id == ada.user_id


async def test_a_password_that_changes_while_another_one_is_verified_wins(house: House) -> None:
    await house.peer().sign_up("ada")
    (row,) = house.rows("_sign_in_passwords")
    late = house.peer()

    async def sign_in() -> None:
        with pytest.raises(RefusedError, match="InvalidCredentials"):
            await late.sign_in("ada")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sign_in)
        # Its attempt has been counted, so it is being verified.
        while not any(bucket["key"].startswith("account:") for bucket in house.rows("_sign_in_rate_limits")):
            await checkpoint()
        house.rewrite("_sign_in_passwords", row["_id"], hash="changed meanwhile")
    assert late.token is None


async def test_only_somebody_signed_in_with_a_password_can_change_one(house: House) -> None:
    with pytest.raises(RefusedError, match="NotSignedIn"):
        await house.peer().change(PASSWORD, "battery staple")
    with pytest.raises(RefusedError, match="HasNoPassword"):
        await (await house.peer().begin()).change(PASSWORD, "battery staple")


async def test_an_administrator_sets_a_forgotten_password(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    path, new = "_system/signIn:setPassword", "battery staple"
    with pytest.raises(RefusedError, match="permission"):
        await ada.action(path, name="ada", password=new)
    await house.call_as_admin("action", path, name="Ada", password=new)
    with pytest.raises(RefusedError, match="SessionEnded"):
        await ada.refresh()
    with pytest.raises(RefusedError, match="InvalidCredentials"):
        await house.peer().sign_in("ada")
    assert (await house.peer().sign_in("ada", new)).user_id == ada.user_id
    with pytest.raises(RefusedError, match="InvalidCredentials"):
        await house.call_as_admin("action", path, name="bob", password=new)


async def test_an_anonymous_user_whose_session_has_ended_gets_no_account(house: House) -> None:
    guest = await house.peer().begin()
    await guest.mutation("signIn:signOut")
    with pytest.raises(RefusedError, match="SessionEnded"):
        await guest.sign_up("ada")
    assert house.rows("_sign_in_passwords") == []


async def test_only_what_is_declared_can_be_called(clock: FakeClock) -> None:
    async with open_house(clock, sign_in=rdb.SignIn(anonymous=True)) as house:
        guest = await house.peer().begin()
        for path in ("signIn:signUp", "signIn:withPassword", "signIn:changePassword"):
            with pytest.raises(RefusedError, match="ould not find public function"):
                await guest.action(path, name="ada", password=PASSWORD)
    async with open_house(clock, sign_in=None) as house:
        with pytest.raises(RefusedError, match="ould not find public function"):
            await house.peer().begin()


async def test_the_steps_in_between_are_nobodys_to_call(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    for step in ("finishSignIn", "refresh", "beginAnonymous"):
        for kind in (ada.mutation, ada.action, ada.query):
            with pytest.raises(RefusedError, match="permission"):
                await kind(f"_system/signIn:{step}")


async def test_who_reads_a_user_by_its_id_is_not_sent_back_and_forth(house: House) -> None:
    peer = await house.peer().sign_up("ada")
    with pytest.raises(RefusedError, match="no function can read that one"):
        await peer.mutation("notes:attack", id=peer.user_id, how="system get")


async def test_dashboards_see_the_functions_and_not_the_steps(house: House) -> None:
    spec = await house.call_as_admin("query", "_system/cli/modules:apiSpec")
    names = {entry["identifier"] for entry in spec if entry["identifier"].lower().count("sign")}
    assert "signIn.js:withPassword" in names
    assert not any("_system" in name for name in names)


async def test_a_token_says_whose_it_is_for_how_long_and_for_whom(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    claims = payload_of(ada.token or "")
    now_s = house.clock.now_ns() // 1_000_000_000
    session = await ada.query("signIn:session")
    assert claims.pop("jti")
    assert claims.pop("iss").startswith("urn:reactivedb:")
    assert claims == {
        "sub": ada.user_id,
        "sid": session["sessionId"],
        "name": "ada",
        "aud": "reactivedb",
        "iat": now_s,
        "exp": now_s + 600,
    }


def test_a_sign_in_that_cannot_work_is_refused_when_it_is_declared() -> None:
    for wrong in (
        {},
        {"password": True, "access_token_s": 5},
        {"password": True, "access_token_s": 86_400},
        {"anonymous": True, "idle_session_s": 60},
    ):
        with pytest.raises(rdb.SchemaError) as caught:
            rdb.SignIn(**wrong)
        assert caught.value.code == "InvalidSignIn"
    with pytest.raises(rdb.SchemaError):
        rdb.App(sign_in=True)  # pyright: ignore[reportArgumentType]


def test_without_the_extra_a_declaration_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    # As the import system has it for a module that is not there.
    monkeypatch.setitem(sys.modules, "argon2", None)
    assert rdb.SignIn(anonymous=True).password is False
    with pytest.raises(rdb.SchemaError, match=r"reactivedb\[sign-in\]") as caught:
        rdb.SignIn(password=True)
    assert caught.value.code == "MissingDependency"
