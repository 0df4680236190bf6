"""Was something acknowledged lost in a damaged WAL?

SQLite takes the WAL up to the first frame whose checksum is wrong, and forgets the rest without a word: that
is what a power cut leaves of commits which were not synced yet. But a group is only committed once the one
before it is durable (`SqliteStorage`). So if two ends of groups of the present WAL lie behind what SQLite
took, at least the first of them was acknowledged, and the frame is damaged. Damage in the very last group
looks like a power cut, and so does what takes away the end of the group before it. Nor can this be told where
commits are not synced (`durability="relaxed"`).

The layout of the WAL is SQLite's: sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from .page_checksums import PAGE_SIZE_BYTES, WAL_HEADER_BYTES

# In the meta: commits of this file may have been written without a sync.
RELAXED: Final = "storage.relaxed"

_FRAME_HEADER_BYTES = 24
_FRAME_BYTES = _FRAME_HEADER_BYTES + PAGE_SIZE_BYTES
_MAGICS = (0x377F0682, 0x377F0683)
_VERSION = 3_007_000


@dataclass(frozen=True, slots=True)
class WalDamage:
    """What a WAL holds that SQLite does not read."""

    what: str
    # The WAL cut to this size holds what is left of it.
    sound_size_bytes: int
    lost_group_count: int

    def __str__(self) -> str:
        return f"{self.what}, and commits lie behind it (in {self.lost_group_count} groups)"


def damage_of(wal: Path, *, taken: int) -> WalDamage | None:
    """SQLite took so many frames; costs a look at each frame behind them, and changes nothing."""
    try:
        file = wal.open("rb")
    except FileNotFoundError:
        return None
    with file:
        header = file.read(WAL_HEADER_BYTES)
        if len(header) < WAL_HEADER_BYTES or header == bytes(WAL_HEADER_BYTES):
            # Empty, or about to be emptied: that begins with zeros in the header.
            return None
        if not _is_sound(header):
            # It is synced before the first frame is written.
            lost = sum(is_end for is_end, _ in _frames(file, 0))
            return WalDamage("its header does not match its checksum", 0, lost) if lost else None
        salts = header[16:24]
        lost = sum(is_end and _is_almost(found, salts) for is_end, found in _frames(file, taken))
    if lost < 2:
        return None
    what = f"there is a damaged frame behind frame {taken}"
    return WalDamage(what, WAL_HEADER_BYTES + taken * _FRAME_BYTES, lost)


def has_groups(wal: Path, count: int) -> bool:
    """Are there so many groups of the present WAL, sound or not?"""
    try:
        file = wal.open("rb")
    except FileNotFoundError:
        return False
    with file:
        salts = file.read(WAL_HEADER_BYTES)[16:24]
        return sum(is_end and found == salts for is_end, found in _frames(file, 0)) >= count


def _frames(file: BinaryIO, after: int) -> Iterator[tuple[bool, bytes]]:
    """Of each frame behind that one whether it ends a group, and its salts."""
    for number in itertools.count(after):
        file.seek(WAL_HEADER_BYTES + number * _FRAME_BYTES)
        header = file.read(_FRAME_HEADER_BYTES)
        if len(header) < _FRAME_HEADER_BYTES:
            return
        yield header[4:8] != bytes(4), header[8:16]


def _is_almost(found: bytes, salts: bytes) -> bool:
    """Equal but for one bit, which may be the damage; half of the bits of an earlier WAL's would differ."""
    return (int.from_bytes(found) ^ int.from_bytes(salts)).bit_count() <= 1


def _is_sound(header: bytes) -> bool:
    magic, version, page_size = struct.unpack_from(">III", header)
    if magic not in _MAGICS or version != _VERSION or page_size != PAGE_SIZE_BYTES:
        return False
    # The order of bytes in the sums is that of the machine that wrote them.
    words = struct.unpack_from(">6I" if magic & 1 else "<6I", header)
    first = second = 0
    for index in range(0, 6, 2):
        first = (first + words[index] + second) & 0xFFFFFFFF
        second = (second + words[index + 1] + first) & 0xFFFFFFFF
    return struct.pack(">II", first, second) == header[24:32]
