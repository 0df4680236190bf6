"""What lies in a deployment's data folder, beside the data?

`data.db` is the database. Under `dev`, `admin_key` holds the admin key and `identity_key` the one that
signs users' tokens, both readable by their owner alone, and `url` where the server last listened, so that
`reactivedb run` finds it. `serve` keeps only the admin key's SHA-256, in `admin_key_sha256`. What the
database itself puts beside its file has a name that begins with the file's. A folder that is made here is its
owner's alone, and has a `.gitignore` that keeps all of it out of version control.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import StorageError
from ..server.admin import AdminKey
from ..storage import make_owned_folder, tighten, write_private

_NAME = ".reactivedb"
_IGNORE = ".gitignore"
_KEY_DIGEST = "admin_key_sha256"
_SECRETS = ("admin_key", "identity_key", _KEY_DIGEST, "url")
# Behind the digest, which no longer tells.
_GUESSABLE = "guessable"


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
        """Have the folder, and have what is secret in it its owner's alone.

        Raises:
            StorageError: `NoDataFolder`, `DataFolderNotWritable`, `DiskFull`.
        """
        try:
            is_new = make_owned_folder(self.path)
        except OSError as error:
            raise StorageError(
                f"`{self.path}` cannot be made a data folder ({error.strerror}) - pass another `--data`",
                code="NoDataFolder",
            ) from error
        # A folder of the user's own is left as it is; one that we have made is none of version control's.
        is_ours = is_new or (self.path.name == _NAME and os.access(self.path, os.W_OK))
        if is_ours and not (self.path / _IGNORE).exists():
            write_private(self.path / _IGNORE, "*\n")
        for name in _SECRETS:
            tighten(self.path / name)

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
        """The key's digest: of the one given, or of the one that was remembered.

        Raises:
            ReactiveDBError: `WeakAdminKey`, for a blank one.
        """
        if given is not None:
            return AdminKey.of(given)
        words = (_read(self.path / _KEY_DIGEST) or "").split()
        return AdminKey(bytes.fromhex(words[0]), is_guessable=_GUESSABLE in words) if words else None

    def remember_key(self, key: AdminKey) -> None:
        """Let later starts do without the key itself. Raises: StorageError."""
        mark = f" {_GUESSABLE}" if key.is_guessable else ""
        write_private(self.path / _KEY_DIGEST, f"{key.digest.hex()}{mark}\n")

    def remember_url(self, url: str) -> None:
        """Raises: StorageError."""
        write_private(self.path / "url", url + "\n")

    def known_url(self) -> str | None:
        return _read(self.path / "url")

    def known_key(self) -> str | None:
        return _read(self.path / "admin_key")


def _read(file: Path) -> str | None:
    return file.read_text().strip() if file.is_file() else None
