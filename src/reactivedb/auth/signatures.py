"""Did the holder of this key sign that token?

The only module that knows the library for signatures; it is imported with the first token. A key has one
algorithm, told by its type, and verifies nothing of another: a public RSA key is never a secret for HS256.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from jwt.algorithms import get_default_algorithms

from ..errors import AuthenticationError
from .providers import ALGORITHMS, Algorithm
from .tokens import Token

# Below, a key can be broken; above, one verification takes milliseconds.
_RSA_BITS_MIN: Final = 2048
_RSA_BITS_MAX: Final = 8192
_KEYS_MAX: Final = 100
_LIBRARY: Final = {name: get_default_algorithms()[name] for name in ALGORITHMS}


@dataclass(frozen=True, slots=True)
class Key:
    """One published key."""

    key_id: str | None
    algorithm: Algorithm
    public: Any

    def verify(self, token: Token) -> None:
        """Raises: AuthenticationError `WrongAlgorithm`, `InvalidSignature`."""
        if token.algorithm != self.algorithm:
            raise AuthenticationError(
                f"expected a token signed with {self.algorithm}, got one with `{token.algorithm[:20]}`",
                code="WrongAlgorithm",
            )
        try:
            jwt.PyJWS(algorithms=[self.algorithm]).decode_complete(
                token.text, self.public, algorithms=[self.algorithm]
            )
        except jwt.PyJWTError:
            raise AuthenticationError(
                "the token's signature is not its provider's", code="InvalidSignature"
            ) from None


def public_keys(published: Iterable[Mapping[str, Any]], algorithms: tuple[Algorithm, ...]) -> list[Key]:
    """The keys of a set that can verify tokens; others may stand beside them and are left out."""
    keys: list[Key] = []
    for fields in list(published)[:_KEYS_MAX]:
        algorithm = _algorithm_of(fields)
        key_id = fields.get("kid")
        if algorithm not in algorithms or not (key_id is None or isinstance(key_id, str)):
            continue
        # A set that gives away a private part is still read as what it is meant to be.
        public = {name: value for name, value in fields.items() if name in ("kty", "crv", "n", "e", "x", "y")}
        try:
            key = _LIBRARY[algorithm].from_jwk(public)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if algorithm == "RS256" and not _RSA_BITS_MIN <= key.key_size <= _RSA_BITS_MAX:
            continue
        keys.append(Key(key_id, algorithm, key))
    return keys


def _algorithm_of(fields: Mapping[str, Any]) -> Algorithm | None:
    """What the key is for, or None if it is not for signatures that we know."""
    match fields.get("kty"), fields.get("crv"):
        case "RSA", _:
            algorithm: Algorithm = "RS256"
        case "EC", "P-256":
            algorithm = "ES256"
        case "OKP", "Ed25519":
            algorithm = "EdDSA"
        case _:
            return None
    if fields.get("use", "sig") != "sig":
        return None
    # `Ed25519` is RFC 9864's name for what was called EdDSA.
    names = ("EdDSA", "Ed25519") if algorithm == "EdDSA" else (algorithm,)
    return algorithm if fields.get("alg", algorithm) in names else None
