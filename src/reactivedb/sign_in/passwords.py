"""What may a name and a password be, and how is a password hashed without holding anybody up?

Names are compared in NFKC, case folded and without blanks around; passwords are hashed in NFKC, so that the
same keys give the same password on every keyboard. Hashing is argon2id. It runs in threads, never in a
transaction: on half of the cores, so that a storm of sign-ins leaves the event loop its own.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from ..errors import ApplicationError
from ..limits import active_limits
from . import failures

if TYPE_CHECKING:
    from argon2 import PasswordHasher

T = TypeVar("T")

# OWASP's Password Storage Cheat Sheet: argon2id with 19 MiB, two rounds, one lane (25 ms on a small machine).
_MEMORY_KIB: Final = 19 * 1024
_ROUNDS: Final = 2
_LANES: Final = 1
_THREADS_MAX: Final = 4
# What a caller is told who comes when too many wait.
_RETRY_AFTER_MS: Final = 2_000.0


def checked_name(text: str) -> tuple[str, str]:
    """The name as it is shown, and the key that it is compared by.

    Raises:
        ApplicationError: `InvalidName`.
    """
    length_max = active_limits().sign_in_name_length_max
    # Looked at before it is made longer: one character can become eighteen.
    name = unicodedata.normalize("NFKC", text[: length_max + 1]).strip()
    if not name or max(len(name), len(text)) > length_max:
        raise failures.invalid_name(f"1 to {length_max} characters")
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        raise failures.invalid_name("no control characters")
    # Folding can take a text out of its normal form.
    return name, unicodedata.normalize("NFKC", name.casefold())


def name_key(text: str) -> str | None:
    """The key of a name; None for a text that no account can have as its name."""
    try:
        return checked_name(text)[1]
    except ApplicationError:
        return None


def is_password(text: str) -> bool:
    """Whether it could be one at all: nothing longer is ever hashed."""
    try:
        return len(text.encode()) <= active_limits().password_size_bytes_max
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def check_new_password(text: str) -> None:
    """Raises: ApplicationError `InvalidPassword`."""
    limits = active_limits()
    if not is_password(text) or len(unicodedata.normalize("NFKC", text)) < limits.password_length_min:
        raise failures.invalid_password(
            f"at least {limits.password_length_min} characters and at most "
            f"{limits.password_size_bytes_max} bytes"
        )


async def hashed(password: str) -> str:
    """The hash with all that is needed to verify it. Raises: ApplicationError `RateLimited`."""
    return await _in_thread(lambda: _hasher().hash(_normal(password)))


async def verify(hash: str | None, password: str) -> str | None:
    """The hash to be kept if the password is that of `hash`, made anew if by now it is made otherwise.

    None if it is not, after the same work also without a hash.

    Raises:
        ApplicationError: `RateLimited`.
    """

    def work() -> str | None:
        from argon2.exceptions import InvalidHashError, VerificationError

        try:
            _hasher().verify(hash or _nobodys_hash(), _normal(password))
        except (VerificationError, InvalidHashError):
            return None
        if hash is None:
            return None
        return _hasher().hash(_normal(password)) if _hasher().check_needs_rehash(hash) else hash

    return await _in_thread(work)


def _normal(password: str) -> bytes:
    return unicodedata.normalize("NFKC", password).encode()


@functools.cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=_ROUNDS, memory_cost=_MEMORY_KIB, parallelism=_LANES)


@functools.cache
def _nobodys_hash() -> str:
    return _hasher().hash(os.urandom(32))


class _Hashing:
    """The threads of this process that hash, and how many calls wait for one."""

    def __init__(self) -> None:
        count = max(1, min(_THREADS_MAX, (os.cpu_count() or 1) // 2))
        # Each open database may have a loop in a thread of its own.
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="reactivedb-passwords")
        self._waiting = 0
        # Made before the first one asks, so that a name without an account takes no longer then either.
        self._threads.submit(_nobodys_hash)

    async def run(self, work: Callable[[], T]) -> T:
        with self._lock:
            if self._waiting >= active_limits().password_hashes_waiting_max:
                raise failures.rate_limited(_RETRY_AFTER_MS)
            self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            with self._lock:
                self._waiting -= 1


@functools.cache
def _hashing() -> _Hashing:
    """One for the process, whose cores and memory these are."""
    return _Hashing()


async def _in_thread(work: Callable[[], T]) -> T:
    return await _hashing().run(work)
