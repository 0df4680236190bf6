"""Is every token refused that proves nobody, at every door? One test per attack."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

import reactivedb as rdb
from reactivedb.auth.signing import SigningKey
from reactivedb.testing import FakeClock, LocalIdentityProvider

from .harness import House, encoded, forged, open_house, signing_input

pytestmark = pytest.mark.anyio


async def test_a_good_token_is_taken_by_every_door(house: House) -> None:
    token = house.provider.token("ada")
    expected = f"{house.provider.issuer}|ada"
    assert await house.ask("notes:whoami", token) == expected
    assert await house.ask("notes:whoami", None) is None
    peer = house.connect()
    peer.authenticate(token)
    peer.follow("notes:whoami")
    assert (await peer.confirmed())["modifications"][0]["value"] == expected


async def test_an_expired_token(house: House) -> None:
    assert await house.refuse(house.provider.token("ada", expires_in_s=-6)) == "TokenExpired"


async def test_a_token_that_expired_within_the_leeway_is_still_good(house: House) -> None:
    assert await house.ask("notes:whoami", house.provider.token("ada", expires_in_s=-4)) is not None


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_a_token_that_is_not_valid_yet(house: House, claim: str) -> None:
    now_s = house.clock.now_ns() / 1e9
    early = house.provider.token("ada", **{claim: now_s + 600})
    assert await house.refuse(early) == "TokenNotYetValid"
    assert await house.ask("notes:whoami", house.provider.token("ada", **{claim: now_s + 4})) is not None


async def test_a_token_that_never_expires(house: House) -> None:
    assert await house.refuse(house.provider.token("ada", exp=None)) == "MalformedToken"


@pytest.mark.parametrize("exp", ["tomorrow", True, 10**400, [1]])
async def test_an_expiry_that_is_no_time(house: House, exp: Any) -> None:
    token = forged({"alg": "EdDSA", "kid": "key-1"}, house.provider.payload("ada", exp=exp), b"x")
    assert await house.refuse(token) == "MalformedToken"


async def test_a_token_for_another_audience(house: House) -> None:
    for audience in ("other", ["other", "another"], [], None, {"app": 1}):
        assert await house.refuse(house.provider.token("ada", aud=audience)) == "WrongAudience"
    assert await house.ask("notes:whoami", house.provider.token("ada", aud=["other", "app"])) is not None


async def test_a_token_of_another_application_of_the_same_provider(house: House) -> None:
    # The same provider, user and key: only whom it was made for differs.
    elsewhere = {**house.provider.payload("ada"), "aud": "somebody-elses-app", "azp": "app"}
    assert await house.refuse(house.provider.key.sign(elsewhere)) == "WrongAudience"


async def test_a_token_of_another_issuer(house: House) -> None:
    with LocalIdentityProvider(clock=house.clock) as stranger:
        assert await house.refuse(stranger.token("ada")) == "WrongIssuer"
        # And one that says it is of ours.
        assert await house.refuse(stranger.token("ada", iss=house.provider.issuer)) == "InvalidSignature"


async def test_a_token_without_a_signature_algorithm(house: House) -> None:
    payload = house.provider.payload("ada")
    for algorithm in ("none", "None", "NONE", ""):
        token = forged({"alg": algorithm, "typ": "JWT", "kid": "key-1"}, payload)
        assert await house.refuse(token) == "MalformedToken"
        token = forged({"alg": algorithm, "typ": "JWT", "kid": "key-1"}, payload, b"x")
        assert await house.refuse(token) == "WrongAlgorithm"


@pytest.mark.slow  # it makes an RSA key
async def test_a_token_signed_with_the_public_key_as_a_secret(clock: FakeClock) -> None:
    with LocalIdentityProvider(algorithm="RS256", clock=clock) as provider:
        async with open_house(provider, clock) as house:
            published = provider.key.published()
            secrets = [
                provider.key.public_pem(),
                provider.key.public_pem().strip(),
                json.dumps(published).encode(),
                base64.urlsafe_b64decode(published["n"] + "=="),
            ]
            for secret in secrets:
                head = signing_input({"alg": "HS256", "typ": "JWT", "kid": "key-1"}, provider.payload("ada"))
                signature = hmac.new(secret, head.encode(), hashlib.sha256).digest()
                assert await house.refuse(f"{head}.{encoded(signature)}") == "WrongAlgorithm"
            assert await house.ask("notes:whoami", provider.token("ada")) is not None


async def test_a_token_of_another_algorithm_than_its_keys(house: House) -> None:
    other = SigningKey.generate("key-1", "ES256")
    assert await house.refuse(other.sign(house.provider.payload("ada"))) == "WrongAlgorithm"


async def test_a_token_with_an_unknown_key(house: House) -> None:
    forger = SigningKey.generate("key-99")
    assert await house.refuse(forger.sign(house.provider.payload("ada"))) == "UnknownKey"


async def test_a_token_with_the_name_of_a_known_key(house: House) -> None:
    forger = SigningKey.generate("key-1")
    assert await house.refuse(forger.sign(house.provider.payload("ada"))) == "InvalidSignature"


async def test_a_token_that_brings_its_own_key_or_says_where_it_is(house: House) -> None:
    with LocalIdentityProvider(clock=house.clock) as forger:
        for header in (
            {"jku": forger.jwks_url},
            {"x5u": forger.jwks_url},
            {"jwk": forger.key.published()},
            {"x5c": [base64.b64encode(forger.key.public_pem()).decode()]},
        ):
            token = forger.key.sign(house.provider.payload("ada"), header=header)
            assert await house.refuse(token) == "InvalidSignature"
            # They are ignored, not refused: an honest token may carry them.
            assert await house.ask("notes:whoami", house.provider.token("ada", header=header)) is not None
        assert not forger.request_counts


async def test_a_token_that_lost_its_signature(house: House) -> None:
    head, payload, signature = house.provider.token("ada").split(".")
    for token in (f"{head}.{payload}.", f"{head}.{payload}", f"{head}.{payload}.{signature}.{signature}"):
        assert await house.refuse(token) == "MalformedToken"
    assert await house.refuse(f"{head}.{payload}.{signature[:-4]}") == "InvalidSignature"


async def test_a_token_whose_claims_were_changed(house: House) -> None:
    head, _, signature = house.provider.token("ada").split(".")
    changed = encoded(json.dumps(house.provider.payload("bob")).encode())
    assert await house.refuse(f"{head}.{changed}.{signature}") == "InvalidSignature"


async def test_a_token_of_100_kilobytes(house: House) -> None:
    assert await house.refuse(house.provider.token("ada", padding="x" * 75_000)) == "TokenTooLarge"


async def test_a_token_with_extensions_that_have_to_be_understood(house: House) -> None:
    for header in ({"crit": ["exp"], "exp": 1}, {"b64": False}):
        token = forged({"alg": "EdDSA", "kid": "key-1", **header}, house.provider.payload("ada"), b"x")
        assert await house.refuse(token) == "MalformedToken"


async def test_claims_that_nest_too_deeply(house: House) -> None:
    nested: Any = "x"
    for _ in range(40):
        nested = [nested]
    assert await house.refuse(house.provider.token("ada", groups=nested)) == "InvalidIdentity"


@pytest.mark.parametrize("subject", [None, "", 7, ["ada"]])
async def test_a_token_without_a_subject(house: House, subject: Any) -> None:
    assert await house.refuse(house.provider.token("ada", sub=subject)) == "MalformedToken"


@pytest.mark.parametrize("text", ["x", "a.b.c", "..", "a b.c.d", "é.é.é", "W10.W10.W10", "bnVsbA.e30.e30"])
async def test_what_is_no_token_at_all(house: House, text: str) -> None:
    peer = house.connect()
    peer.authenticate(text)
    assert (await peer.next("AuthError"))["error"].startswith("MalformedToken")
    if text.isascii():
        assert (await house.post("notes:whoami", f"Bearer {text}")).status_code == 401


async def test_a_custom_token_has_to_name_its_key(house: House, clock: FakeClock) -> None:
    provider = house.provider
    nameless = provider.token("ada", header={"kid": None})
    async with open_house(provider, clock, [provider.custom_jwt()]) as custom:
        assert await custom.refuse(nameless) == "MissingKeyId"


async def test_an_application_without_providers_takes_no_token(
    provider: LocalIdentityProvider, clock: FakeClock
) -> None:
    async with open_house(provider, clock, []) as house:
        assert await house.refuse(provider.token("ada")) == "NoAuthProvider"


async def test_a_header_that_is_none(house: House) -> None:
    for header in ("Bearer", "Bearer ", "Basic YWRhOg==", "token"):
        answer = await house.post("notes:whoami", header)
        assert (answer.status_code, answer.json()["code"]) == (401, "InvalidAuthHeader")


def test_a_provider_that_cannot_work_is_refused_when_it_is_declared() -> None:
    with pytest.raises(rdb.SchemaError) as caught:
        rdb.CustomJwtProvider(issuer="i", jwks="https://i/keys", algorithm="HS256")  # pyright: ignore[reportArgumentType]
    assert caught.value.code == "InvalidAuthProvider"
    for jwks in ("i/keys", "file:///etc/passwd", "https://", "data:application/json,[]", "data:;base64,%%"):
        with pytest.raises(rdb.SchemaError):
            rdb.CustomJwtProvider(issuer="i", jwks=jwks, algorithm="RS256")
    for domain, application_id in (("", "app"), ("ftp://i", "app"), ("https://i", "")):
        with pytest.raises(rdb.SchemaError):
            rdb.OidcProvider(domain, application_id)
    with pytest.raises(rdb.SchemaError):
        rdb.App(auth=["https://i"])  # pyright: ignore[reportArgumentType]
