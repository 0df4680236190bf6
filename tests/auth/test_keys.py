"""Are a provider's keys asked for when they have to be, no more often, and nowhere they must not be?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
import pytest

import reactivedb as rdb
from reactivedb.auth import Provider, Verifier
from reactivedb.auth.addresses import is_public
from reactivedb.auth.fetch import fetch
from reactivedb.auth.signing import SigningKey, key_set_uri
from reactivedb.errors import AuthenticationError, AuthProviderError
from reactivedb.limits import DEFAULT_LIMITS
from reactivedb.testing import FakeClock, LocalIdentityProvider

pytestmark = pytest.mark.anyio
DISCOVERY = "/.well-known/openid-configuration"


def verifier_of(clock: FakeClock, *providers: Provider, **options: Any) -> Verifier:
    options = {"allow_private": lambda: True, **options}
    return Verifier(providers, clock=clock, limits=DEFAULT_LIMITS, **options)


async def subject_of(verifier: Verifier, token: str) -> str:
    user = (await verifier.verify(token)).identity.user
    assert user is not None
    return user.subject


async def refusal_of(verifier: Verifier, token: str) -> str:
    with pytest.raises(AuthenticationError) as caught:
        await verifier.verify(token)
    return caught.value.code


async def test_keys_are_asked_for_once_and_then_known(
    provider: LocalIdentityProvider, clock: FakeClock
) -> None:
    verifier = verifier_of(clock, provider.oidc())
    token = provider.token("ada")
    assert verifier.verify_known(token) is None
    for name in ("ada", "bob", "cleo"):
        assert await subject_of(verifier, provider.token(name)) == name
    assert verifier.verify_known(token) is not None
    assert provider.request_counts == {DISCOVERY: 1, "/keys": 1}


async def test_all_who_wait_share_one_request(provider: LocalIdentityProvider, clock: FakeClock) -> None:
    verifier = verifier_of(clock, provider.custom_jwt())
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(subject_of, verifier, provider.token(f"user {number}"))
    assert provider.request_counts == {"/keys": 1}


async def test_a_rotated_key_is_accepted_at_once_and_the_withdrawn_one_refused(
    provider: LocalIdentityProvider, clock: FakeClock
) -> None:
    verifier = verifier_of(clock, provider.custom_jwt())
    old = provider.token("ada")
    await verifier.verify(old)
    provider.rotate(keep=True)
    await verifier.verify(provider.token("ada"))
    await verifier.verify(old)
    assert provider.request_counts["/keys"] == 2
    provider.rotate()
    clock.advance(11)
    await verifier.verify(provider.token("ada"))
    clock.advance(11)
    assert await refusal_of(verifier, old) == "UnknownKey"


async def test_forged_key_names_cause_one_request_in_an_interval_and_honest_ones_wait_for_it(
    provider: LocalIdentityProvider, clock: FakeClock
) -> None:
    verifier = verifier_of(clock, provider.custom_jwt())
    await verifier.verify(provider.token("ada"))
    forgers = [SigningKey.generate(f"forged {number}") for number in range(10)]
    assert await refusal_of(verifier, forgers[0].sign(provider.payload("ada"))) == "UnknownKey"
    assert provider.request_counts["/keys"] == 2
    refused: list[str] = []
    honest: list[str] = []

    async def forge(key: SigningKey) -> None:
        refused.append(await refusal_of(verifier, key.sign(provider.payload("ada"))))

    async def come_honestly(token: str) -> None:
        honest.append(await subject_of(verifier, token))

    provider.rotate()
    async with anyio.create_task_group() as tasks:
        for key in forgers:
            tasks.start_soon(forge, key)
        tasks.start_soon(come_honestly, provider.token("bob"))
        # Who has been refused before is so again without waiting.
        while clock.sleeper_count < 10 or len(refused) < 1:
            await anyio.lowlevel.checkpoint()
        assert provider.request_counts["/keys"] == 2
        clock.advance(2)
    assert (refused, honest) == (["UnknownKey"] * 10, ["bob"])
    assert provider.request_counts["/keys"] == 3


async def test_a_name_that_was_looked_for_in_vain_is_refused_at_once_for_ten_seconds(
    provider: LocalIdentityProvider, clock: FakeClock
) -> None:
    verifier = verifier_of(clock, provider.custom_jwt())
    await verifier.verify(provider.token("ada"))
    forged = SigningKey.generate("forged").sign(provider.payload("ada"))
    assert await refusal_of(verifier, forged) == "UnknownKey"
    clock.advance(9)
    for _ in range(3):
        with pytest.raises(AuthenticationError):
            verifier.verify_known(forged)  # nothing is waited for
    assert provider.request_counts["/keys"] == 2
    clock.advance(1)
    assert verifier.verify_known(forged) is None
    assert await refusal_of(verifier, forged) == "UnknownKey"
    assert provider.request_counts["/keys"] == 3


async def test_names_made_up_without_end_take_no_memory_without_end(
    provider: LocalIdentityProvider, clock: FakeClock
) -> None:
    verifier = verifier_of(clock, provider.custom_jwt())
    key, payload = SigningKey.generate("0"), provider.payload("ada")
    async with anyio.create_task_group() as tasks:
        for number in range(1_500):
            tasks.start_soon(refusal_of, verifier, replace(key, key_id=str(number)).sign(payload))
    [(_, keys)] = verifier._key_sets  # pyright: ignore[reportPrivateUsage]
    assert 0 < len(keys._refused) <= 1_000  # pyright: ignore[reportPrivateUsage]
    assert provider.request_counts == {"/keys": 1}


async def test_who_cancels_their_waiting_does_not_take_the_others_along(
    provider: LocalIdentityProvider, clock: FakeClock
) -> None:
    verifier = verifier_of(clock, provider.custom_jwt())
    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()

        async def impatient() -> None:
            with scope:
                await verifier.verify(provider.token("ada"))

        tasks.start_soon(impatient)
        tasks.start_soon(subject_of, verifier, provider.token("bob"))
        await anyio.lowlevel.checkpoint()
        scope.cancel()
    assert verifier.verify_known(provider.token("bob")) is not None


@pytest.mark.parametrize(("max_age_s", "good_for_s"), [(None, 3600), (0, 300), (1800, 1800), (10**8, 21600)])
async def test_keys_grow_old(
    provider: LocalIdentityProvider, clock: FakeClock, max_age_s: int | None, good_for_s: float
) -> None:
    provider.max_age_s = max_age_s
    verifier = verifier_of(clock, provider.custom_jwt())
    token = provider.token("ada", expires_in_s=10**6)
    await verifier.verify(token)
    clock.advance(good_for_s - 1)
    await verifier.verify(token)
    assert provider.request_counts["/keys"] == 1
    clock.advance(1)
    await verifier.verify(token)
    assert provider.request_counts["/keys"] == 2


async def test_a_provider_that_fails_costs_no_session_for_a_day(
    provider: LocalIdentityProvider, clock: FakeClock
) -> None:
    verifier = verifier_of(clock, provider.custom_jwt())
    token = provider.token("ada", expires_in_s=10**6)
    await verifier.verify(token)
    provider.is_failing = True
    clock.advance(3600)
    for _ in range(5):
        assert await subject_of(verifier, token) == "ada"
    assert provider.request_counts["/keys"] == 2
    clock.advance(24 * 3600)
    with pytest.raises(AuthProviderError):
        await verifier.verify(token)
    provider.is_failing = False
    clock.advance(5)
    assert await subject_of(verifier, token) == "ada"


async def test_a_provider_that_never_answered_is_asked_again_after_a_while(
    provider: LocalIdentityProvider, clock: FakeClock
) -> None:
    provider.is_failing = True
    verifier = verifier_of(clock, provider.oidc())
    for _ in range(5):
        assert await refusal_of(verifier, provider.token("ada")) == "AuthProviderUnavailable"
    assert provider.request_counts == {DISCOVERY: 1}
    provider.is_failing = False
    clock.advance(5)
    assert await subject_of(verifier, provider.token("ada")) == "ada"


async def test_the_first_provider_that_fits_counts(provider: LocalIdentityProvider, clock: FakeClock) -> None:
    with LocalIdentityProvider(clock=clock, algorithm="ES256", application_id="other") as second:
        custom = rdb.CustomJwtProvider(
            issuer=provider.issuer, jwks=key_set_uri(provider.key), algorithm="EdDSA", application_id="third"
        )
        verifier = verifier_of(clock, custom, provider.oidc(), second.custom_jwt())
        assert await subject_of(verifier, provider.token("ada")) == "ada"
        assert await subject_of(verifier, second.token("bob")) == "bob"
        assert provider.request_counts["/keys"] == 1
        third = provider.token("cleo", aud=["third", "app"])
        assert verifier.verify_known(third) is not None


async def test_keys_written_in_the_declaration_need_no_request(clock: FakeClock) -> None:
    key = SigningKey.generate("mine", "ES256")
    declared = rdb.CustomJwtProvider(issuer="urn:me", jwks=key_set_uri(key), algorithm="ES256")
    verifier = verifier_of(clock, declared, allow_private=lambda: False)
    now_s = clock.now_ns() / 1e9
    payload = {"iss": "urn:me", "sub": "ada", "exp": now_s + 60}
    assert verifier.verify_known(key.sign(payload)) is not None
    with pytest.raises(AuthenticationError) as caught:
        verifier.verify_known(key.sign(payload, header={"kid": "other"}))
    assert caught.value.code == "UnknownKey"


@pytest.mark.parametrize(
    "spelling", ["https://issuer.example", "issuer.example", "https://issuer.example/", "issuer.example/"]
)
def test_scheme_and_trailing_slash_of_an_issuer_do_not_count(spelling: str) -> None:
    declared = rdb.OidcProvider(spelling, "app")
    for issuer in ("https://issuer.example", "https://issuer.example/", "issuer.example"):
        assert declared.issued(issuer)
    for issuer in ("http://issuer.example", "https://issuer.example.evil", "https://issuer.example//", ""):
        assert not declared.issued(issuer)
    assert declared.url == "https://issuer.example"


# Where requests may go


PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fd00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
]


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_private_address_is_not_asked_whatever_name_it_has(clock: FakeClock, address: str) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        assert host == "issuer.example"
        return ["93.184.215.14", address]

    assert not is_public(address)
    verifier = verifier_of(
        clock,
        rdb.OidcProvider("https://issuer.example", "app"),
        allow_private=lambda: False,
        resolve=resolve,
    )
    payload = {"iss": "https://issuer.example", "sub": "a", "aud": "app", "exp": clock.now_ns() / 1e9 + 60}
    token = SigningKey.generate("k").sign(payload)
    assert await refusal_of(verifier, token) == "PrivateAuthProvider"


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "64:ff9b::5db8:d70e"])
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/keys", "https://[::1]/keys", "https://localhost/keys", "https://2130706433/"]
)
async def test_an_address_in_the_url_itself_is_looked_at_too(url: str) -> None:
    with pytest.raises(AuthProviderError) as caught:
        await fetch(url, allow_private=False)
    assert caught.value.code == "PrivateAuthProvider"


async def test_in_production_a_provider_is_asked_over_https_only(
    provider: LocalIdentityProvider, clock: FakeClock
) -> None:
    in_production = verifier_of(clock, provider.oidc(), allow_private=lambda: False)
    assert await refusal_of(in_production, provider.token("ada")) == "AuthProviderUnavailable"
    assert not provider.request_counts
    declared = verifier_of(clock, provider.oidc(allow_private=True), allow_private=lambda: False)
    assert await subject_of(declared, provider.token("ada")) == "ada"


async def test_the_address_that_was_looked_at_is_the_one_connected_to(
    provider: LocalIdentityProvider,
) -> None:
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        # A second question would be answered otherwise: that is how rebinding works.
        return ["127.0.0.1"] if len(asked) == 1 else []

    url = provider.jwks_url.replace("127.0.0.1", "issuer.example")
    assert b'"keys"' in (await fetch(url, allow_private=True, resolve=resolve)).body
    assert asked == ["issuer.example"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/keys\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b" " * 900_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1,2,3,4]",
        b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"keys":[]}',
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{",
        b"what?\r\n\r\n",
        b"",
    ],
    ids=["redirect", "endless", "text", "list", "empty", "cut", "nonsense", "silent"],
)
async def test_an_answer_without_keys_is_no_answer(clock: FakeClock, answer: bytes) -> None:
    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            # It may have hung up when it had read enough.
            with_broken = (anyio.BrokenResourceError, anyio.ClosedResourceError)
            try:
                await stream.send(answer)
            except with_broken:
                return

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            declared = rdb.CustomJwtProvider(
                issuer="urn:me", jwks=f"http://127.0.0.1:{port}/keys", algorithm="EdDSA"
            )
            payload = {"iss": "urn:me", "sub": "ada", "exp": clock.now_ns() / 1e9 + 60}
            token = SigningKey.generate("k").sign(payload)
            assert await refusal_of(verifier_of(clock, declared), token) == "AuthProviderUnavailable"
            tasks.cancel_scope.cancel()


def test_keys_that_cannot_be_trusted_with_signatures_are_left_out() -> None:
    from reactivedb.auth.providers import ALGORITHMS
    from reactivedb.auth.signatures import public_keys

    good = SigningKey.generate("good").published()
    bad: list[Any] = [
        {**good, "use": "enc"},
        {**good, "alg": "HS256"},
        {**good, "kid": 7},
        {**good, "x": "AAAA"},
        {"kty": "oct", "k": "AAAA", "kid": "good"},
        {"kty": "EC", "crv": "P-521", "kid": "good"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "good"},
        {"kty": "RSA"},
        {},
    ]
    assert [key.key_id for key in public_keys([*bad, good], ALGORITHMS)] == ["good"]
    assert public_keys([good], ("RS256",)) == []
