"""Who calls?

An `Identity` travels with every call: nobody, an administrator, or a user (which an administrator may act
as). A function that looks at it makes its cached result that identity's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import ValidationError


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """A user as the token describes them; `claims` holds everything else it says, under its own names."""

    subject: str
    issuer: str
    token_identifier: str
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __getitem__(self, claim: str) -> Any:
        return self.claims[claim]

    def get(self, claim: str, default: Any = None) -> Any:
        return self.claims.get(claim, default)


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller of a function: `user` is whom `get_user_identity` shows, `is_admin` what they may reach."""

    is_admin: bool = False
    user: UserIdentity | None = None

    @property
    def cache_key(self) -> str:
        return self.user.token_identifier + repr(sorted(self.user.claims.items())) if self.user else ""

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
