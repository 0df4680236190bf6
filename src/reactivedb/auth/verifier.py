"""Is a token good, and whose is it?

What can be told from the token alone is told first, so that nobody is asked about one that could not be
accepted anyway. The signature is checked last; only then is anything that the token claims believed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..clock import Clock
from ..errors import AuthenticationError, ValidationError
from ..functions import Identity
from ..limits import Limits
from .claims import identity_of
from .providers import Provider
from .tokens import Token

if TYPE_CHECKING:
    from .fetch import Resolve
    from .keys import KeySet
    from .signatures import Key


@dataclass(frozen=True, slots=True)
class Verified:
    """A user, and the time in nanoseconds since the epoch from which on the token proves nothing."""

    identity: Identity
    ends_ns: int


class Verifier:
    """The providers of one application and their keys. Used on one event loop."""

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        clock: Clock,
        limits: Limits,
        allow_private: Callable[[], bool],
        resolve: Resolve | None = None,
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._key_sets: list[tuple[Provider, KeySet]] = []
        if providers:
            # Here and not above: the libraries behind it take a tenth of a second to import.
            from . import keys

            how = resolve or keys.resolve
            self._key_sets = [
                (provider, keys.KeySet(provider, clock, allow_private=allow_private, resolve=how))
                for provider in providers
            ]

    def verify_known(self, text: str) -> Verified | None:
        """The identity of a token; None if the provider has to be asked first. Never waits.

        Raises:
            AuthenticationError: the token is not accepted.
        """
        token, provider, keys = self._begin(text)
        key = keys.known(token)
        return None if key is None else self._end(token, provider, key)

    async def verify(self, text: str) -> Verified:
        """The identity of a token.

        Raises:
            AuthenticationError: the token is not accepted.
            AuthProviderError: its provider cannot be asked.
        """
        token, provider, keys = self._begin(text)
        return self._end(token, provider, await keys.find(token))

    def _begin(self, text: str) -> tuple[Token, Provider, KeySet]:
        if not self._key_sets:
            raise AuthenticationError(
                "this application has no auth provider, so it takes no user's token - "
                "declare one with `App(auth=[...])`",
                code="NoAuthProvider",
            )
        token = Token.parse(text, size_bytes_max=self._limits.token_size_bytes_max)
        provider, keys = self._provider_of(token)
        if token.algorithm not in provider.algorithms:
            raise AuthenticationError(
                f"expected a token signed with {' or '.join(provider.algorithms)}, "
                f"got one with `{token.algorithm[:20]}`",
                code="WrongAlgorithm",
            )
        token.check_time(self._now_s)
        return token, provider, keys

    def _end(self, token: Token, provider: Provider, key: Key) -> Verified:
        key.verify(token)
        # Once more: it may have taken a while to get the key.
        token.check_time(self._now_s)
        try:
            user = identity_of(token, provider)
        except ValidationError as error:
            raise AuthenticationError(error.message, code=error.code) from None
        return Verified(Identity(user=user), round(token.ends_s * 1e9))

    def _provider_of(self, token: Token) -> tuple[Provider, KeySet]:
        """The first provider that makes tokens like this one for this application."""
        issued = [pair for pair in self._key_sets if pair[0].issued(token.issuer)]
        for provider, keys in issued:
            if provider.accepts_audience(token.audience):
                return provider, keys
        if issued:
            raise AuthenticationError(
                "the token was made for another application: its `aud` is not this one's",
                code="WrongAudience",
            )
        raise AuthenticationError(
            "the token's `iss` is none of this application's auth providers", code="WrongIssuer"
        )

    @property
    def _now_s(self) -> float:
        return self._clock.now_ns() / 1e9
