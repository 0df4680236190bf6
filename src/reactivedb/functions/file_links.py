"""How does somebody without an account get at one file, or the right to store one?

By a link that nobody else can make. An upload URL carries a token: a number of its own, the time at which it
expires, and a seal over both. A file's address is its id under a secret permutation (one block of AES): it
looks like a random UUID, leads back to the id without being stored anywhere, and cannot be told from the id.
Both keys come from the database's own secret, so links outlive a restart.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from uuid import UUID

from ..errors import RequestError
from ..values import decode_id, encode_id
from .system import FILE_TABLE_NUMBER

NONCE_SIZE_BYTES: Final = 16
_TIME_SIZE_BYTES: Final = 8
_SEAL_SIZE_BYTES: Final = 16
_TOKEN_SIZE_BYTES: Final = NONCE_SIZE_BYTES + _TIME_SIZE_BYTES + _SEAL_SIZE_BYTES


@dataclass(frozen=True, slots=True)
class Ticket:
    """What an upload's token says, once its seal was found to be ours."""

    nonce: bytes
    expires_ms: int

    @property
    def name(self) -> str:
        """Under which its use is recorded; holds a blank, which no client's session id may."""
        return f"upload {self.nonce.hex()}"


class FileLinks:
    """The links of one database."""

    def __init__(self, secret: bytes) -> None:
        self._token_key = hmac.digest(secret, b"reactivedb upload token", "sha256")
        self._encrypt, self._decrypt = _permutation(hmac.digest(secret, b"reactivedb file address", "sha256"))

    def token(self, nonce: bytes, expires_ms: int) -> str:
        body = nonce + expires_ms.to_bytes(_TIME_SIZE_BYTES, "big")
        return base64.urlsafe_b64encode(body + self._seal(body)).decode().rstrip("=")

    def ticket(self, token: str, *, now_ms: float) -> Ticket:
        """What a token allows.

        Raises:
            RequestError: `InvalidUploadToken`, `UploadTokenExpired`.
        """
        try:
            data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            data = b""
        body = data[:-_SEAL_SIZE_BYTES]
        sealed = hmac.compare_digest(data[-_SEAL_SIZE_BYTES:], self._seal(body))
        if len(data) != _TOKEN_SIZE_BYTES or not sealed:
            raise RequestError(
                "expected the `token` of an upload URL that this deployment has made, got another one - "
                "call `ctx.storage.generate_upload_url()` and use its URL as it is",
                code="InvalidUploadToken",
            )
        expires_ms = int.from_bytes(body[NONCE_SIZE_BYTES:], "big")
        if now_ms >= expires_ms:
            raise RequestError(
                f"this upload URL has expired {(now_ms - expires_ms) / 1000:.0f} s ago - make a new one",
                code="UploadTokenExpired",
            )
        return Ticket(body[:NONCE_SIZE_BYTES], expires_ms)

    def address(self, id: str) -> str:
        """The last part of a file's URL."""
        _, body = decode_id(id)
        return str(UUID(bytes=self._encrypt(body)))

    def id_at(self, address: str) -> str | None:
        """The id of the file that would have that address; None for what is no address."""
        try:
            uuid = UUID(address)
        except ValueError:
            return None
        return encode_id(FILE_TABLE_NUMBER, self._decrypt(uuid.bytes)) if str(uuid) == address else None

    def _seal(self, body: bytes) -> bytes:
        return hmac.digest(self._token_key, body, hashlib.sha256)[:_SEAL_SIZE_BYTES]


@lru_cache(maxsize=16)
def links_of(secret: bytes) -> FileLinks:
    """The links under a database's secret."""
    return FileLinks(secret)


def _permutation(key: bytes) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    # Imported where a file is dealt with: most databases have none, and it takes time.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    # One block, and never twice the same for two files: here ECB is the permutation itself.
    cipher = Cipher(algorithms.AES(key), modes.ECB())
    return lambda block: cipher.encryptor().update(block), lambda block: cipher.decryptor().update(block)
