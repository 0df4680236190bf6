"""What are tokens signed with, and where does it lie?

In a file beside the database, readable by its owner alone, and not in the database: a copy of the data (a
backup, a listing for administrators, a replica) then lets nobody act as a user. Nor is the file worth a
backup. Without it a new key is made when the database is opened; clients whose tokens are refused then come
with their refresh tokens, which the database knows, and nobody is signed out. So deleting the file and
restarting is also how a key is replaced at once that somebody may have seen.

Left alone, a key signs for 90 days. The one after it is made while the database is open, and the old one is
accepted for as long as a token that it has signed can last.

The issuer is in the database: documents hold it, in `token_identifier`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

from ..auth import CustomJwtProvider
from ..auth.providers import Algorithm
from ..errors import StorageError, ValidationError
from ..log import Log
from ..storage import write_private
from ..values import dumps, loads
from .declaration import ACCESS_TOKEN_S_MAX

if TYPE_CHECKING:
    from ..auth.signing import SigningKey
    from ..clock import SteadyClock
    from ..engine import Engine

_log = Log("reactivedb")

# There is one application behind one issuer, so its name need not tell it apart.
AUDIENCE: Final = "reactivedb"
_ALGORITHM: Final[Algorithm] = "EdDSA"
_ISSUER: Final = "sign_in.issuer"
_SIGNS_S: Final = 90 * 24 * 3600.0
# A token that was signed in the last moment, and what clocks may differ by.
_ACCEPTED_AFTERWARDS_S: Final = ACCESS_TOKEN_S_MAX + 60.0
_RETRY_S: Final = 3600.0


class _KeyText(TypedDict):
    id: str
    made_s: float
    pem: str


class _File(TypedDict):
    refresh_secret: str
    # The newest first: it signs.
    keys: list[_KeyText]


@dataclass(frozen=True, slots=True)
class _Key:
    made_s: float
    signing: SigningKey


class SignInKeys:
    """The keys of one open database."""

    def __init__(self, engine: Engine, *, on_change: Callable[[], None]) -> None:
        """Open those of the database's file, or make them; one in memory has its own, for as long as it is.

        Raises:
            StorageError: the file cannot be read or written, `SignInKeysUnreadable`.
        """
        self._clock: SteadyClock = engine.clock
        self._file = _file_beside(engine.storage.path)
        # Called when other keys are accepted than before.
        self._on_change = on_change
        self.issuer = _issuer(engine)
        self._refresh_secret, self._keys = self._read()
        if not self._keys:
            self._keys = [self._new_key()]
            self._write()
        self._advance()

    def provider(self) -> CustomJwtProvider:
        """For the ordinary path of tokens, which verifies these like anybody's."""
        from ..auth.signing import key_set_uri

        return CustomJwtProvider(
            issuer=self.issuer,
            jwks=key_set_uri(*(key.signing for key in self._keys)),
            algorithm=_ALGORITHM,
            application_id=AUDIENCE,
        )

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token with these claims and those that every one of ours has."""
        own = {"iss": self.issuer, "aud": AUDIENCE, "jti": secrets.token_hex(8)}
        return self._keys[0].signing.sign({**claims, **own})

    def next_secret(self, family: bytes, secret: bytes) -> bytes:
        """What follows a secret in the chain of a session.

        Nobody else can tell it, and the same question has the same answer, so that a client that lost it can
        be told again although only its hash is stored.
        """
        return hmac.digest(self._refresh_secret, family + secret, hashlib.sha256)

    async def run(self) -> None:
        """Replace keys when their time has come, until cancelled."""
        while True:
            # Never at once: seconds are rounded, and a loop that finds it too early by that must not spin.
            earliest_ns = self._clock.now_ns() + 1_000_000_000
            await self._clock.sleep_until_ns(max(round(self._next_change_s() * 1e9), earliest_ns))
            try:
                self._advance()
            except StorageError as error:
                _log.error("the keys for sign-in stay what they are for now: %s", error)
                await self._clock.sleep_ns(round(_RETRY_S * 1e9))

    def _advance(self) -> None:
        """Make the next key, and forget keys whose tokens have all ended. Raises: StorageError."""
        before, now_s = self._keys, self._now_s
        keys = before
        if now_s >= before[0].made_s + _SIGNS_S:
            keys = [self._new_key(), *before]
        # Each was replaced when the one before it in the list was made.
        ends_s = [newer.made_s + _ACCEPTED_AFTERWARDS_S for newer in keys[:-1]]
        keys = keys[:1] + [key for key, end_s in zip(keys[1:], ends_s, strict=True) if now_s < end_s]
        if keys == before:
            return
        self._keys = keys
        try:
            self._write()
        except StorageError:
            self._keys = before
            raise
        self._on_change()

    def _next_change_s(self) -> float:
        ends_s = [newer.made_s + _ACCEPTED_AFTERWARDS_S for newer in self._keys[:-1]]
        return min([self._keys[0].made_s + _SIGNS_S, *ends_s])

    def _new_key(self) -> _Key:
        from ..auth.signing import SigningKey

        return _Key(self._now_s, SigningKey.generate(secrets.token_hex(8), _ALGORITHM))

    def _read(self) -> tuple[bytes, list[_Key]]:
        """The secret and the keys, none if there is no file. Raises: StorageError."""
        from ..auth.signing import SigningKey

        if self._file is None or not self._file.exists():
            return secrets.token_bytes(32), []
        try:
            content = cast("_File", loads(self._file.read_bytes()))
            keys = [
                _Key(float(key["made_s"]), SigningKey.from_pem(key["id"], _ALGORITHM, key["pem"].encode()))
                for key in content["keys"]
            ]
            return bytes.fromhex(content["refresh_secret"]), keys
        except (OSError, ValidationError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StorageError(
                f"`{self._file}` should hold the keys for sign-in, and cannot be read ({error}) - mend its "
                "rights, or delete it: new keys are made, and nobody is signed out",
                code="SignInKeysUnreadable",
            ) from error

    def _write(self) -> None:
        if self._file is None:
            return
        keys: list[_KeyText] = [
            {"id": key.signing.key_id, "made_s": key.made_s, "pem": key.signing.pem().decode()}
            for key in self._keys
        ]
        content: _File = {"refresh_secret": self._refresh_secret.hex(), "keys": keys}
        write_private(self._file, dumps(content).decode())

    @property
    def _now_s(self) -> float:
        return self._clock.now_ns() / 1e9


def _file_beside(database: Path | None) -> Path | None:
    return None if database is None else database.with_name(f"{database.name}.sign_in_keys")


def _issuer(engine: Engine) -> str:
    """The name of this database as an issuer of tokens, made once."""
    with engine.lock:
        known = engine.storage.get_meta(_ISSUER)
        if known is None:
            known = f"urn:reactivedb:{secrets.token_hex(16)}"
            with engine.own_group():
                engine.storage.set_meta(_ISSUER, known)
        return known
