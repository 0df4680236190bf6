"""Whose tokens does an application accept?

Declarations only: the two sorts of section f.7 of the protocol. What a token may be signed with is said
here or by the provider's published keys, never by the token.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, Literal, TypeAlias, cast, get_args
from urllib.parse import unquote_to_bytes, urlsplit

from ..errors import SchemaError, ValidationError
from ..values import loads, redacted

Algorithm: TypeAlias = Literal["RS256", "ES256", "EdDSA"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """An OpenID Connect provider: its keys are found by discovery at `domain`.

    Accepts tokens whose `iss` is the domain (`https://` and one trailing slash do not count) and whose
    `aud` holds `application_id`. `allow_private` lets the domain have a private address in production too.

    Raises:
        SchemaError: `InvalidAuthProvider`.
    """

    domain: str
    application_id: str
    _: KW_ONLY
    allow_private: bool = False

    def __post_init__(self) -> None:
        _check_url("domain", self.url)
        if not self.application_id:
            raise _invalid("`application_id` to be the audience that tokens are made for, got none")

    @property
    def url(self) -> str:
        """Where discovery begins, without a slash at the end."""
        domain = self.domain.removesuffix("/")
        return domain if "://" in domain else f"https://{domain}"

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """A published key says by its type which of them it is for."""
        return ALGORITHMS

    def issued(self, issuer: str) -> bool:
        return _bare(issuer) == _bare(self.domain)

    def accepts_audience(self, audience: Sequence[str]) -> bool:
        return self.application_id in audience


@dataclass(frozen=True, slots=True)
class CustomJwtProvider:
    """Any maker of JSON Web Tokens with published keys: `jwks` is their URL, or a `data:` URI with them.

    Accepts tokens whose `iss` is exactly `issuer`, signed with `algorithm` by the key that their `kid`
    names. `aud` is checked if `application_id` is given; without one, tokens that the issuer made for other
    applications are accepted as well.

    Raises:
        SchemaError: `InvalidAuthProvider`.
    """

    _: KW_ONLY
    issuer: str
    jwks: str
    algorithm: Algorithm
    application_id: str | None = None
    allow_private: bool = False

    def __post_init__(self) -> None:
        if not self.issuer:
            raise _invalid("`issuer` to be the `iss` of the tokens, got none")
        if self.algorithm not in ALGORITHMS:
            raise _invalid(f"`algorithm` to be one of {', '.join(ALGORITHMS)}, got `{self.algorithm}`")
        if self.application_id == "":
            raise _invalid("`application_id` to be a name or None, got an empty text")
        if self.jwks.startswith("data:"):
            self.inline_keys()
        else:
            _check_url("jwks", self.jwks)

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        return (self.algorithm,)

    def issued(self, issuer: str) -> bool:
        return issuer == self.issuer

    def accepts_audience(self, audience: Sequence[str]) -> bool:
        return self.application_id is None or self.application_id in audience

    def inline_keys(self) -> list[Mapping[str, Any]]:
        """The keys of a `data:` URI."""
        kind, _, data = self.jwks.removeprefix("data:").partition(",")
        try:
            text = unquote_to_bytes(data)
            return keys_in(loads(base64.b64decode(text, validate=True) if kind.endswith(";base64") else text))
        except (binascii.Error, ValidationError) as error:
            what = "base64" if isinstance(error, binascii.Error) else "a JSON object with a list `keys`"
            raise _invalid(
                f"`jwks` to be `data:application/json,` and {what}, got `{self.jwks[:40]}`"
            ) from None


Provider: TypeAlias = OidcProvider | CustomJwtProvider


def keys_in(document: object) -> list[Mapping[str, Any]]:
    """The keys of a JSON Web Key Set (RFC 7517).

    Raises:
        ValidationError: it is none.
    """
    keys = cast("Mapping[str, object]", document).get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValidationError("expected a JSON object with a list `keys`", code="InvalidKeySet")
    return [cast("Mapping[str, Any]", key) for key in cast("list[object]", keys) if isinstance(key, dict)]


def _bare(issuer: str) -> str:
    return issuer.removeprefix("https://").removesuffix("/")


def _check_url(field: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, or half of an IPv6 address
        usable = False
        parts = None
    if not usable or (parts is not None and (parts.username or parts.fragment)):
        raise _invalid(
            f"`{field}` to be a URL with http or https and a host, got `{redacted(url[:200])[:80]}`"
        )


def _invalid(expected: str) -> SchemaError:
    return SchemaError(f"an auth provider expects {expected}", code="InvalidAuthProvider")
