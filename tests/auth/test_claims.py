"""Which identity does a function see?"""

from __future__ import annotations

from typing import Any

import pytest

from reactivedb.auth.claims import identity_of
from reactivedb.auth.tokens import Token
from reactivedb.functions import Identity, UserIdentity
from reactivedb.testing import LocalIdentityProvider


def seen(provider: LocalIdentityProvider, *, custom: bool = False, **claims: Any) -> UserIdentity:
    token = Token.parse(provider.token("ada", **claims), size_bytes_max=10**6)
    return identity_of(token, provider.custom_jwt() if custom else provider.oidc())


STANDARD = {
    "name": "Ada Lovelace",
    "given_name": "Ada",
    "family_name": "Lovelace",
    "nickname": "al",
    "preferred_username": "ada",
    "profile": "https://a/profile",
    "picture": "https://a/picture",
    "website": "https://a",
    "email": "ada@a",
    "email_verified": True,
    "gender": "female",
    "birthdate": "1815-12-10",
    "zoneinfo": "Europe/London",
    "locale": "en-GB",
    "phone_number": "+44",
    "phone_number_verified": False,
    "address": {"formatted": "12 St James's Square"},
    "updated_at": 1_790_000_000,
}
MAPPED = {
    "name": "Ada Lovelace",
    "givenName": "Ada",
    "familyName": "Lovelace",
    "nickname": "al",
    "preferredUsername": "ada",
    "profileUrl": "https://a/profile",
    "pictureUrl": "https://a/picture",
    "websiteUrl": "https://a",
    "email": "ada@a",
    "emailVerified": True,
    "gender": "female",
    "birthday": "1815-12-10",
    "timezone": "Europe/London",
    "language": "en-GB",
    "phoneNumber": "+44",
    "phoneNumberVerified": False,
    "address": "12 St James's Square",
    "updatedAt": "2026-09-21T14:13:20Z",
}
ATTRIBUTES = {
    "given_name": "givenName",
    "family_name": "familyName",
    "preferred_username": "preferredUsername",
    "profile_url": "profileUrl",
    "picture_url": "pictureUrl",
    "website_url": "websiteUrl",
    "email_verified": "emailVerified",
    "phone_number": "phoneNumber",
    "phone_number_verified": "phoneNumberVerified",
    "updated_at": "updatedAt",
}


def test_the_standard_claims_have_the_names_of_convex(provider: LocalIdentityProvider) -> None:
    user = seen(provider, **STANDARD)
    assert user.claims == MAPPED
    assert (user.issuer, user.subject) == (provider.issuer, "ada")
    assert user.token_identifier == f"{provider.issuer}|ada"
    attributes = {name: name for name in MAPPED if name.islower()} | ATTRIBUTES
    assert len(attributes) == len(MAPPED)
    for attribute, claim in attributes.items():
        assert getattr(user, attribute) == MAPPED[claim]
        assert getattr(seen(provider), attribute) is None


def test_other_claims_keep_their_own_names(provider: LocalIdentityProvider) -> None:
    user = seen(provider, roles=["admin"], org={"id": "o1"}, **{"https://a/plan": "pro"})
    assert user.claims == {"roles": ["admin"], "org": {"id": "o1"}, "https://a/plan": "pro"}
    assert (user["roles"], user.get("missing", 7)) == (["admin"], 7)
    with pytest.raises(KeyError):
        user["missing"]


def test_a_claim_that_poses_as_a_mapped_one_is_left_out(provider: LocalIdentityProvider) -> None:
    user = seen(provider, emailVerified=True, givenName="Eve", tokenIdentifier="x")
    assert (user.email_verified, user.given_name) == (None, None)
    assert user.token_identifier == f"{provider.issuer}|ada"


def test_custom_tokens_are_mapped_in_their_three_ids_only(provider: LocalIdentityProvider) -> None:
    user = seen(provider, custom=True, given_name="Ada", org={"unit": {"id": 7}}, **{"a.b": 1})
    assert user.claims == {"aud": "app", "given_name": "Ada", "org": {"unit": {"id": 7}}, "a.b": 1}
    assert (user["org.unit.id"], user["org.unit"], user["a.b"], user.get("org.x")) == (7, {"id": 7}, 1, None)
    assert user.given_name is None


def test_what_is_handed_out_is_a_copy(provider: LocalIdentityProvider) -> None:
    user = seen(provider, roles=["user"])
    user["roles"].append("admin")
    assert user["roles"] == ["user"]


def test_a_fresh_token_of_the_same_user_is_the_same_identity(provider: LocalIdentityProvider) -> None:
    for custom in (False, True):
        first = seen(provider, custom=custom, a=1, b={"x": 1, "y": 2})
        second = seen(provider, custom=custom, b={"y": 2, "x": 1}, a=1, expires_in_s=7, nbf=1, jti="other")
        assert (first, first.cache_key) == (second, second.cache_key)
    first = seen(provider, nonce="a", at_hash="b", auth_time=1, amr=["pwd"])
    assert first == seen(provider, nonce="c", at_hash="d", auth_time=2, amr=["otp"])


def test_identities_that_differ_anywhere_have_different_places() -> None:
    same_token = {"tokenIdentifier": "i|s"}
    people = [
        {"issuer": "i", "subject": "s"},
        {"issuer": "i", "subject": "s", "a": 1},
        {"issuer": "i", "subject": "s", "a": True},
        {"issuer": "i", "subject": "s", "a": 1.0},
        {"issuer": "i", "subject": "s", "a": "1"},
        {"issuer": "i", "subject": "s", "a": [1]},
        {"issuer": "i", "subject": "s", "a": {"b": 1}},
        {"issuer": "i", "subject": "s", "a": [["b", 1]]},
        {"issuer": "i", "subject": "s", "a.b": 1},
        {**same_token, "issuer": "j", "subject": "s"},
        {**same_token, "issuer": "i", "subject": "t"},
        {"tokenIdentifier": "i|s', {'a': 1})"},
        {"issuer": "i|s", "subject": ""},
        {"issuer": "", "subject": "i|s"},
    ]
    keys = [Identity.acting_as(attributes).cache_key for attributes in people]
    assert len(set(keys)) == len(keys)


def test_updated_at_that_is_no_time_stays_what_it_is(provider: LocalIdentityProvider) -> None:
    assert seen(provider, updated_at="2026-01-01T00:00:00Z").updated_at == "2026-01-01T00:00:00Z"
    assert seen(provider, updated_at=1e300).claims["updatedAt"] == 1e300
