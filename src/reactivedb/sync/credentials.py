"""For whom does a connection speak, and until when?

The answer to each `Authenticate` is given once, to the `Owner`: at once where the token can be judged
without asking anybody, else when its provider has answered; until then `is_verifying`, and the owner lets
later messages wait. A user's token ends by itself: on a timer, and whoever is about to run something for
the user asks `has_expired` before.
"""

from __future__ import annotations

from typing import Protocol

import anyio

from ..app import Runtime
from ..auth import Verified
from ..errors import AuthenticationError, AuthProviderError, ValidationError
from ..functions import ADMIN, ANONYMOUS, Identity
from ..log import Log
from ..values import dumps
from .messages import Authenticate

_logger = Log("reactivedb")


class Owner(Protocol):
    """The session."""

    def identified(self, identity: Identity) -> None:
        """What comes next is asked by this one."""
        ...

    def refused(self, error: AuthenticationError, *, attempted: bool) -> None:
        """The credentials prove nothing: those just shown (`attempted`), or, by now, those shown before."""
        ...

    def unverifiable(self, error: AuthProviderError) -> None:
        """Nobody can say now; the client may try again."""
        ...


class Credentials:
    """Those of one connection. Everything happens on the runtime's loop."""

    def __init__(self, runtime: Runtime, owner: Owner) -> None:
        self._runtime = runtime
        self._owner = owner
        self.identity: Identity = ANONYMOUS
        self._ends_ns: int | None = None
        self._verification: anyio.CancelScope | None = None
        self._end_watch: anyio.CancelScope | None = None

    @property
    def is_verifying(self) -> bool:
        return self._verification is not None

    @property
    def has_expired(self) -> bool:
        return self._ends_ns is not None and self._runtime.engine.clock.now_ns() >= self._ends_ns

    def show(self, message: Authenticate) -> None:
        """Judge what the client shows."""
        try:
            match message.token_type:
                case "None":
                    self._accept(ANONYMOUS)
                case "Admin":
                    self._accept(self._admin(message))
                case _:
                    self._show_token(message.value or "")
        except AuthenticationError as error:
            self._refuse(error)

    def close(self) -> None:
        """The connection has ended."""
        for scope in (self._verification, self._end_watch):
            if scope is not None:
                scope.cancel()
        self._verification = self._end_watch = None

    def expire(self) -> None:
        """Say that the time of the user's token is over."""
        error = AuthenticationError("the token has expired - get a new one", code="TokenExpired")
        self._owner.refused(error, attempted=False)

    def _admin(self, message: Authenticate) -> Identity:
        """Raises: AuthenticationError."""
        shown, size_bytes_max = message.value or "", self._runtime.limits.token_size_bytes_max
        if len(shown) > size_bytes_max or not self._runtime.is_admin_key(shown):
            raise AuthenticationError("the admin key is not this deployment's", code="BadDeployKey")
        if message.impersonating is None:
            return ADMIN
        # Kept as long as the connection, and with each result that is this user's own.
        if (size_bytes := len(dumps(message.impersonating))) > size_bytes_max:
            raise AuthenticationError(
                f"expected an identity to act as of at most {size_bytes_max} bytes, got {size_bytes}",
                code="InvalidIdentity",
            )
        try:
            return Identity.acting_as(message.impersonating)
        except ValidationError as error:
            raise AuthenticationError(error.message, code=error.code) from None

    def _show_token(self, text: str) -> None:
        """Raises: AuthenticationError."""
        verified = self._runtime.auth.verify_known(text)
        if verified is None:
            scope = self._verification = anyio.CancelScope()
            self._runtime.start(self._verify, text, scope)
        else:
            self._accept_user(verified)

    async def _verify(self, text: str, scope: anyio.CancelScope) -> None:
        with scope:
            outcome: Verified | AuthenticationError
            try:
                outcome = await self._runtime.auth.verify(text)
            except AuthenticationError as error:
                outcome = error
            except Exception:  # our own mistake, which is to cost this connection and not the database
                _logger.exception("a token could not be verified")
                outcome = AuthProviderError("the server failed; its log says more")
            # What waited is read in a callback, as what comes by itself is, and not in the database's task.
            self._runtime.loop.call_soon(self._judge, scope, outcome)

    def _judge(self, scope: anyio.CancelScope, outcome: Verified | AuthenticationError) -> None:
        if self._verification is not scope:
            return  # the connection has ended
        self._verification = None
        if isinstance(outcome, Verified):
            self._accept_user(outcome)
        else:
            self._refuse(outcome)

    def _refuse(self, error: AuthenticationError) -> None:
        if isinstance(error, AuthProviderError):
            self._owner.unverifiable(error)
        else:
            self._owner.refused(error, attempted=True)

    def _accept_user(self, verified: Verified) -> None:
        self._accept(verified.identity, verified.ends_ns)

    def _accept(self, identity: Identity, ends_ns: int | None = None) -> None:
        if self._end_watch is not None:
            self._end_watch.cancel()
            self._end_watch = None
        self.identity = identity
        self._ends_ns = ends_ns
        if ends_ns is not None:
            scope = self._end_watch = anyio.CancelScope()
            self._runtime.start(self._watch_end, ends_ns, scope)
        self._owner.identified(identity)

    async def _watch_end(self, ends_ns: int, scope: anyio.CancelScope) -> None:
        with scope:
            await self._runtime.engine.clock.sleep_until_ns(ends_ns)
            # A newer token under way decides instead.
            if not self.is_verifying:
                self.expire()
