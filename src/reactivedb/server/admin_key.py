"""Is this the deployment's admin key, and could a stranger guess it?

Only a digest of the key is kept, and digests are compared in constant time. A key opens everything to
whoever knows it and is never locked by failures, so where others than this machine reach the server it has
to be one that cannot be guessed: at least 16 characters, and at least 10 that do not follow from those before
(repeated, counted up or down, or a word that everybody tries). `secrets.token_urlsafe(32)` has 43.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final

from ..errors import ReactiveDBError

KEY_LENGTH_MIN: Final = 16
KEY_NOVELTY_MIN: Final = 10
# A longer key is not looked at to its end.
_LOOKED_AT_MAX: Final = 200

MAKE_A_KEY: Final = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'

# Words that are tried first, and those that documentation and configuration put where a key belongs.
_WORDS: Final = """
administrator admin root user login master superuser service account password passphrase passwd passwort pass
secret private public key token auth access credentials changeme change replace please letmein welcome
iloveyou monkey dragon football baseball sunshine princess shadow whatever trustno qwertyuiop qwerty
asdfghjkl asdf
zxcvbnm correct horse battery staple example sample demo default dummy placeholder insert your this here
reactivedb reactive convex database server deployment deploy production prod development staging local test
temporary foobar lorem ipsum hello world super the my not for
"""
_WORD: Final = re.compile("|".join(sorted(_WORDS.split(), key=len, reverse=True)))
# What people write for letters.
_PLAIN: Final = str.maketrans("@$01345!", "asoleasi")


@dataclass(frozen=True, slots=True)
class AdminKey:
    """The deployment's admin key, as its SHA-256; a key is 256 random bits, so no salt is needed."""

    # Of a key that can be guessed, the digest gives it away.
    digest: bytes = field(repr=False)
    is_guessable: bool = False

    @staticmethod
    def of(text: str) -> AdminKey:
        """Raises: ReactiveDBError `WeakAdminKey`, for a blank key, which anybody shows who shows none."""
        key = text.strip()
        if not key:
            raise _weak("a blank one")
        return AdminKey(digest_of(key), is_guessable(key))

    def matches(self, text: str) -> bool:
        return hmac.compare_digest(self.digest, digest_of(text))

    def require_strong(self) -> None:
        """For a server that others reach. Raises: ReactiveDBError `WeakAdminKey`."""
        if self.is_guessable:
            raise _weak("one that is short or easily guessed")


def is_guessable(key: str) -> bool:
    """Whether a key is too short, or too little of it does not follow from what stands before."""
    return len(key) < KEY_LENGTH_MIN or novelty(key) < KEY_NOVELTY_MIN


def novelty(key: str) -> int:
    """How many characters of a key do not follow from those before; a common word counts as one."""
    text = key[:_LOOKED_AT_MAX].lower()
    words = _WORD.sub("\0", text.translate(_PLAIN))
    return min(_novel_count(text), _novel_count(_WORD.sub("\0", text)), _novel_count(words))


def _novel_count(text: str) -> int:
    count = 0
    for place, character in enumerate(text):
        before = [ord(other) for other in text[max(0, place - 2) : place]]
        steps_on = any(abs(ord(character) - other) <= 1 for other in before)
        repeats = place >= 2 and text.find(text[place - 2 : place + 1]) < place - 2
        count += not (steps_on or repeats)
    return count


def digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _weak(got: str) -> ReactiveDBError:
    return ReactiveDBError(
        f"expected an admin key of at least {KEY_LENGTH_MIN} characters that cannot be guessed, "
        f"for others may reach the server, got {got} - make one with `{MAKE_A_KEY}`",
        code="WeakAdminKey",
    )
