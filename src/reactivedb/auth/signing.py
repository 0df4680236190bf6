"""How is a token made that the ordinary path verifies?

For identity providers of our own: that of tests, and that of a development server. An application's users
never meet this module.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from ..values import dumps
from .providers import Algorithm


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with the name that tokens call it by."""

    key_id: str
    algorithm: Algorithm
    private: Any

    @staticmethod
    def generate(key_id: str, algorithm: Algorithm = "EdDSA") -> SigningKey:
        """A new key; one for RS256 takes a tenth of a second."""
        match algorithm:
            case "RS256":
                private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            case "ES256":
                private = ec.generate_private_key(ec.SECP256R1())
            case "EdDSA":
                private = ed25519.Ed25519PrivateKey.generate()
        return SigningKey(key_id, algorithm, private)

    @staticmethod
    def from_pem(key_id: str, algorithm: Algorithm, pem: bytes) -> SigningKey:
        return SigningKey(key_id, algorithm, serialization.load_pem_private_key(pem, None))

    def pem(self) -> bytes:
        """The private key, PKCS #8, not encrypted."""
        return self.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def public_pem(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def published(self) -> dict[str, Any]:
        """The public key as a JSON Web Key."""
        fields: Any = get_default_algorithms()[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        return {**fields, "kid": self.key_id, "alg": self.algorithm, "use": "sig"}

    def sign(self, payload: Mapping[str, Any], *, header: Mapping[str, Any] | None = None) -> str:
        """A token with these claims; `header` adds to `alg`, `typ` and `kid`, or leaves out with None."""
        fields = {"kid": self.key_id, **(header or {})}
        named = {name: value for name, value in fields.items() if value is not None}
        jws = jwt.PyJWS(algorithms=[self.algorithm])
        return jws.encode(dumps(dict(payload)), self.private, self.algorithm, named)


def key_set_uri(*keys: SigningKey) -> str:
    """The public keys as a `data:` URI, for `CustomJwtProvider(jwks=)`."""
    text = dumps({"keys": [key.published() for key in keys]})
    return "data:application/json;base64," + base64.b64encode(text).decode()
