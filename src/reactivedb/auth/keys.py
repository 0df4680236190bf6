"""Which keys does a provider sign with now?

A `KeySet` remembers what the provider publishes. It is asked again when that has become old, and when a
token names a key that is not among them, which is what a rotation looks like, but a forger can do it as
well. So such requests are rare: all who wait share one, and the next is made an interval later. An honest
client with a new key waits that short time for it and is not sent away; a name that was looked for in vain is
refused at once for a while.

A provider that does not answer costs nobody their session: keys that were had stay good for a day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final, cast

import anyio

from ..clock import Clock, steady
from ..errors import AuthenticationError, AuthProviderError, ValidationError
from ..log import Log
from ..values import loads
from .fetch import Fetched, Resolve, fetch, resolve
from .providers import CustomJwtProvider, OidcProvider, Provider, keys_in
from .signatures import Key, public_keys
from .tokens import Token

_logger = Log("reactivedb")

_SECOND_NS: Final = 1_000_000_000
_MAX_AGE_S: Final = 3600.0
# What a provider says about the age is followed within these bounds.
_MAX_AGE_BOUNDS_S: Final = (300.0, 6 * 3600.0)
# A key that the provider withdraws while it cannot be asked is refused after this time at the latest.
_HELD_WITHOUT_ANSWER_S: Final = 24 * 3600.0
_RETRY_INTERVAL_S: Final = 5.0
# As long as a client can be kept waiting with a name that a forger may have made up.
UNKNOWN_KEY_INTERVAL_S: Final = 2.0
# Clients come back with the same token once or twice before they give it up.
_REFUSED_FOR_S: Final = 10.0
_REFUSED_MAX: Final = 1_000


class KeySet:
    """The keys of one provider. Used on one event loop."""

    def __init__(
        self,
        provider: Provider,
        clock: Clock,
        *,
        allow_private: Callable[[], bool],
        resolve: Resolve = resolve,
    ) -> None:
        self._provider = provider
        self._clock = steady(clock)
        self._allow_private = allow_private
        self._resolve = resolve
        self._lock = anyio.Lock()
        self._keys: list[Key] = []
        self._fetched_ns = 0
        # Equal to `_fetched_ns` while no keys were had.
        self._stale_ns = 0
        self._failure: AuthProviderError | None = None
        self._retry_ns = 0
        self._next_for_unknown_ns = 0
        # Names of keys that the provider, when it was asked, did not publish, and until when that stands.
        # By their digests, for a forger's name may be as long as a token.
        self._refused: dict[bytes, int] = {}
        # Requests that have ended, whichever way: who waited for one sees that it was made.
        self._ended_count = 0
        self._is_inline = isinstance(provider, CustomJwtProvider) and provider.jwks.startswith("data:")
        if self._is_inline:
            published = cast("CustomJwtProvider", provider).inline_keys()
            self._keys = public_keys(published, provider.algorithms)

    def known(self, token: Token) -> Key | None:
        """The key that the token names, if it can be told without asking the provider.

        Raises:
            AuthenticationError: `MissingKeyId`; `UnknownKey`, where all keys are declared, and for names that
                were looked for just now.
        """
        key = self._match(token) if self._is_inline or self._is_fresh else None
        if key is None and (self._is_inline or self._is_refused(token)):
            raise _unknown_key()
        return key

    async def find(self, token: Token) -> Key:
        """The key that the token names.

        Raises:
            AuthenticationError: `MissingKeyId`, `UnknownKey`.
            AuthProviderError: the provider cannot be asked.
        """
        key = self.known(token)
        if key is not None:
            return key
        seen_count = self._ended_count
        await self._freshen()
        key = self._match(token)
        if key is None and self._ended_count == seen_count:
            await self._ask_for_unknown(seen_count)
            key = self._match(token)
        if key is None:
            if self._failure is not None:
                raise _again(self._failure)
            self._refuse(token)
            raise _unknown_key()
        return key

    def _is_refused(self, token: Token) -> bool:
        until_ns = self._refused.get(_digest(token.key_id), 0)
        # A wall clock that was set back shall not make it longer.
        return 0 < until_ns - self._clock.now_ns() <= _ns(_REFUSED_FOR_S)

    def _refuse(self, token: Token) -> None:
        if len(self._refused) >= _REFUSED_MAX:
            self._refused.clear()
        self._refused[_digest(token.key_id)] = self._clock.now_ns() + _ns(_REFUSED_FOR_S)

    @property
    def _is_fresh(self) -> bool:
        return self._fetched_ns <= self._clock.now_ns() < self._stale_ns

    def _match(self, token: Token) -> Key | None:
        if token.key_id is None:
            candidates = [key for key in self._keys if key.algorithm == token.algorithm]
            if isinstance(self._provider, CustomJwtProvider) or len(candidates) > 1:
                raise AuthenticationError(
                    "expected a token whose header names its key as `kid`, got none", code="MissingKeyId"
                )
        else:
            candidates = [key for key in self._keys if key.key_id == token.key_id]
        return candidates[0] if candidates else None

    async def _freshen(self) -> None:
        """Raises: AuthProviderError, if there are no keys to go on with."""
        async with self._lock:
            if self._is_fresh:
                return
            now_ns = self._clock.now_ns()
            if self._failure is None or not now_ns < self._retry_ns <= now_ns + _ns(_RETRY_INTERVAL_S):
                await self._ask()
            if self._failure is not None:
                age_ns = self._clock.now_ns() - self._fetched_ns
                if not self._keys or age_ns > _ns(_HELD_WITHOUT_ANSWER_S):
                    raise _again(self._failure)

    async def _ask_for_unknown(self, seen_count: int) -> None:
        # Bounded from now too: a wall clock that was set back shall keep nobody waiting.
        now_ns = self._clock.now_ns()
        if now_ns < self._next_for_unknown_ns:
            await self._clock.sleep_ns(min(self._next_for_unknown_ns - now_ns, _ns(UNKNOWN_KEY_INTERVAL_S)))
        async with self._lock:
            if self._ended_count == seen_count:
                self._next_for_unknown_ns = self._clock.now_ns() + _ns(UNKNOWN_KEY_INTERVAL_S)
                await self._ask()

    async def _ask(self) -> None:
        """Ask the provider once, under the lock. What went wrong stands in `_failure` afterwards."""
        try:
            keys, max_age_s = await self._published()
        except AuthProviderError as error:
            _logger.warning("%s", error)
            self._failure = error
            self._retry_ns = self._clock.now_ns() + _ns(_RETRY_INTERVAL_S)
        else:
            self._failure = None
            self._keys = keys
            self._fetched_ns = self._clock.now_ns()
            low, high = _MAX_AGE_BOUNDS_S
            self._stale_ns = self._fetched_ns + _ns(min(max(max_age_s, low), high))
        self._ended_count += 1

    async def _published(self) -> tuple[list[Key], float]:
        """Raises: AuthProviderError."""
        provider = self._provider
        url = await self._discover(provider) if isinstance(provider, OidcProvider) else provider.jwks
        fetched = await self._fetch(url)
        try:
            keys = public_keys(keys_in(loads(fetched.body)), provider.algorithms)
        except ValidationError as error:
            raise AuthProviderError(f"the auth provider's keys at `{url[:200]}` are none: {error}") from None
        if not keys:
            raise AuthProviderError(
                f"the auth provider publishes at `{url[:200]}` no key for {', '.join(provider.algorithms)}"
            )
        return keys, _MAX_AGE_S if fetched.max_age_s is None else fetched.max_age_s

    async def _discover(self, provider: OidcProvider) -> str:
        """Where the keys are (OpenID Connect Discovery 1.0, section 4)."""
        url = f"{provider.url}/.well-known/openid-configuration"
        fetched = await self._fetch(url)
        try:
            tree: Any = loads(fetched.body)
        except ValidationError:
            tree = None
        document = cast("dict[str, Any]", tree) if isinstance(tree, dict) else {}
        issuer, keys_url = document.get("issuer"), document.get("jwks_uri")
        if not isinstance(keys_url, str) or not isinstance(issuer, str) or not provider.issued(issuer):
            raise AuthProviderError(
                f"expected at `{url[:200]}` a JSON object with this `issuer` and a `jwks_uri`"
            )
        return keys_url

    async def _fetch(self, url: str) -> Fetched:
        return await fetch(
            url, allow_private=self._provider.allow_private or self._allow_private(), resolve=self._resolve
        )


def _digest(key_id: str | None) -> bytes:
    return hashlib.sha256((key_id or "").encode("utf-8", "surrogatepass")).digest()


def _ns(seconds: float) -> int:
    return round(seconds * _SECOND_NS)


def _unknown_key() -> AuthenticationError:
    return AuthenticationError("the token names a key that its provider does not publish", code="UnknownKey")


def _again(error: AuthProviderError) -> AuthProviderError:
    """One of its own for each who waited, so that tracebacks do not add up."""
    return AuthProviderError(error.message, code=error.code)
