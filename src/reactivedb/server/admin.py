"""May this request do what only an administrator may, and in whose name does it ask?

The header's forms stand in section c.2 of the protocol. Only a digest of the admin key is kept, and
digests are compared in constant time; neither key nor token ever becomes part of a message.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from starlette.requests import Request

from ..auth import Verifier
from ..errors import ValidationError
from ..functions import ADMIN, ANONYMOUS, Identity
from ..values import loads
from .admin_key import AdminKey
from .hosts import AllowedHosts, check_hosts
from .replies import Refusal


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where clients reach the deployment; `None` means: where the request came in."""

    cloud_url: str | None = None
    site_url: str | None = None
    # Every address of the machine is listened at, of which the URLs name one that only the machine knows.
    are_all: bool = False
    # The names that admin requests may come by; `None`: nobody has said any.
    allowed: AllowedHosts | None = None


def admin_from(authorization: str | None, admin_key: AdminKey | None) -> Identity:
    """Whom an `Authorization` header stands for where only administrators are let in.

    Raises:
        Refusal: 401 `InvalidAuthHeader`, 403 `BadDeployKey`, 400 for an identity that is none.
    """
    if authorization is None:
        return ANONYMOUS
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "convex":
        raise _invalid_header("expected `Convex` as its first word")
    return _admin_identity(credentials.strip(), admin_key)


async def identity_from(
    authorization: str | None, admin_key: AdminKey | None, verifier: Verifier
) -> Identity:
    """Whom an `Authorization` header stands for; waits if a token's provider has to be asked.

    Raises:
        Refusal: 401 `InvalidAuthHeader`, 403 `BadDeployKey`, 400 for an identity that is none.
        AuthenticationError: the token is not accepted, which is a 401; 503 if its provider cannot be asked.
    """
    if authorization is None:
        return ANONYMOUS
    scheme, _, credentials = authorization.partition(" ")
    match scheme.lower():
        case "convex":
            return _admin_identity(credentials.strip(), admin_key)
        case "bearer" if token := credentials.strip():
            verified = verifier.verify_known(token) or await verifier.verify(token)
            return verified.identity
        case "bearer":
            raise _invalid_header("expected a token behind `Bearer`")
        case _:
            raise _invalid_header("expected `Bearer` or `Convex` as its first word")


def check_origin(request: Request, addresses: Addresses) -> None:
    """Keep web pages away from the admin routes; see `hosts`.

    An application that another server mounts is not told its names: it is checked once it was given
    `allowed_hosts`.

    Raises:
        Refusal: 403 `ForeignHost` or `ForeignOrigin`.
    """
    if addresses.allowed is not None or addresses.cloud_url is not None:
        check_hosts(request, addresses.allowed or AllowedHosts())


def require_admin(identity: Identity) -> None:
    """Raises: Refusal, 403 `BadDeployKey`, unless the caller has shown the admin key."""
    if not identity.is_admin:
        raise _bad_key("got none")


def is_admin_key(text: str, admin_key: AdminKey | None) -> bool:
    """Whether a key shown anywhere (header, socket, query string) opens this deployment."""
    return admin_key is not None and admin_key.matches(text)


def _admin_identity(credentials: str, admin_key: AdminKey | None) -> Identity:
    if is_admin_key(credentials, admin_key):
        return ADMIN
    # A key may hold a colon in its type prefix, before the `|`; the one behind it begins the identity.
    colon = credentials.find(":", credentials.find("|") + 1)
    if colon >= 0 and is_admin_key(credentials[:colon], admin_key):
        return Identity.acting_as(_attributes(credentials[colon + 1 :]))
    raise _bad_key("got another one")


def _attributes(encoded: str) -> dict[str, Any]:
    try:
        attributes = loads(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValidationError):
        attributes = None
    if not isinstance(attributes, dict):
        raise Refusal(
            HTTPStatus.BAD_REQUEST,
            "InvalidIdentity",
            "expected base64 of a JSON object with the identity to act as behind the admin key",
        )
    return cast("dict[str, Any]", attributes)


def _invalid_header(reason: str) -> Refusal:
    return Refusal(HTTPStatus.UNAUTHORIZED, "InvalidAuthHeader", f"`Authorization` cannot be used: {reason}")


def _bad_key(got: str) -> Refusal:
    return Refusal(
        HTTPStatus.FORBIDDEN,
        "BadDeployKey",
        f"expected this deployment's admin key in `Authorization: Convex KEY`, {got}",
    )
