"""How does a session go on, and how does it end?

A session is a chain of refresh tokens, each good once: whoever shows the newest gets the next one, and a
token for the calls of the next minutes. A refresh token is `family.secret`. All tokens of a chain have their
family in common, so that an old one is told from one that never was, and only hashes of both are stored.

An old one ends the session, for two hold what one was given. Not so within a minute: an answer may have been
lost, or two tabs may have asked at once. Then all are told the same, newest token, and none is left behind.
A session that has ended is kept for a month, as what a device is known by (`rate_limits`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, TypedDict, cast

from . import failures
from .declaration import SignIn
from .keys import SignInKeys
from .tables import SESSIONS, find, insert, rows, run_of, update

if TYPE_CHECKING:
    from ..engine import StoredDocument
    from ..functions import QueryCtx, Run
    from ..values import Value

# Convex's client notices after a minute without a message that its connection is gone.
GRACE_MS: Final = 60_000.0
# How far back a token of that minute may lie, and so how many tokens a minute a session may get.
ROTATIONS_MAX: Final = 16
_KEPT_AFTERWARDS_MS: Final = 30 * 24 * 3600e3
_FAMILY_BYTES: Final = 16
_SECRET_BYTES: Final = 32
_SWEPT_MAX: Final = 8

End = Literal["signedOut", "reused", "replaced"]


class Tokens(TypedDict):
    """What a client gets: the token for `setAuth`, and the one that the next is had with."""

    token: str
    refreshToken: str
    userId: str


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token taken apart."""

    family: bytes
    secret: bytes

    @staticmethod
    def parse(text: str) -> RefreshToken | None:
        """None for what is none."""
        parts = text.split(".")
        if len(text) > 100 or len(parts) != 2:
            return None
        try:
            family, secret = map(_decoded, parts)
        except (binascii.Error, ValueError):
            return None
        is_one = (len(family), len(secret)) == (_FAMILY_BYTES, _SECRET_BYTES)
        return RefreshToken(family, secret) if is_one else None

    def __str__(self) -> str:
        parts = (base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (self.family, self.secret))
        return ".".join(parts)


def _decoded(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def start(run: Run, user_id: str) -> Tokens:
    """Begin a session of that user."""
    first = RefreshToken(secrets.token_bytes(_FAMILY_BYTES), secrets.token_bytes(_SECRET_BYTES))
    now_ms = run.transaction.now_ms
    _make_room(run, user_id)
    fields: dict[str, Value] = {
        "userId": user_id,
        "familyHash": _hash(first.family),
        "secretHash": _hash(first.secret),
        # When (`Timeline.steady_ms`) the last tokens were replaced, as far as a lost answer may ask for it.
        "rotatedMs": [],
        "usedMs": now_ms,
        # When it ends if nobody uses it; of one that has ended, when it is forgotten.
        "endsMs": now_ms + _settings(run).idle_session_s * 1000,
        "ended": None,
    }
    return _tokens(run, user_id, insert(run, SESSIONS, fields), first)


def refresh(run: Run, text: str) -> Tokens | None:
    """The next tokens of a session; None if it has ended, be it now, because this token is an old one.

    Raises:
        ApplicationError: `RateLimited`.
    """
    shown = RefreshToken.parse(text)
    row = None if shown is None else _of_family(run, shown)
    now_ms, steady_ms = run.transaction.now_ms, run.runner.engine.timeline.steady_ms
    if shown is None or row is None or not is_live(run, row):
        return None
    known_ms = cast("list[float]", row.fields["rotatedMs"])
    rotated_ms = [at_ms for at_ms in known_ms if steady_ms - at_ms < GRACE_MS]
    user_id, keys = str(row.fields["userId"]), run.runner.deployment.part(SignInKeys)
    if not hmac.compare_digest(_hash(shown.secret), str(row.fields["secretHash"])):
        newest = _newest(keys, shown, row, len(rotated_ms))
        if newest is None:
            end(run, row, "reused")
            return None
        return _tokens(run, user_id, row.id, newest)
    if len(rotated_ms) >= ROTATIONS_MAX:
        raise failures.rate_limited(rotated_ms[0] + GRACE_MS - steady_ms)
    next_one = RefreshToken(shown.family, keys.next_secret(shown.family, shown.secret))
    changes: dict[str, Value] = {
        "secretHash": _hash(next_one.secret),
        "rotatedMs": [*rotated_ms, steady_ms],
        "usedMs": now_ms,
        "endsMs": now_ms + _settings(run).idle_session_s * 1000,
    }
    update(run, row, changes)
    return _tokens(run, user_id, row.id, next_one)


def _newest(
    keys: SignInKeys, shown: RefreshToken, row: StoredDocument, steps_max: int
) -> RefreshToken | None:
    """The newest token of the chain, if the one shown lies at most that far back."""
    secret = shown.secret
    for _ in range(steps_max):
        secret = keys.next_secret(shown.family, secret)
        if hmac.compare_digest(_hash(secret), str(row.fields["secretHash"])):
            return RefreshToken(shown.family, secret)
    return None


def end(run: Run, row: StoredDocument, why: End) -> None:
    """Nothing is had from it any more; its last token goes on being accepted until it ends by itself."""
    if row.fields["ended"] is None:
        update(run, row, {"ended": why, "endsMs": run.transaction.now_ms + _KEPT_AFTERWARDS_MS})


def end_all(run: Run, user_id: str, why: End) -> None:
    for row in list(rows(run, SESSIONS, "by_user", user_id)):
        end(run, row, why)


def of_token(run: Run, text: str | None) -> StoredDocument | None:
    """The session that a refresh token is or was of, ended or not."""
    shown = RefreshToken.parse(text) if text is not None else None
    return None if shown is None else _of_family(run, shown)


def is_user(ctx: QueryCtx) -> bool:
    """Whether the caller is a user of ours; the session may have ended."""
    identity = ctx.auth.get_user_identity()
    return identity is not None and identity.issuer == run_of(ctx).runner.deployment.part(SignInKeys).issuer


def of_caller(ctx: QueryCtx) -> StoredDocument | None:
    """The session whose token the caller has shown, if it goes on; a query that asks follows its end."""
    identity, run = ctx.auth.get_user_identity(), run_of(ctx)
    if identity is None or not is_user(ctx):
        return None
    # No token outlives its session's time, so what it says of its end need not be looked at.
    row = run.transaction.get(str(identity.get("sid", "")))
    if row is None or row.table.name != SESSIONS or row.fields["userId"] != identity.subject:
        return None
    return row if row.fields["ended"] is None else None


def is_live(run: Run, row: StoredDocument) -> bool:
    """Whether tokens can still be had from it."""
    return row.fields["ended"] is None and not _is_over(run, row)


def used_ms(row: StoredDocument) -> float:
    """When tokens were last had from it."""
    return cast("float", row.fields["usedMs"])


def name_of(run: Run, user_id: str) -> str | None:
    """The name of a user's account; None for somebody who is anonymous."""
    return cast("str | None", run.transaction.existing(user_id).fields["name"])


def _tokens(run: Run, user_id: str, session_id: str, refresh_token: RefreshToken) -> Tokens:
    name = name_of(run, user_id)
    now_s = int(run.transaction.now_ms / 1000)
    token = run.runner.deployment.part(SignInKeys).sign(
        {
            "sub": user_id,
            "sid": session_id,
            "iat": now_s,
            "exp": now_s + int(_settings(run).access_token_s),
            **({"anonymous": True} if name is None else {"name": name}),
        }
    )
    return {"token": token, "refreshToken": str(refresh_token), "userId": user_id}


def _make_room(run: Run, user_id: str) -> None:
    """Forget sessions whose time is over, and of this user those least used above the bound."""
    for row in list(islice(rows(run, SESSIONS, "by_end"), _SWEPT_MAX)):
        if not _is_over(run, row):
            break
        run.transaction.delete(row)
    known = list(rows(run, SESSIONS, "by_user", user_id))
    for row in known[: max(0, len(known) + 1 - run.runner.engine.limits.sign_in_sessions_per_user_max)]:
        run.transaction.delete(row)


def _is_over(run: Run, row: StoredDocument) -> bool:
    """Its time has passed, also by what a clock that was set ahead cannot hasten."""
    span_s = _settings(run).idle_session_s if row.fields["ended"] is None else _KEPT_AFTERWARDS_MS / 1000
    return _ends_ms(row) <= run.runner.engine.timeline.believed_ms(span_s)


def _of_family(run: Run, token: RefreshToken) -> StoredDocument | None:
    return find(run, SESSIONS, "by_family", _hash(token.family))


def _settings(run: Run) -> SignIn:
    return run.runner.deployment.part(SignIn)


def _ends_ms(row: StoredDocument) -> float:
    return cast("float", row.fields["endsMs"])


def _hash(secret: bytes) -> str:
    # They are random and long: nothing slower is needed against guessing.
    return hashlib.sha256(secret).hexdigest()
