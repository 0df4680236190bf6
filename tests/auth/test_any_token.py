"""Is anything at all that calls itself a token answered with a refusal, and never with an accident?"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reactivedb.auth import Verifier
from reactivedb.auth.providers import CustomJwtProvider
from reactivedb.auth.signing import SigningKey, key_set_uri
from reactivedb.errors import AuthenticationError
from reactivedb.limits import DEFAULT_LIMITS
from reactivedb.sync.messages import auth_error
from reactivedb.testing import FakeClock

from .harness import encoded, forged

CLOCK = FakeClock()
NOW_S = CLOCK.now_ns() // 10**9
KEY = SigningKey.generate("k")
PROVIDER = CustomJwtProvider(issuer="i", jwks=key_set_uri(KEY), algorithm="EdDSA", application_id="app")
VERIFIER = Verifier([PROVIDER], clock=CLOCK, limits=DEFAULT_LIMITS, allow_private=lambda: False)
GOOD = {"iss": "i", "sub": "ada", "aud": "app", "exp": NOW_S + 60}

texts = st.text(st.characters(categories=None), max_size=5)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
headers = st.fixed_dictionaries(
    {"alg": st.sampled_from(["EdDSA", "none", "HS256", "\ud800"]) | trees},
    optional={"kid": st.just("k") | trees, "crit": trees, "b64": trees, "jwk": trees, "typ": trees},
)
payloads = st.fixed_dictionaries(
    {},
    optional={
        "iss": st.just("i") | trees,
        "sub": st.just("ada") | trees,
        "aud": st.just("app") | trees,
        "exp": st.just(NOW_S + 60) | trees,
        "nbf": trees,
        "iat": trees,
        "more": trees,
    },
)


def refused(token: str) -> None:
    with pytest.raises(AuthenticationError) as caught:
        VERIFIER.verify_known(token)
    # The refusal can be sent, and is small.
    assert len(auth_error(caught.value.wire_text, base_version=0, attempted=True)) < 1000


@settings(max_examples=150, deadline=None)
@given(headers, payloads, st.binary(max_size=70))
def test_whatever_nobody_signed_is_refused(header: Any, payload: Any, signature: bytes) -> None:
    refused(forged(header, payload, signature))


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(categories=None), max_size=30) | st.lists(texts, max_size=4).map(".".join))
def test_any_text_is_refused(text: str) -> None:
    refused(text)


@settings(max_examples=150, deadline=None)
@given(payloads)
def test_whatever_the_provider_signs_is_refused_or_is_the_user_it_names(payload: Any) -> None:
    body = encoded(json.dumps({**GOOD, **payload}).encode())
    token = sign_raw(body)
    try:
        verified = VERIFIER.verify_known(token)
    except AuthenticationError:
        return
    assert verified is not None
    assert verified.identity.user is not None
    assert verified.identity.user.subject == {**GOOD, **payload}["sub"]
    assert not verified.identity.is_admin


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_changed_character_changes_nothing_or_all(data: st.DataObject) -> None:
    token = KEY.sign(GOOD)
    place = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.sampled_from("AZaz09-_.=+/ é"))
    changed = token[:place] + character + token[place + 1 :]
    try:
        verified = VERIFIER.verify_known(changed)
    except AuthenticationError:
        return
    # The last characters of base64 hold bits that stand for nothing.
    assert verified is not None
    assert verified.identity.user is not None
    assert verified.identity.user.subject == "ada"
    assert changed.rpartition(".")[0] == token.rpartition(".")[0]


def sign_raw(body: str) -> str:
    """A token over a payload that our own encoder would refuse (NaN, lone surrogates)."""
    head = f"{encoded(json.dumps({'alg': 'EdDSA', 'kid': 'k'}).encode())}.{body}"
    return f"{head}.{encoded(KEY.private.sign(head.encode()))}"
