"""What if the disk refuses?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw


class FaultVFS(apsw.VFS):
    """The ordinary file system, until told to fail.

    `faults` maps an operation and the end of a file's name to the SQLite result code it fails with.
    """

    def __init__(self, vfs_name: str) -> None:
        self.vfs_name = vfs_name
        self.faults: dict[tuple[str, str], int] = {}
        super().__init__(vfs_name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.operate("open", path or "")
        return _FaultFile(self, name, flags)

    @contextmanager
    def failing(self, operation: str, suffix: str, result: int) -> Iterator[None]:
        self.faults[operation, suffix] = result
        try:
            yield
        finally:
            del self.faults[operation, suffix]

    def operate(self, operation: str, path: str) -> None:
        for (failing, suffix), result in self.faults.items():
            if failing == operation and path.endswith(suffix):
                raise apsw.exception_for(result)


class _FaultFile(apsw.VFSFile):
    def __init__(self, vfs: FaultVFS, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._vfs = vfs
        self._path = (name.filename() if isinstance(name, apsw.URIFilename) else name) or ""
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._vfs.operate("write", self._path)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._vfs.operate("sync", self._path)
        super().xSync(flags)
