"""What does a token say, before anybody has proved that it is true?

A token is taken apart here, within its limit of size, and its claims are read into the shapes that RFC 7519
gives them. What its header says beside `alg` and `kid` is not looked at: keys that a token brings along or
points to (`jwk`, `jku`, `x5c`, `x5u`) are a forger's.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from ..errors import AuthenticationError, ValidationError
from ..values import loads

_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-]+")
# Clocks of providers and of this machine may differ by this much.
LEEWAY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Token:
    """A token's text and what it claims."""

    text: str = field(repr=False)
    algorithm: str
    key_id: str | None
    issuer: str
    subject: str
    audience: tuple[str, ...]
    expires_s: float
    not_before_s: float | None
    issued_s: float | None
    payload: Mapping[str, Any]

    @staticmethod
    def parse(text: str, *, size_bytes_max: int) -> Token:
        """Raises: AuthenticationError `TokenTooLarge`, `MalformedToken`."""
        if len(text) > size_bytes_max:
            raise AuthenticationError(
                f"expected a token of at most {size_bytes_max} bytes, got {len(text)}", code="TokenTooLarge"
            )
        segments = text.split(".")
        if len(segments) != 3 or not all(map(_SEGMENT.fullmatch, segments)):
            raise _malformed("three parts of base64url with dots between them")
        header, payload = _object(segments[0], "header"), _object(segments[1], "payload")
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or not (key_id is None or isinstance(key_id, str)):
            raise _malformed("a header whose `alg` and `kid` are texts")
        if "crit" in header or header.get("b64", True) is not True:
            raise _malformed("a header without extensions that have to be understood (`crit`, `b64`)")
        return Token(
            text,
            algorithm,
            key_id,
            issuer=_text(payload, "iss"),
            subject=_text(payload, "sub"),
            audience=_audience(payload.get("aud")),
            expires_s=_seconds(payload, "exp"),
            not_before_s=_seconds(payload, "nbf") if "nbf" in payload else None,
            issued_s=_seconds(payload, "iat") if "iat" in payload else None,
            payload=payload,
        )

    @property
    def ends_s(self) -> float:
        """From this second since the epoch on it is not accepted."""
        return self.expires_s + LEEWAY_S

    def check_time(self, now_s: float) -> None:
        """Raises: AuthenticationError `TokenExpired`, `TokenNotYetValid`."""
        if now_s >= self.ends_s:
            raise AuthenticationError("the token has expired - get a new one", code="TokenExpired")
        for claim, begins_s in (("nbf", self.not_before_s), ("iat", self.issued_s)):
            if begins_s is not None and begins_s > now_s + LEEWAY_S:
                raise AuthenticationError(
                    f"the token is not valid yet: its `{claim}` lies {begins_s - now_s:.0f} s ahead - "
                    "compare the clocks",
                    code="TokenNotYetValid",
                )


def _object(segment: str, what: str) -> Mapping[str, Any]:
    try:
        tree = loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except (ValueError, ValidationError):
        tree = None
    if not isinstance(tree, dict):
        raise _malformed(f"a {what} that is a JSON object")
    return cast("dict[str, Any]", tree)


def _text(payload: Mapping[str, Any], claim: str) -> str:
    value = payload.get(claim)
    if not isinstance(value, str) or not value:
        raise _malformed(f"a claim `{claim}` that is a text")
    return value


def _audience(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return tuple(item for item in cast("list[object]", value) if isinstance(item, str))
    return ()


def _seconds(payload: Mapping[str, Any], claim: str) -> float:
    value = payload.get(claim)
    try:
        seconds = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:
        seconds = None
    if seconds is None or not math.isfinite(seconds):
        raise _malformed(f"a claim `{claim}` in seconds since the epoch")
    return seconds


def _malformed(expected: str) -> AuthenticationError:
    return AuthenticationError(f"a token has {expected}, this one has not", code="MalformedToken")
