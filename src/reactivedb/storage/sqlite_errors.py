"""What does an error of SQLite or of the operating system mean to a user?

The only place that knows SQLite's result codes. Each becomes one `StorageError` of `contract.Storage`, whose
sentence says what was being done to which file, what came, and the way out.
"""

from __future__ import annotations

import errno
from pathlib import Path

import apsw

from reactivedb.errors import StorageError

from .page_checksums import PageDamaged

# What reading may raise: apsw decodes texts itself.
SQL_ERRORS = (apsw.Error, UnicodeDecodeError)

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}
_FAILED_SYNCS = {apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC}

_WAY_OUT = {
    "DiskFull": "make room on its disk (or raise the quota), then try again",
    "ReadOnly": "make the file and its folder writable for this user, or use a copy elsewhere",
    "DatabaseBusy": "end the program that writes to it; only reactivedb may write to the file",
    "DatabaseCorrupt": "see `reactivedb doctor FILE`, then restore a copy or read what is left with "
    "`sqlite3 FILE .recover`",
    "ForeignDatabase": "use another path",
    "NewerFormat": "open it with a newer reactivedb; nothing was changed",
    "FolderMissing": "create the folder first",
    "FileMoved": "only move, replace or remove the files while the database is closed; put them back as they "
    "were, `-wal` with them, and open the database again",
    "FileChanged": "only reactivedb may write to the file; open the database again, or restore a copy if it "
    "is damaged",
    "SyncFailed": "look after the disk and open the database again: what was not acknowledged may be there "
    "then",
    "StorageFailed": "look after the disk, then try again",
}


def storage_error(code: str, path: Path, doing: str, got: str, *, way_out: str | None = None) -> StorageError:
    text = f"could not {doing} (`{path}`): {got} - {way_out or _WAY_OUT[code]}"
    return StorageError(text, code=code, path=str(path))


def from_os_error(error: OSError, path: Path, doing: str) -> StorageError:
    if error.errno in NO_ROOM:
        code = "DiskFull"
    elif error.errno in _NOT_WRITABLE:
        code = "ReadOnly"
    else:
        code = "StorageFailed"
    return storage_error(code, path, doing, f"the system says `{error.strerror}`")


def from_sqlite_error(
    error: apsw.Error | UnicodeDecodeError, path: Path, doing: str, *, system_errno: int = 0
) -> StorageError | AssertionError:
    """`system_errno` is the connection's: SQLite itself knows only ENOSPC as a full disk."""
    # A backup's error comes without its text: the connection that SQLite asks for it has none.
    text = str(error)
    if text == "not an error":
        text = type(error).__name__
    got = text if isinstance(error, PageDamaged) else f"SQLite says `{text}`"
    match error:
        case apsw.ConstraintError():
            return AssertionError(f"a rule of the storage contract was broken (`{path}`): {got}")
        case apsw.IOError() if getattr(error, "extendedresult", 0) in _FAILED_SYNCS:
            code = "SyncFailed"
        case apsw.FullError():
            code = "DiskFull"
        case apsw.IOError() if system_errno in NO_ROOM:
            code = "DiskFull"
        case apsw.ReadOnlyError() | apsw.PermissionsError():
            code = "ReadOnly"
        case apsw.CantOpenError() if system_errno in _NOT_WRITABLE:
            code = "ReadOnly"
        case apsw.BusyError() | apsw.LockedError():
            code = "DatabaseBusy"
        case apsw.CorruptError() | apsw.NotADBError() | UnicodeDecodeError():
            code = "DatabaseCorrupt"
        case _:
            code = "StorageFailed"
    return storage_error(code, path, doing, got)
