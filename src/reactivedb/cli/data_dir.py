"""What lies in a deployment's data folder, beside the data?

`data.db` is the database. Under `dev`, `admin_key` holds the admin key and `identity_key` the one that
signs users' tokens, both readable by their owner alone, and `url` where the server last listened, so that
`reactivedb run` finds it. `serve` keeps only the admin key's SHA-256, in `admin_key_sha256`.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import StorageError
from ..server.admin import AdminKey

_NAME = ".reactivedb"


@dataclass(frozen=True, slots=True)
class DataDir:
    """A data folder; the files in it are made when they are first needed."""

    path: Path

    @staticmethod
    def of(directory: Path, chosen: Path | None) -> DataDir:
        """The folder that was chosen, or the one inside the application's."""
        return DataDir((chosen or directory / _NAME).absolute())

    @property
    def database(self) -> Path:
        return self.path / "data.db"

    def create(self) -> None:
        """Raises: StorageError, if there cannot be a folder."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"`{self.path}` cannot be made a data folder ({error.strerror}) - pass another `--data`",
                code="NoDataFolder",
            ) from error

    def development_key(self) -> str:
        """The admin key, made on the first start. Raises: StorageError."""
        file = self.path / "admin_key"
        if not file.exists():
            _write_private(file, f"reactivedb|{secrets.token_hex(32)}\n")
        return file.read_text().strip()

    def identity_key(self, make: Callable[[], str]) -> str:
        """The private key that users' tokens are signed with under `dev`; `make` is asked for the first."""
        file = self.path / "identity_key"
        if not file.exists():
            _write_private(file, make())
        return file.read_text()

    def production_key(self, given: str | None) -> AdminKey | None:
        """The key's digest: of the one given, which is remembered, or of an earlier one."""
        file = self.path / "admin_key_sha256"
        if given is not None:
            key = AdminKey.of(given)
            _write_private(file, key.digest.hex() + "\n")
            return key
        return AdminKey(bytes.fromhex(file.read_text().strip())) if file.exists() else None

    def remember_url(self, url: str) -> None:
        """Raises: StorageError."""
        _write_private(self.path / "url", url + "\n")

    def known_url(self) -> str | None:
        return _read(self.path / "url")

    def known_key(self) -> str | None:
        return _read(self.path / "admin_key")


def _read(file: Path) -> str | None:
    return file.read_text().strip() if file.is_file() else None


def _write_private(file: Path, text: str) -> None:
    """Replace a file so that at no moment anybody but its owner can read it. Raises: StorageError."""
    new = file.with_name(f"{file.name}.new")
    try:
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text)
        new.replace(file)
    except OSError as error:
        with suppress(OSError):  # what is told is why it could not be written
            new.unlink(missing_ok=True)
        raise StorageError(
            f"`{file}` cannot be written ({error.strerror}) - make room or mend its rights, or pass another "
            "`--data`",
            code="DiskFull" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "DataFolderNotWritable",
        ) from error
