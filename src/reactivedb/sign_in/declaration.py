"""How does an application say that its users sign in here?

`App(..., sign_in=SignIn(password=True, anonymous=True))`. The declaration does no I/O; what it adds to the
application are functions below `signIn:` and tables of its own.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from importlib.util import find_spec
from typing import Final

from ..errors import SchemaError

# The client fetches a new token 10 s before the old one ends, and no token may outlive a sign-out for long.
ACCESS_TOKEN_S_MIN: Final = 15.0
ACCESS_TOKEN_S_MAX: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class SignIn:
    """Users of the application's own: with a name and a password, anonymous, or both.

    `access_token_s` is how long a token is good, and so how long one goes on being accepted after its session
    has ended; `idle_session_s` is how long a session lasts that nobody uses. Hashing passwords needs
    `argon2-cffi`, which `pip install reactivedb[sign-in]` brings along.

    Raises:
        SchemaError: `InvalidSignIn`, `MissingDependency`.
    """

    _: KW_ONLY
    password: bool = False
    anonymous: bool = False
    access_token_s: float = 600.0
    idle_session_s: float = 30 * 24 * 3600.0

    def __post_init__(self) -> None:
        if not (self.password or self.anonymous):
            raise _invalid("`password=True`, `anonymous=True` or both, got neither")
        if not ACCESS_TOKEN_S_MIN <= self.access_token_s <= ACCESS_TOKEN_S_MAX:
            raise _invalid(
                f"`access_token_s` between {ACCESS_TOKEN_S_MIN:.0f} and {ACCESS_TOKEN_S_MAX:.0f}, "
                f"got {self.access_token_s}"
            )
        if self.idle_session_s < self.access_token_s:
            raise _invalid(f"`idle_session_s` to be at least `access_token_s`, got {self.idle_session_s}")
        if self.password and find_spec("argon2") is None:
            raise SchemaError(
                "`SignIn(password=True)` hashes passwords with `argon2-cffi`, which is not installed - "
                "`pip install reactivedb[sign-in]`",
                code="MissingDependency",
            )


def _invalid(expected: str) -> SchemaError:
    return SchemaError(f"`SignIn` expects {expected}", code="InvalidSignIn")
