"""What is on the disk after the power went?

`Disk` keeps, for every file that SQLite writes, what was synced and what was written since, and for the
folder which names were synced. On a power cut each file is left in a state that a real disk might leave:
sectors of 512 bytes are whole, but of what was not synced any may be there and any may be missing, in any
order; the same for lengths and names. (What SQLite assumes is kept: a write changes no byte outside of its
range.)

The process does not notice the cut: it goes on as a ghost whose writes no longer count. So `is_off` must be
asked after whatever shall count as acknowledged.
"""

from __future__ import annotations

import errno
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import apsw

SECTOR_SIZE_BYTES = 512


@dataclass
class Write:
    offset: int
    data: bytes


@dataclass
class Truncate:
    size: int


@dataclass
class DiskFile:
    synced: bytes = b""
    unsynced: list[Write | Truncate] = field(default_factory=list)
    # SQLite's own file system syncs the folder with the first sync of a journal or WAL that it made.
    sync_takes_folder_along: bool = False

    def sync(self) -> None:
        content = bytearray(self.synced)
        for operation in self.unsynced:
            _apply(content, operation)
        self.synced = bytes(content)
        self.unsynced.clear()

    def after_power_cut(self, rng: random.Random) -> bytes:
        match rng.choice(["nothing", "everything", "first", "torn"]):
            case "nothing":
                return self.synced
            case "everything":
                kept = self.unsynced
            case "first":
                kept = self.unsynced[: rng.randint(0, len(self.unsynced))]
            case _:
                return self._torn(rng)
        content = bytearray(self.synced)
        for operation in kept:
            _apply(content, operation)
        return bytes(content)

    def _torn(self, rng: random.Random) -> bytes:
        content = bytearray(self.synced)
        sizes = [len(content)]
        # Every state that a sector has been in since the last sync.
        versions: dict[int, list[bytes]] = {}
        for operation in self.unsynced:
            before = len(content)
            match operation:
                case Write(offset, data):
                    low, high = min(offset, before), offset + len(data)
                case Truncate(size):
                    low, high = min(size, before), max(size, before)
            touched = range(low // SECTOR_SIZE_BYTES, -(-high // SECTOR_SIZE_BYTES))
            for sector in touched:
                versions.setdefault(sector, [_sector(content, sector)])
            _apply(content, operation)
            sizes.append(len(content))
            for sector in touched:
                versions[sector].append(_sector(content, sector))
        size = rng.choice(sizes)
        torn = bytearray(self.synced.ljust(size + SECTOR_SIZE_BYTES, b"\0"))
        for sector, states in versions.items():
            start = sector * SECTOR_SIZE_BYTES
            if start < size:
                torn[start : start + SECTOR_SIZE_BYTES] = rng.choice(states)
        return bytes(torn[:size])


def _apply(content: bytearray, operation: Write | Truncate) -> None:
    match operation:
        case Write(offset, data):
            if len(content) < offset:
                content.extend(bytes(offset - len(content)))
            content[offset : offset + len(data)] = data
        case Truncate(size):
            del content[size:]
            content.extend(bytes(size - len(content)))


def _sector(content: bytearray, sector: int) -> bytes:
    start = sector * SECTOR_SIZE_BYTES
    return bytes(content[start : start + SECTOR_SIZE_BYTES]).ljust(SECTOR_SIZE_BYTES, b"\0")


class Disk:
    """The files of one folder; `cut_after` operations from now the power goes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # What lies there already was synced.
        self.seen = {str(path): DiskFile(path.read_bytes()) for path in folder.iterdir()}
        self._synced_names = dict(self.seen)
        self.is_off = False
        self.next_sync_fails = False
        self.operations_left = 0

    def cut_after(self, operation_count: int) -> None:
        self.operations_left = operation_count

    def operate(self) -> bool:
        """Count one operation; whether it still reaches the disk."""
        self.operations_left -= 1
        if self.operations_left < 0:
            self.is_off = True
        return not self.is_off

    def write(self, name: str, operation: Write | Truncate) -> None:
        if self.operate():
            self.seen[name].unsynced.append(operation)

    def fail_to_sync(self, name: str) -> None:
        """As Linux does: what could not be written counts as written, the process still reads it."""
        self.next_sync_fails = False
        if self.operate():
            self.seen[name].unsynced.clear()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def sync(self, name: str) -> None:
        if self.operate():
            file = self.seen[name]
            file.sync()
            if file.sync_takes_folder_along:
                self._synced_names = dict(self.seen)
                file.sync_takes_folder_along = False

    def sync_folder(self) -> None:
        if self.operate():
            self._synced_names = dict(self.seen)

    def create(self, name: str, *, is_journal: bool) -> None:
        if name not in self.seen and self.operate():
            self.seen[name] = DiskFile(sync_takes_folder_along=is_journal)

    def delete(self, name: str, *, sync_folder: bool) -> None:
        if name in self.seen and self.operate():
            del self.seen[name]
            if sync_folder:
                self._synced_names = dict(self.seen)

    def cut_and_restart(self, rng: random.Random) -> None:
        """Lay the folder out as the cut may have left it, and switch on again. No file may be open."""
        left: dict[str, bytes] = {}
        for name in sorted(self.seen.keys() | self._synced_names.keys()):
            file = rng.choice([self.seen.get(name), self._synced_names.get(name)])
            if file is not None:
                left[name] = file.after_power_cut(rng)
        for path in self.folder.iterdir():
            path.unlink()
        for name, content in left.items():
            Path(name).write_bytes(content)
        self.seen = {name: DiskFile(content) for name, content in left.items()}
        self._synced_names = dict(self.seen)
        self.is_off = False


class PowerCutVFS(apsw.VFS):
    """The real files serve the process; the disk notes what happens to them."""

    def __init__(self, name: str, disk: Disk) -> None:
        self.vfs_name = name
        self.disk = disk
        super().__init__(name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:
            return apsw.VFSFile("", name, flags)
        is_journal = bool(flags[0] & (apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL))
        file = _RecordedFile(name, flags, path=path, disk=self.disk)
        self.disk.create(path, is_journal=is_journal)
        return file

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self.disk.delete(filename, sync_folder=syncdir)


class _RecordedFile(apsw.VFSFile):
    def __init__(
        self, name: str | apsw.URIFilename | None, flags: list[int], *, path: str, disk: Disk
    ) -> None:
        self._path = path
        self._disk = disk
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self._disk.write(self._path, Write(offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._disk.write(self._path, Truncate(newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        # The real file need not be synced: nobody pulls its plug.
        self._disk.sync(self._path)


class DiskWalSync:
    """What `FileWalSync` does, on a `Disk`."""

    def __init__(self, wal: Path, disk: Disk) -> None:
        self._wal = wal
        self._disk = disk
        disk.sync_folder()

    def sync(self) -> None:
        if self._disk.next_sync_fails:
            self._disk.fail_to_sync(str(self._wal))
        self._disk.sync(str(self._wal))

    def renew(self) -> None:
        self._disk.write(str(self._wal), Write(0, self._wal.read_bytes()))
        self._disk.sync(str(self._wal))

    def close(self) -> None:
        pass
