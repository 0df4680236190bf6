"""How does a text go out to a client and come back, unread and unchanged?

A cursor names a place by the values of an index, and those may be of a document that the client was not
shown. So it is sealed under the database's own secret. The tag is a keyed hash of the text and the key
stream depends on the tag, as in SIV (Rogaway and Shrimpton, 2006): the same text always gives the same
seal, which results need that are compared byte by byte. Cost: two BLAKE2 calls for a short text.
"""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest
from typing import Final

_TAG_SIZE: Final = 16
_BLOCK_SIZE: Final = 64


def seal(secret: bytes, text: bytes) -> bytes:
    tag = blake2b(text, key=secret, digest_size=_TAG_SIZE, person=b"tag").digest()
    return tag + _crossed(secret, tag, text)


def unseal(secret: bytes, sealed: bytes) -> bytes:
    """Raises: ValueError, for what was not sealed under this secret."""
    tag = sealed[:_TAG_SIZE]
    if len(tag) < _TAG_SIZE:
        raise ValueError("too short for a seal")
    text = _crossed(secret, tag, sealed[_TAG_SIZE:])
    if not compare_digest(blake2b(text, key=secret, digest_size=_TAG_SIZE, person=b"tag").digest(), tag):
        raise ValueError("sealed under another secret")
    return text


def _crossed(secret: bytes, tag: bytes, text: bytes) -> bytes:
    """The text and the key stream, each bit of the one with that of the other."""
    stream = b"".join(
        blake2b(number.to_bytes(8, "big"), key=secret, salt=tag, person=b"stream").digest()
        for number in range(-(-len(text) // _BLOCK_SIZE))
    )
    size = len(text)
    return (int.from_bytes(text, "big") ^ int.from_bytes(stream[:size], "big")).to_bytes(size, "big")
