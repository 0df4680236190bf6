"""Who calls?

An `Identity` travels with every call: nobody, an administrator, or a user (which an administrator may act
as). A function that looks at it makes its cached result that identity's own, so what a user is told apart
by, `cache_key`, is made of everything that a function can see.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from ..errors import ValidationError

# Far above what any provider nests, and far below what would exhaust the stack.
_CLAIM_DEPTH_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """A user as the token describes them; `claims` holds everything else it says.

    The claims that OpenID Connect names are found under Convex's names (`givenName`, section f.7) and as
    attributes here; they are None where the token says nothing. `identity["address.city"]` looks into a
    nested claim, unless a claim has just this name.

    Raises:
        ValidationError: `InvalidIdentity`, for claims that nest too deeply.
    """

    subject: str
    issuer: str
    token_identifier: str
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any])
    # Equal for equal identities, and for no others. Made once: what a function does to claims it was
    # handed must not move its user's results to another place.
    cache_key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        claims = _ordered(self.claims, _CLAIM_DEPTH_MAX)
        object.__setattr__(self, "claims", claims)
        # `repr` quotes text, so no two identities run together.
        key = repr((self.issuer, self.subject, self.token_identifier, claims))
        object.__setattr__(self, "cache_key", key)

    def __getitem__(self, claim: str) -> Any:
        """Raises: KeyError."""
        if claim in self.claims:
            return copy.deepcopy(self.claims[claim])
        value: Any = self.claims
        for name in claim.split("."):
            if not isinstance(value, Mapping) or name not in value:
                raise KeyError(claim)
            value = cast("Mapping[str, Any]", value)[name]
        return copy.deepcopy(value)

    def get(self, claim: str, default: Any = None) -> Any:
        try:
            return self[claim]
        except KeyError:
            return default

    def _text(self, claim: str) -> str | None:
        value = self.claims.get(claim)
        return value if isinstance(value, str) else None

    def _flag(self, claim: str) -> bool | None:
        value = self.claims.get(claim)
        return value if isinstance(value, bool) else None

    @property
    def name(self) -> str | None:
        return self._text("name")

    @property
    def given_name(self) -> str | None:
        return self._text("givenName")

    @property
    def family_name(self) -> str | None:
        return self._text("familyName")

    @property
    def nickname(self) -> str | None:
        return self._text("nickname")

    @property
    def preferred_username(self) -> str | None:
        return self._text("preferredUsername")

    @property
    def profile_url(self) -> str | None:
        return self._text("profileUrl")

    @property
    def picture_url(self) -> str | None:
        return self._text("pictureUrl")

    @property
    def website_url(self) -> str | None:
        return self._text("websiteUrl")

    @property
    def email(self) -> str | None:
        return self._text("email")

    @property
    def email_verified(self) -> bool | None:
        return self._flag("emailVerified")

    @property
    def gender(self) -> str | None:
        return self._text("gender")

    @property
    def birthday(self) -> str | None:
        return self._text("birthday")

    @property
    def timezone(self) -> str | None:
        return self._text("timezone")

    @property
    def language(self) -> str | None:
        return self._text("language")

    @property
    def phone_number(self) -> str | None:
        return self._text("phoneNumber")

    @property
    def phone_number_verified(self) -> bool | None:
        return self._flag("phoneNumberVerified")

    @property
    def address(self) -> str | None:
        return self._text("address")

    @property
    def updated_at(self) -> str | None:
        """RFC 3339."""
        return self._text("updatedAt")


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller of a function: `user` is whom `get_user_identity` shows, `is_admin` what they may reach."""

    is_admin: bool = False
    user: UserIdentity | None = None

    @property
    def cache_key(self) -> str:
        return self.user.cache_key if self.user else ""

    @staticmethod
    def acting_as(attributes: Mapping[str, Any]) -> Identity:
        """An administrator in the place of the user with these attributes (section f.7).

        Raises:
            ValidationError: without `tokenIdentifier`, or `issuer` and `subject`.
        """
        issuer, subject = attributes.get("issuer"), attributes.get("subject")
        token_identifier = attributes.get("tokenIdentifier")
        if token_identifier is None and isinstance(issuer, str) and isinstance(subject, str):
            token_identifier = f"{issuer}|{subject}"
        if not isinstance(token_identifier, str):
            raise ValidationError(
                "an identity to act as has `tokenIdentifier`, or `issuer` and `subject`, "
                f"got {sorted(map(str, attributes))}",
                code="InvalidIdentity",
            )
        if not isinstance(issuer, str) or not isinstance(subject, str):
            issuer, _, subject = token_identifier.rpartition("|")
        known = ("issuer", "subject", "tokenIdentifier")
        claims = {name: value for name, value in attributes.items() if name not in known}
        return Identity(is_admin=True, user=UserIdentity(subject, issuer, token_identifier, claims))


ANONYMOUS: Final = Identity()
# Code in this process may call whatever it can import, internal functions too, and is nobody's user.
IN_PROCESS: Final = Identity(is_admin=True)
ADMIN: Final = Identity(is_admin=True)


def _ordered(value: Any, depth_max: int) -> Any:
    """A copy of claims with their names in order, so that equal ones have one text."""
    if isinstance(value, Mapping | list | tuple) and depth_max == 0:
        raise ValidationError(
            f"claims nest at most {_CLAIM_DEPTH_MAX} deep, these go deeper - leave the inner ones out",
            code="InvalidIdentity",
        )
    if isinstance(value, Mapping):
        claims = cast("Mapping[str, Any]", value)
        return {name: _ordered(claims[name], depth_max - 1) for name in sorted(claims)}
    if isinstance(value, list | tuple):
        return [_ordered(item, depth_max - 1) for item in cast("list[Any]", value)]
    return value
