"""What does signing in read and write, one transaction at a time?

Hashing lies between these steps, outside of any transaction, so each one looks again at what the one before
has seen. They are mutations that only our own actions and administrators reach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypedDict

from ..functions import MutationCtx, RegisteredFunction, internal_mutation
from . import failures, sessions
from .rate_limits import (
    account_bucket,
    anonymous_bucket,
    device_bucket,
    everybody_bucket,
    give_back,
    sign_up_bucket,
    take,
)
from .sessions import Tokens
from .tables import PASSWORDS, USERS, find, insert, run_of, update

if TYPE_CHECKING:
    from ..engine import StoredDocument
    from ..functions import Run
    from .rate_limits import Bucket


class Attempt(TypedDict):
    """What a password is to be compared with: None where there is no account."""

    hash: str | None


@internal_mutation
def begin_anonymous(ctx: MutationCtx) -> Tokens:
    """Make a user without an account."""
    run = run_of(ctx)
    take(run, anonymous_bucket(run.runner.engine.limits))
    return sessions.start(run, insert(run, USERS, {"name": None}))


@internal_mutation
def begin_sign_up(ctx: MutationCtx) -> None:
    """Count it, before the password is hashed. Raises: ApplicationError `RateLimited`."""
    run = run_of(ctx)
    take(run, sign_up_bucket(run.runner.engine.limits))


@internal_mutation
def finish_sign_up(ctx: MutationCtx, name: str, key: str, hash: str) -> Tokens:
    """Make an account: the anonymous caller's, who stays the same user, or a new user's.

    Raises:
        ApplicationError: `NameTaken`, `HasAccount`; `SessionEnded`, of the anonymous caller.
    """
    run = run_of(ctx)
    if find(run, PASSWORDS, "by_key", key) is not None:
        raise failures.name_taken()
    session = sessions.of_caller(ctx)
    if session is None and sessions.is_user(ctx):
        raise failures.session_ended()
    if session is None:
        user_id = insert(run, USERS, {"name": name})
    else:
        user_id = str(session.fields["userId"])
        if _password_of(run, user_id) is not None:
            raise failures.has_account()
        update(run, run.transaction.existing(user_id), {"name": name})
        # What was a stranger's session is not to become one of the account's.
        sessions.end_all(run, user_id, "replaced")
    insert(run, PASSWORDS, {"userId": user_id, "key": key, "hash": hash})
    return sessions.start(run, user_id)


@internal_mutation
def begin_sign_in(ctx: MutationCtx, key: str, refresh_token: str | None) -> Attempt:
    """Count an attempt as if it had failed. Raises: ApplicationError `RateLimited`."""
    run = run_of(ctx)
    password = find(run, PASSWORDS, "by_key", key)
    take(run, *_buckets(run, password, key, refresh_token))
    return {"hash": None if password is None else str(password.fields["hash"])}


@internal_mutation
def finish_sign_in(ctx: MutationCtx, key: str, refresh_token: str | None, hash: str, new_hash: str) -> Tokens:
    """The password was that of `hash`. Raises: ApplicationError `InvalidCredentials`, if it no more is."""
    run = run_of(ctx)
    password = _still(find(run, PASSWORDS, "by_key", key), hash)
    give_back(run, *_buckets(run, password, key, refresh_token))
    if new_hash != hash:
        update(run, password, {"hash": new_hash})
    return sessions.start(run, str(password.fields["userId"]))


@internal_mutation
def begin_change(ctx: MutationCtx) -> Attempt:
    """Count an attempt to change the caller's password as if it had failed.

    Raises:
        ApplicationError: `NotSignedIn`, `HasNoPassword`, `RateLimited`.
    """
    run = run_of(ctx)
    session = _session(ctx)
    password = _password_of(run, str(session.fields["userId"]))
    if password is None:
        raise failures.has_no_password()
    take(run, device_bucket(run.runner.engine.limits, session.id))
    return {"hash": str(password.fields["hash"])}


@internal_mutation
def finish_change(ctx: MutationCtx, hash: str, new_hash: str) -> Tokens:
    """Change it and end all sessions but the one that begins now.

    Raises:
        ApplicationError: `NotSignedIn`, `InvalidCredentials`: in the meantime something else was changed.
    """
    run = run_of(ctx)
    session = _session(ctx)
    user_id = str(session.fields["userId"])
    password = _still(_password_of(run, user_id), hash)
    give_back(run, device_bucket(run.runner.engine.limits, session.id))
    update(run, password, {"hash": new_hash})
    sessions.end_all(run, user_id, "replaced")
    return sessions.start(run, user_id)


@internal_mutation
def put_password(ctx: MutationCtx, key: str, hash: str) -> None:
    """Set somebody's password, whatever it was, and end their sessions.

    Raises:
        ApplicationError: `InvalidCredentials`, there is no such account.
    """
    run = run_of(ctx)
    password = find(run, PASSWORDS, "by_key", key)
    if password is None:
        raise failures.invalid_credentials()
    update(run, password, {"hash": hash})
    sessions.end_all(run, str(password.fields["userId"]), "replaced")


@internal_mutation
def refresh_session(ctx: MutationCtx, refresh_token: str) -> Tokens | None:
    """The next tokens; None, and not an error that would undo the end of the session, if there are none."""
    return sessions.refresh(run_of(ctx), refresh_token)


def _session(ctx: MutationCtx) -> StoredDocument:
    session = sessions.of_caller(ctx)
    if session is None:
        raise failures.not_signed_in()
    return session


def _password_of(run: Run, user_id: str) -> StoredDocument | None:
    return find(run, PASSWORDS, "by_user", user_id)


def _still(password: StoredDocument | None, hash: str) -> StoredDocument:
    """The account, if its password is what it was when it was compared."""
    if password is None or password.fields["hash"] != hash:
        raise failures.invalid_credentials()
    return password


def _buckets(
    run: Run, password: StoredDocument | None, key: str, refresh_token: str | None
) -> tuple[Bucket, ...]:
    """Where attempts on this name from this device are counted."""
    limits = run.runner.engine.limits
    device = sessions.of_token(run, refresh_token)
    if password is not None and device is not None and device.fields["userId"] == password.fields["userId"]:
        return (device_bucket(limits, device.id),)
    return account_bucket(limits, key), everybody_bucket(limits)


STEPS: Final[dict[str, RegisteredFunction[..., Any]]] = {
    "_system/signIn:beginAnonymous": begin_anonymous,
    "_system/signIn:beginSignUp": begin_sign_up,
    "_system/signIn:finishSignUp": finish_sign_up,
    "_system/signIn:beginSignIn": begin_sign_in,
    "_system/signIn:finishSignIn": finish_sign_in,
    "_system/signIn:beginChange": begin_change,
    "_system/signIn:finishChange": finish_change,
    "_system/signIn:putPassword": put_password,
    "_system/signIn:refresh": refresh_session,
}
