"""What does a front end call to sign its user in, and out?

Ordinary functions below `signIn:`. What gives tokens out is an action, for the answer to a client's mutation
is kept in the database for replays, and no token is to lie there. So an answer can be lost; a session that
nobody knows of is nobody's, and a refresh can be asked for again (`sessions`).
"""

from __future__ import annotations

from typing import Any, Final, TypedDict

from ..functions import (
    ActionCtx,
    MutationCtx,
    QueryCtx,
    RegisteredFunction,
    Registry,
    action,
    internal_action,
    mutation,
    query,
)
from ..schema import secret_arguments
from . import failures, passwords, sessions, steps
from .declaration import SignIn
from .sessions import Tokens
from .tables import SESSIONS, rows, run_of


class CurrentSession(TypedDict):
    """Who is signed in; `name` is null for somebody who is anonymous."""

    sessionId: str
    userId: str
    name: str | None


class OwnSession(TypedDict):
    """One of the caller's sessions; times are in ms since the epoch."""

    sessionId: str
    startedMs: float
    usedMs: float
    isCurrent: bool


@action
async def anonymously(ctx: ActionCtx) -> Tokens:
    """Begin as a new user without an account; `signUp` makes one of it later."""
    return await ctx.run_mutation(steps.begin_anonymous)


@action
@secret_arguments
async def sign_up(ctx: ActionCtx, name: str, password: str) -> Tokens:
    """Make an account and sign in; an anonymous caller keeps the user id, and other sessions of it end.

    Raises:
        ApplicationError: `InvalidName`, `InvalidPassword`, `NameTaken`, `HasAccount`, `RateLimited`.
    """
    shown, key = passwords.checked_name(name)
    passwords.check_new_password(password)
    await ctx.run_mutation(steps.begin_sign_up)
    # Before it is known whether the name is free, so that the answer takes the same time.
    hash = await passwords.hashed(password)
    return await ctx.run_mutation(steps.finish_sign_up, shown, key, hash)


@action
@secret_arguments
async def with_password(ctx: ActionCtx, name: str, password: str, refresh_token: str | None = None) -> Tokens:
    """Sign in; `refresh_token` is the last one that this device had, good or not, and tells that it is known.

    Raises:
        ApplicationError: `InvalidCredentials`, `RateLimited`.
    """
    key = passwords.name_key(name)
    if key is None or not passwords.is_password(password):
        raise failures.invalid_credentials()
    attempt = await ctx.run_mutation(steps.begin_sign_in, key, refresh_token)
    hash = attempt["hash"]
    new_hash = await passwords.verify(hash, password)
    if hash is None or new_hash is None:
        raise failures.invalid_credentials()
    return await ctx.run_mutation(steps.finish_sign_in, key, refresh_token, hash, new_hash)


@action
@secret_arguments
async def change_password(ctx: ActionCtx, current_password: str, new_password: str) -> Tokens:
    """Change the caller's password; all their sessions end, and a new one begins here.

    Raises:
        ApplicationError: `NotSignedIn`, `HasNoPassword`, `InvalidCredentials`, `InvalidPassword`,
            `RateLimited`.
    """
    passwords.check_new_password(new_password)
    if not passwords.is_password(current_password):
        raise failures.invalid_credentials()
    hash = (await ctx.run_mutation(steps.begin_change))["hash"]
    if hash is None or await passwords.verify(hash, current_password) is None:
        raise failures.invalid_credentials()
    new_hash = await passwords.hashed(new_password)
    return await ctx.run_mutation(steps.finish_change, hash, new_hash)


@internal_action
@secret_arguments
async def set_password(ctx: ActionCtx, name: str, password: str) -> None:
    """For administrators: give somebody who forgot theirs a new one; all their sessions end.

    Raises:
        ApplicationError: `InvalidName`, `InvalidPassword`, `InvalidCredentials`, `RateLimited`.
    """
    _, key = passwords.checked_name(name)
    passwords.check_new_password(password)
    await ctx.run_mutation(steps.put_password, key, await passwords.hashed(password))


@action
@secret_arguments
async def refresh(ctx: ActionCtx, refresh_token: str) -> Tokens:
    """The next tokens of a session.

    Raises:
        ApplicationError: `SessionEnded`, `RateLimited`.
    """
    tokens = await ctx.run_mutation(steps.refresh_session, refresh_token)
    if tokens is None:
        raise failures.session_ended()
    return tokens


@mutation
@secret_arguments
def sign_out(ctx: MutationCtx, refresh_token: str | None = None) -> None:
    """End the session of that refresh token, or else the caller's; no error if it has ended."""
    run = run_of(ctx)
    row = sessions.of_caller(ctx) if refresh_token is None else sessions.of_token(run, refresh_token)
    if row is not None:
        sessions.end(run, row, "signedOut")


@mutation
def sign_out_everywhere(ctx: MutationCtx) -> None:
    """End all sessions of the caller. Raises: ApplicationError `NotSignedIn`."""
    row = sessions.of_caller(ctx)
    if row is None:
        raise failures.not_signed_in()
    sessions.end_all(run_of(ctx), str(row.fields["userId"]), "signedOut")


@query
def session(ctx: QueryCtx) -> CurrentSession | None:
    """The caller's session as long as it goes on; whoever follows this learns of its end at once."""
    row = sessions.of_caller(ctx)
    if row is None:
        return None
    user_id = str(row.fields["userId"])
    return {"sessionId": row.id, "userId": user_id, "name": sessions.name_of(run_of(ctx), user_id)}


@query
def own_sessions(ctx: QueryCtx) -> list[OwnSession]:
    """The caller's sessions that go on, the one used last first."""
    run, mine = run_of(ctx), sessions.of_caller(ctx)
    if mine is None:
        return []
    found = rows(run, SESSIONS, "by_user", mine.fields["userId"])
    live = [row for row in found if sessions.is_live(run, row)]
    return [
        {
            "sessionId": row.id,
            "startedMs": row.creation_time,
            "usedMs": sessions.used_ms(row),
            "isCurrent": row.id == mine.id,
        }
        for row in reversed(live)
    ]


_ALWAYS: Final[dict[str, RegisteredFunction[..., Any]]] = {
    "signIn:refresh": refresh,
    "signIn:session": session,
    "signIn:sessions": own_sessions,
    "signIn:signOut": sign_out,
    "signIn:signOutEverywhere": sign_out_everywhere,
}
_WITH_PASSWORDS: Final[dict[str, RegisteredFunction[..., Any]]] = {
    "signIn:signUp": sign_up,
    "signIn:withPassword": with_password,
    "signIn:changePassword": change_password,
    "_system/signIn:setPassword": set_password,
}
_FOR_ANONYMOUS: Final[dict[str, RegisteredFunction[..., Any]]] = {"signIn:anonymously": anonymously}


def add_functions(registry: Registry, sign_in: SignIn) -> None:
    """Make an application's registry answer to what its declaration offers.

    Raises:
        SchemaError: `DuplicateFunction`, the application has a function under such a path.
    """
    offered = {**_ALWAYS, **steps.STEPS}
    if sign_in.password:
        offered |= _WITH_PASSWORDS
    if sign_in.anonymous:
        offered |= _FOR_ANONYMOUS
    for path, reference in offered.items():
        registry.add(path, path, reference)
