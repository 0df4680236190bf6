"""How does a developer become a user of the application they are writing?

A development server is its own identity provider: the key lies in the data folder, readable by its owner
alone, the server accepts tokens signed with it, and `reactivedb token` makes them. They are real tokens,
verified on the way that all others take. `serve` accepts none of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from ..auth import CustomJwtProvider
from ..auth.signing import SigningKey, key_set_uri
from .data_dir import DataDir

_ISSUER: Final = "urn:reactivedb:dev"
_AUDIENCE: Final = "reactivedb"
_KEY_ID: Final = "dev"
_ALGORITHM: Final = "EdDSA"


def development_provider(data: DataDir) -> CustomJwtProvider:
    """The provider that a development server trusts beside those of its application."""
    return CustomJwtProvider(
        issuer=_ISSUER,
        jwks=key_set_uri(_key(data)),
        algorithm=_ALGORITHM,
        application_id=_AUDIENCE,
    )


def development_token(data: DataDir, subject: str, claims: Mapping[str, Any], *, expires_in_s: float) -> str:
    """A token for that user; `claims` adds to those that every token has."""
    now_s = int(time.time())
    payload = {
        **claims,
        "iss": _ISSUER,
        "aud": _AUDIENCE,
        "sub": subject,
        "iat": now_s,
        "exp": now_s + expires_in_s,
    }
    return _key(data).sign(payload)


def _key(data: DataDir) -> SigningKey:
    pem = data.identity_key(lambda: SigningKey.generate(_KEY_ID, _ALGORITHM).pem().decode())
    return SigningKey.from_pem(_KEY_ID, _ALGORITHM, pem.encode())
