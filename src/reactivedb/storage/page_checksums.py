"""Checksums of the pages of a database file: is what the disk gives back what was written to it?

Documents, log, outcomes, index entries, SQLite's own inner pages and its schema all lie in pages, so one
checksum per page covers each of them. It stands in the last 8 bytes, which SQLite leaves alone (reserved
bytes, byte 20 of the file): a mark, and the CRC-32 of the page, begun with the page's number so that a page
in another's place is noticed. It is made when a page is moved from the WAL into the file and compared when a
page is read from the file. SQLite itself sees zeros there, so that is what lies in the WAL, whose frames have
checksums of their own. Cost: 2 to 3 µs a page, of which 1 µs is the CRC.

Another program may write pages without checksums into the file: `sqlite3`, when it makes a copy (`.backup`)
or ends the WAL of a process that was killed. It always writes the first page then, whose mark is a checksum
of what such programs change in it. A page of such a file may have none (`SOME`), until the file is opened
with room to write all of it anew.
"""

from __future__ import annotations

import itertools
from binascii import crc32
from contextlib import suppress
from pathlib import Path

import apsw

PAGE_SIZE_BYTES = 4096
RESERVED_BYTES = 8
WAL_HEADER_BYTES = 32
_CONTENT_BYTES = PAGE_SIZE_BYTES - RESERVED_BYTES
_MARK = b"CRC3"
_SOME = b"SOME"
# What the CRC-32 of any text with its own CRC-32 behind it is, low byte first.
_RESIDUE = 0x2144DF1C
_NONE = bytes(RESERVED_BYTES)
_ZEROS = bytes(PAGE_SIZE_BYTES)
_MAGIC = b"SQLite format 3\0"
# Counters in the first page, which every program that copies the file changes: of changes to file and schema,
# and the version of SQLite that wrote last. Nothing that is read depends on them.
_COUNTERS = ((24, 28), (40, 44), (92, 100))

_numbers = itertools.count(1)


class PageDamaged(apsw.CorruptError):
    """A page is not what was written; the message says which."""


def seal(page: bytes, number: int, *, is_whole: bool = True) -> bytes:
    """The page as it is to lie in the file; pages are counted from 1."""
    if number > 1:
        content = page[:_CONTENT_BYTES] + _MARK
        return content + crc32(content, number).to_bytes(4, "little")
    mark = _mark_of_first(page) if is_whole else _SOME
    return page[:_CONTENT_BYTES] + mark + _crc_of_first(page)


def _mark_of_first(page: bytes) -> bytes:
    counters = b"".join(page[start:end] for start, end in _COUNTERS)
    return crc32(counters, 1).to_bytes(4, "little")


def _crc_of_first(page: bytes) -> bytes:
    content = bytearray(page[:_CONTENT_BYTES])
    for start, end in _COUNTERS:
        content[start:end] = bytes(end - start)
    return crc32(content, 1).to_bytes(4, "little")


def is_whole(first_page: bytes) -> bool:
    """Has every page of the file a checksum?"""
    return first_page[_CONTENT_BYTES:-4] == _mark_of_first(first_page)


def fault_of(page: bytes, number: int, *, is_whole: bool) -> str | None:
    """What is wrong with a page of the file; None: nothing, or it may lack a checksum and does."""
    if crc32(page, number) == _RESIDUE and number > 1:
        return None
    if number == 1 and page[-4:] == _crc_of_first(page):
        return None
    if page[_CONTENT_BYTES:] == _NONE and not is_whole and page != _ZEROS:
        return None
    return f"page {number} does not match its checksum"


def has_checksums(header: bytes) -> bool:
    return header.startswith(_MAGIC) and header[20] == RESERVED_BYTES


class ChecksumVFS(apsw.VFS):
    """The file system `base` (empty: the ordinary one) for the connections to one database file.

    With `faults`, damaged pages are noted there under their numbers, and read as they are.
    """

    def __init__(self, database: Path, base: str = "", *, faults: dict[int, str] | None = None) -> None:
        self.vfs_name = f"reactivedb checksums {next(_numbers)}"
        self._base = base
        self._database = database
        self._faults = faults
        # Has every page a checksum, of what is in the WAL as well as in the file?
        self.is_whole = True
        super().__init__(self.vfs_name, base)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            return _CheckedFile(self, name, flags, base=self._base, faults=self._faults)
        if flags[0] & apsw.SQLITE_OPEN_WAL:
            return _WalFile(self._base, name, flags)
        if name is None:
            # As large as the file when it is brought into this format, so not in a `/tmp` in memory. SQLite
            # takes the name away at once.
            name = f"{self._database}-temporary-{next(_numbers)}"
        return apsw.VFSFile(self._base, name, flags)


class _CheckedFile(apsw.VFSFile):
    def __init__(
        self,
        vfs: ChecksumVFS,
        name: str | apsw.URIFilename | None,
        flags: list[int],
        *,
        base: str,
        faults: dict[int, str] | None,
    ) -> None:
        super().__init__(base, name, flags)
        self._vfs = vfs
        self._faults = faults
        first = super().xRead(PAGE_SIZE_BYTES, 0)
        # A file that another layout begins is not touched; an empty one will be ours.
        self._has_checksums = not first or has_checksums(first)
        # One without checksums gets them on all of its pages at once.
        vfs.is_whole = not has_checksums(first) or is_whole(first)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        data = super().xRead(amount, offset)
        # SQLite also reads the header alone, and a page behind the end, which holds nothing yet.
        if not self._has_checksums or amount != PAGE_SIZE_BYTES or not data:
            return data
        number = offset // PAGE_SIZE_BYTES + 1
        if len(data) < PAGE_SIZE_BYTES:
            fault = f"page {number} ends after {len(data)} of its {PAGE_SIZE_BYTES} bytes"
        else:
            fault = fault_of(data, number, is_whole=self._vfs.is_whole)
        if fault:
            if self._faults is None:
                raise PageDamaged(fault)
            self._faults[number] = fault
        return data[:_CONTENT_BYTES] + _NONE

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if offset == 0:
            self._has_checksums = has_checksums(data)
        if self._has_checksums and len(data) == PAGE_SIZE_BYTES:
            number = offset // PAGE_SIZE_BYTES + 1
            data = seal(bytes(data), number, is_whole=self._vfs.is_whole)
        super().xWrite(data, offset)  # pyright: ignore[reportUnknownMemberType]

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        # Else SQLite reads a part of an overflow page past its cache, which no checksum covers.
        return super().xDeviceCharacteristics() & ~apsw.SQLITE_IOCAP_SUBPAGE_READ


class _WalFile(apsw.VFSFile):
    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        """All of it is in the database file. A power cut in between must not look like damage."""
        if newsize == 0 and super().xFileSize() > 0:
            # A file system that overwrites nothing may have no room for this; to make room counts more.
            with suppress(apsw.FullError):
                super().xWrite(bytes(WAL_HEADER_BYTES), 0)  # pyright: ignore[reportUnknownMemberType]
                super().xSync(apsw.SQLITE_SYNC_NORMAL)
        super().xTruncate(newsize)
