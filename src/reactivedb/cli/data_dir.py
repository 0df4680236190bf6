"""What lies in a deployment's data folder, beside the data?

`data.db` is the database. Under `dev`, `admin_key` holds the admin key and `identity_key` the one that
signs users' tokens, both readable by their owner alone, and `url` where the server last listened, so that
`reactivedb run` finds it. `serve` keeps only the admin key's SHA-256, in `admin_key_sha256`. What the
database itself puts beside its file has a name that begins with the file's.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import StorageError
from ..server.admin import AdminKey
from ..storage import write_private

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
            write_private(file, f"reactivedb|{secrets.token_hex(32)}\n")
        return file.read_text().strip()

    def identity_key(self, make: Callable[[], str]) -> str:
        """The private key that users' tokens are signed with under `dev`; `make` is asked for the first."""
        file = self.path / "identity_key"
        if not file.exists():
            write_private(file, make())
        return file.read_text()

    def production_key(self, given: str | None) -> AdminKey | None:
        """The key's digest: of the one given, which is remembered, or of an earlier one."""
        file = self.path / "admin_key_sha256"
        if given is not None:
            key = AdminKey.of(given)
            if _read(file) != key.digest.hex():
                write_private(file, key.digest.hex() + "\n")
            return key
        return AdminKey(bytes.fromhex(file.read_text().strip())) if file.exists() else None

    def remember_url(self, url: str) -> None:
        """Raises: StorageError."""
        write_private(self.path / "url", url + "\n")

    def known_url(self) -> str | None:
        return _read(self.path / "url")

    def known_key(self) -> str | None:
        return _read(self.path / "admin_key")


def _read(file: Path) -> str | None:
    return file.read_text().strip() if file.is_file() else None
