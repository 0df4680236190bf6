"""What is the front end told when somebody is not let in?

`ApplicationError`s, whose `data` reaches every client whole: a `code` for the program, a `message` for the
developer, and `retryAfterMs` where waiting helps. Which of name and password was wrong is not told.
"""

from __future__ import annotations

import math

from ..errors import ApplicationError


def invalid_credentials() -> ApplicationError:
    return _failure("InvalidCredentials", "there is no account with this name and this password")


def session_ended() -> ApplicationError:
    return _failure("SessionEnded", "this session has ended - sign in again")


def not_signed_in() -> ApplicationError:
    return _failure("NotSignedIn", "nobody is signed in here - send the token along (`setAuth`)")


def name_taken() -> ApplicationError:
    return _failure("NameTaken", "there is an account with this name - sign in, or choose another one")


def has_account() -> ApplicationError:
    return _failure("HasAccount", "this user has an account already - sign out first to make another one")


def has_no_password() -> ApplicationError:
    return _failure("HasNoPassword", "this user is anonymous - sign up to set a name and a password")


def invalid_name(expected: str) -> ApplicationError:
    return _failure("InvalidName", f"the name of an account has {expected}")


def invalid_password(expected: str) -> ApplicationError:
    return _failure("InvalidPassword", f"a password has {expected}")


def rate_limited(retry_after_ms: float) -> ApplicationError:
    return ApplicationError(
        {
            "code": "RateLimited",
            "message": "too many attempts - wait for `retryAfterMs`",
            "retryAfterMs": float(max(1, math.ceil(retry_after_ms))),
        }
    )


def _failure(code: str, message: str) -> ApplicationError:
    return ApplicationError({"code": code, "message": message})
