"""Is every token refused that we did not sign, for this database, for now?"""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

import reactivedb as rdb
from reactivedb.auth.signing import SigningKey
from reactivedb.testing import FakeClock, LocalIdentityProvider

from .harness import PASSWORD, House, RefusedError, header_of, open_house, payload_of, with_payload

pytestmark = pytest.mark.anyio

DAY_S = 24 * 3600


async def test_a_forged_token(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    token = ada.token or ""
    claims, key_id = payload_of(token), header_of(token)["kid"]
    assert await house.refused(SigningKey.generate(key_id).sign(claims)) == "InvalidSignature"
    assert await house.refused(SigningKey.generate("other").sign(claims)) == "UnknownKey"
    assert await house.refused(SigningKey.generate(key_id, "ES256").sign(claims)) == "WrongAlgorithm"
    unsigned = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": key_id}).encode()).rstrip(b"=")
    assert await house.refused(f"{unsigned.decode()}.{token.split('.')[1]}.AA") == "WrongAlgorithm"


@pytest.mark.parametrize("claim", ["sub", "sid", "name", "exp", "anonymous"])
async def test_a_token_whose_claims_were_changed(house: House, claim: str) -> None:
    ada, bob = await house.peer().sign_up("ada"), await house.peer().sign_up("bob")
    new = {**payload_of(bob.token or ""), "exp": house.clock.now_ns() // 10**9 + DAY_S, "anonymous": True}[
        claim
    ]
    assert await house.refused(with_payload(ada.token or "", **{claim: new})) == "InvalidSignature"


async def test_a_token_for_another_audience(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    assert await house.refused(with_payload(ada.token or "", aud="other")) == "WrongAudience"


async def test_a_token_that_has_expired(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    house.clock.advance(604)
    assert await ada.whoami() == ada.user_id
    house.clock.advance(2)
    assert await house.refused(ada.token or "") == "TokenExpired"


async def test_a_token_of_another_deployment(house: House, clock: FakeClock) -> None:
    async with open_house(clock) as other:
        theirs = await other.peer().sign_up("ada")
    assert await house.refused(theirs.token or "") == "WrongIssuer"
    with pytest.raises(RefusedError, match="SessionEnded"):
        await house.peer().refresh(theirs.refresh_token)


async def test_a_token_of_a_copy_of_the_database(clock: FakeClock, tmp_path: Path) -> None:
    async with open_house(clock, tmp_path / "data.db") as house:
        await house.peer().sign_up("ada")
    shutil.copy(tmp_path / "data.db", tmp_path / "copy.db")
    async with open_house(clock, tmp_path / "copy.db") as copy:
        theirs = await copy.peer().sign_in("ada")
    async with open_house(clock, tmp_path / "data.db") as house:
        assert await house.refused(theirs.token or "") == "UnknownKey"
        with pytest.raises(RefusedError, match="SessionEnded"):
            await house.peer().refresh(theirs.refresh_token)


async def test_users_of_a_provider_are_strangers_to_sign_in(house: House, clock: FakeClock) -> None:
    with LocalIdentityProvider(clock=clock) as provider:
        house.runtime.trust(provider.oidc())
        ada = await house.peer().sign_up("ada")
        session = payload_of(ada.token or "")["sid"]
        stranger = house.peer()
        # It says what our tokens say, and is verified; but it is another issuer's word.
        stranger.token = provider.token(ada.user_id or "", sid=session)
        assert await stranger.whoami() == ada.user_id
        assert await stranger.query("signIn:session") is None
        await stranger.mutation("signIn:signOut")
        with pytest.raises(RefusedError, match="NotSignedIn"):
            await stranger.change(PASSWORD, "battery staple")
        assert (await ada.query("signIn:session"))["sessionId"] == session


def everything_in(folder: Path) -> bytes:
    """The bytes of the database and its log, and not its keys."""
    parts = [part for part in folder.iterdir() if part.suffix != ".sign_in_keys"]
    return b"".join(part.read_bytes() for part in parts if part.is_file())


async def test_nothing_that_is_stored_lets_its_reader_in(clock: FakeClock, tmp_path: Path) -> None:
    file = tmp_path / "data.db"
    async with open_house(clock, file) as house:
        ada = await house.peer().sign_up("ada")
        await ada.refresh()
        shown = [PASSWORD, *(ada.token or "").split("."), *(ada.refresh_token or "").split(".")]
        stored = everything_in(tmp_path)
        keys = (tmp_path / "data.db.sign_in_keys").read_text()
        shown += [json.loads(keys)["refresh_secret"], json.loads(keys)["keys"][0]["pem"].split("\n")[1]]
        assert b"$argon2id$" in stored
        assert [secret for secret in shown[1:] if secret.encode() in stored] == []
        assert PASSWORD.encode() not in stored


async def test_the_keys_are_their_owners_alone(clock: FakeClock, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with open_house(clock, tmp_path / "data.db"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "data.db.sign_in_keys").stat().st_mode) == 0o600


@pytest.mark.parametrize("how", ["get", "system get", "patch", "replace", "delete"])
async def test_functions_reach_none_of_it_by_an_id(house: House, how: str) -> None:
    ada = await house.peer().sign_up("ada")
    tables = ("_sign_in_users", "_sign_in_passwords", "_sign_in_sessions", "_sign_in_rate_limits")
    for table in tables:
        before = house.rows(table)
        for row in before:
            with pytest.raises(RefusedError, match="SystemTable"):
                await ada.mutation("notes:attack", id=row["_id"], how=how)
        assert house.rows(table) == before


@pytest.mark.parametrize("how", ["query", "insert"])
async def test_functions_reach_none_of_it_by_a_name(house: House, how: str) -> None:
    for table in ("_sign_in_users", "_sign_in_passwords", "_sign_in_sessions"):
        with pytest.raises(RefusedError, match="SystemTable"):
            await house.peer().mutation("notes:attack", id=table, how=how)
        assert house.rows(table) == []


async def test_only_administrators_list_tables_and_they_see_no_key(house: House) -> None:
    ada = await house.peer().sign_up("ada")
    listing = "_system/frontend/listTableScan"
    with pytest.raises(RefusedError, match="permission"):
        await ada.query(listing, table="_sign_in_passwords", limit=10)
    told = [
        await house.call_as_admin("query", listing, table=table, limit=100)
        for table in ("_sign_in_users", "_sign_in_passwords", "_sign_in_sessions", "_sign_in_rate_limits")
    ]
    text = json.dumps(told)
    assert len(told[0]) == len(told[1]) == len(told[2]) == 1
    secrets = [PASSWORD, *(ada.token or "").split("."), *(ada.refresh_token or "").split("."), "PRIVATE"]
    assert [secret for secret in secrets if secret in text] == []


async def until_signed_by_another(house: House, key_id: str) -> str:
    """Sign in until the new key, which a task of the database makes, has signed."""
    with anyio.fail_after(5):
        while True:
            token = (await house.peer().begin()).token or ""
            if header_of(token)["kid"] != key_id:
                return token
            await checkpoint()


async def test_a_key_is_replaced_in_time_and_accepted_as_long_as_its_tokens_last(
    clock: FakeClock, tmp_path: Path
) -> None:
    file = tmp_path / "data.db"
    async with open_house(clock, file) as house:
        clock.advance(90 * DAY_S - 60)
        old = (await house.peer().begin()).token or ""
        clock.advance(60)
        new = await until_signed_by_another(house, header_of(old)["kid"])
        assert len(json.loads((tmp_path / "data.db.sign_in_keys").read_text())["keys"]) == 2
        # Both are accepted now, and after a restart.
        assert len({await house.call("query", "notes:whoami", token) for token in (old, new)}) == 2
    async with open_house(clock, file) as house:
        assert len({await house.call("query", "notes:whoami", token) for token in (old, new)}) == 2
        clock.advance(3600 + 61)
        with anyio.fail_after(5):
            while len(json.loads((tmp_path / "data.db.sign_in_keys").read_text())["keys"]) == 2:
                await checkpoint()
        assert await house.refused(with_payload(old, exp=clock.now_ns() // 10**9 + 60)) == "UnknownKey"
        assert header_of((await house.peer().begin()).token or "")["kid"] == header_of(new)["kid"]


async def test_without_its_keys_a_database_makes_others_and_nobody_is_signed_out(
    clock: FakeClock, tmp_path: Path
) -> None:
    file = tmp_path / "data.db"
    async with open_house(clock, file) as house:
        ada = await house.peer().sign_up("ada")
        assert ada.token
    (tmp_path / "data.db.sign_in_keys").unlink()
    async with open_house(clock, file) as house:
        assert await house.refused(ada.token) == "UnknownKey"
        ada.house = house
        assert await (await ada.refresh()).whoami() == ada.user_id


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"refresh_secret": "00", "keys": [{"id": "a"}]}', "\xff"])
async def test_keys_that_cannot_be_read_are_told_with_the_way_out(
    clock: FakeClock, tmp_path: Path, text: str
) -> None:
    (tmp_path / "data.db.sign_in_keys").write_text(text)
    with pytest.raises(rdb.StorageError, match="delete it") as caught:
        async with open_house(clock, tmp_path / "data.db"):
            pass
    assert caught.value.code == "SignInKeysUnreadable"


async def test_sign_in_that_is_declared_again_finds_its_users(clock: FakeClock, tmp_path: Path) -> None:
    file = tmp_path / "data.db"
    async with open_house(clock, file) as house:
        ada = await house.peer().sign_up("ada")
    async with open_house(clock, file, sign_in=None) as house:
        assert await house.refused(ada.token or "") == "NoAuthProvider"
    async with open_house(clock, file) as house:
        ada.house = house
        assert await (await ada.refresh()).whoami() == ada.user_id
        assert (await house.peer().sign_in("ada")).user_id == ada.user_id


async def test_sign_in_can_be_declared_and_withdrawn_while_the_database_is_open(
    clock: FakeClock, tmp_path: Path
) -> None:
    async with open_house(clock, tmp_path / "data.db", sign_in=None) as house:
        without = house.runtime.app
        async with open_house(clock, sign_in=rdb.SignIn(anonymous=True)) as other:
            declares_it = other.runtime.app
        house.runtime.reload(declares_it)
        guest = await house.peer().begin()
        assert await guest.whoami() == guest.user_id
        house.runtime.reload(without)
        assert await house.refused(guest.token or "") == "NoAuthProvider"
        house.runtime.reload(declares_it)
        assert await guest.whoami() == guest.user_id
