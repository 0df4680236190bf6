"""Which identity do the claims of a verified token make?

Section f.7 of the protocol. What belongs to one token and not to its user (when it was made, until when it
is good, which one it is) is no part of the identity: a fresh token of the same user is the same identity,
and re-runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from ..functions import UserIdentity
from .providers import OidcProvider, Provider
from .tokens import Token

# OpenID Connect Core 1.0, section 5.1, beside the names that Convex gives them.
_STANDARD: Final = {
    "name": "name",
    "given_name": "givenName",
    "family_name": "familyName",
    "nickname": "nickname",
    "preferred_username": "preferredUsername",
    "profile": "profileUrl",
    "picture": "pictureUrl",
    "website": "websiteUrl",
    "email": "email",
    "email_verified": "emailVerified",
    "gender": "gender",
    "birthdate": "birthday",
    "zoneinfo": "timezone",
    "locale": "language",
    "phone_number": "phoneNumber",
    "phone_number_verified": "phoneNumberVerified",
    "address": "address",
    "updated_at": "updatedAt",
}
_MAPPED: Final = {"iss", "sub"}
_OF_ONE_TOKEN: Final = {"exp", "iat", "nbf", "jti"}
# Section 2 and 3.3.2 there: how an ID token came about.
_OF_ONE_SIGN_IN: Final = {"aud", "auth_time", "nonce", "acr", "amr", "azp", "at_hash", "c_hash"}


def identity_of(token: Token, provider: Provider) -> UserIdentity:
    """Raises: ValidationError `InvalidIdentity`, for claims that nest too deeply."""
    left_out = _MAPPED | _OF_ONE_TOKEN
    if isinstance(provider, OidcProvider):
        claims = _standard(token.payload, left_out | _OF_ONE_SIGN_IN)
    else:
        claims = {name: value for name, value in token.payload.items() if name not in left_out}
    return UserIdentity(token.subject, token.issuer, f"{token.issuer}|{token.subject}", claims)


def _standard(payload: Mapping[str, Any], left_out: set[str]) -> dict[str, Any]:
    claims = {
        name: value
        for name, value in payload.items()
        # One that already has a mapped name would be taken for what the provider vouches for under it.
        if name not in left_out and name not in _STANDARD and name not in _STANDARD.values()
    }
    for name, ours in _STANDARD.items():
        if name in payload:
            claims[ours] = _converted(name, payload[name])
    return claims


def _converted(name: str, value: Any) -> Any:
    match name:
        case "updated_at" if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z")
            except (OverflowError, ValueError, OSError):  # no year that a date can have
                return value
        case "address" if isinstance(value, dict) and "formatted" in value:
            return cast("dict[str, Any]", value)["formatted"]
        case _:
            return cast("Any", value)
