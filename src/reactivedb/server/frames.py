"""How does one text message become WebSocket frames without copying it?

The wire form is RFC 6455, section 5.2: a header of 2, 4 or 10 bytes, then the payload, unmasked because
servers do not mask. A message is given in pieces; the pieces are handed on as they are, so that one large
piece can stand in the write buffers of a thousand sockets at once. A message above the frame limit is cut
into continuation frames (section 5.4); cutting makes views, not copies.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

_FINAL = 0x80
_CONTINUATION = 0x0
_TEXT = 0x1

# Sizes up to here stand in the second header byte; the two values after it announce a longer form.
_SHORT_SIZE_MAX = 125
_SIZE_IN_16_BITS = 126
_SIZE_IN_64_BITS = 127


def text_message(parts: Sequence[bytes], *, frame_size_bytes_max: int) -> list[bytes | memoryview]:
    """The buffers to write, in order, for one text message whose UTF-8 is the pieces put together."""
    size_bytes = sum(map(len, parts))
    if size_bytes <= frame_size_bytes_max:
        return [_header(_FINAL | _TEXT, size_bytes), *parts]
    buffers: list[bytes | memoryview] = []
    opcode = _TEXT
    remaining = size_bytes
    pieces = _pieces(parts, frame_size_bytes_max)
    while remaining:
        frame_size = min(remaining, frame_size_bytes_max)
        remaining -= frame_size
        buffers.append(_header(opcode if remaining else _FINAL | opcode, frame_size))
        opcode = _CONTINUATION
        while frame_size:
            piece = next(pieces)
            buffers.append(piece)
            frame_size -= len(piece)
    return buffers


def _header(first_byte: int, size_bytes: int) -> bytes:
    if size_bytes <= _SHORT_SIZE_MAX:
        return bytes((first_byte, size_bytes))
    if size_bytes <= 0xFFFF:
        return struct.pack("!BBH", first_byte, _SIZE_IN_16_BITS, size_bytes)
    return struct.pack("!BBQ", first_byte, _SIZE_IN_64_BITS, size_bytes)


def _pieces(parts: Sequence[bytes], frame_size_bytes_max: int) -> Iterator[memoryview]:
    """Views of the parts, none of which crosses a frame's end."""
    room = frame_size_bytes_max
    for part in parts:
        view = memoryview(part)
        while view:
            piece, view = view[:room], view[room:]
            room = room - len(piece) or frame_size_bytes_max
            yield piece
