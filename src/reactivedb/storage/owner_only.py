"""How do data stay their owner's, whatever the process's umask is?

Files are made with mode 0600 and folders with 0700: no other user of the machine reads what clients entrust
to the database. What a looser mode of an earlier version left is tightened when the database is opened; what
belongs to another user, or is a link to a place of the owner's choice, is left as it is, and so is the folder
that a database was put into.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700

# What lies beside a database's file, by what is put behind its name.
_BESIDE: Final = ("", "-wal", "-shm", "-journal", ".lock", ".sign_in_keys", ".files")

_logger = logging.getLogger("reactivedb")


def open_owned(path: Path, flags: int) -> int:
    """A descriptor of that file; if `flags` have it made, it is its owner's alone. Raises: OSError."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
    try:
        # A umask may have taken rights from the owner too.
        if flags & os.O_EXCL:
            os.fchmod(descriptor, FILE_MODE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def make_owned_file(path: Path) -> None:
    """An empty file, unless there is one of that name. Raises: OSError."""
    try:
        os.close(open_owned(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return


def make_owned_folder(path: Path) -> bool:
    """Make a folder and those above it; whether there was none. Raises: OSError."""
    if path.is_dir():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(FOLDER_MODE)
    except FileExistsError:
        if path.is_dir():
            return False  # somebody else was quicker
        raise
    path.chmod(FOLDER_MODE)
    return True


def tighten_database(database: Path) -> None:
    """Take from others what the files of a database granted them."""
    for suffix in _BESIDE:
        tighten(database.with_name(database.name + suffix))


def tighten(path: Path) -> None:
    """Leave a file or folder of this user's to its owner alone; nothing, if it is not there."""
    try:
        found = path.lstat()
        is_ours = found.st_uid == os.geteuid() and (
            stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
        )
        if is_ours and stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(stat.S_IMODE(found.st_mode) & FOLDER_MODE)
    except FileNotFoundError:
        return
    except OSError as error:
        # Such as a file system without modes: the data can be used all the same.
        _logger.warning("others may read `%s`, for its mode cannot be changed: %s", path, error.strerror)
