"""What is `ctx.storage`?

What is known of a file is a row of `_storage`, read and deleted in the function's own transaction: a query
that asked for a file's URL runs again when the file is deleted, and a mutation that raises has deleted none.
The bytes lie beside the database (`storage.files`); only actions and the server touch them (`file_transfer`).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from ..errors import ValidationError
from ..limits import KIB
from ..schema import Id, StoredFile
from .db import cascade_of
from .file_links import NONCE_SIZE_BYTES, links_of
from .lease import Lease, holding
from .system import FILES

if TYPE_CHECKING:
    from ..engine import StoredDocument
    from .runner import Run

T = TypeVar("T")

UPLOAD_PATH: Final = "/api/storage/upload"
FILES_PATH: Final = "/api/storage"
# What is read or written at once.
PIECE_SIZE_BYTES: Final = 256 * KIB
_BYTES: Final = (bytes, bytearray, memoryview)


class FileReader:
    """`ctx.storage` of a query."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def get_url(self, id: Id[StoredFile], /) -> str | None:
        """The address at which anybody who knows it gets the file; None if there is no such file.

        Raises:
            ValidationError: `InvalidId`, `NotAFile`.
            RequestError: `AddressUnknown`, in a database that no server of ours listens for.
        """
        if file_row(self._run, id) is None:
            return None
        return f"{self._origin()}{FILES_PATH}/{links_of(self._run.runner.engine.cursor_secret).address(id)}"

    def _origin(self) -> str:
        return self._run.runner.deployment.url("CONVEX_CLOUD_URL").rstrip("/")


class FileWriter(FileReader):
    """`ctx.storage` of a mutation."""

    def generate_upload_url(self) -> str:
        """A URL to which one file can be sent: `POST`, the bytes as they are; it answers `{"storageId"}`.

        It is good for `Limits.upload_url_lifetime_s`, and for one file.

        Raises:
            RequestError: `AddressUnknown`, in a database that no server of ours listens for.
        """
        run = self._run
        limits = run.runner.engine.limits
        run.upload_url_count += 1
        nonce = hashlib.blake2b(
            run.upload_url_count.to_bytes(8, "big"),
            key=run.transaction.seed,
            person=b"upload token",
            digest_size=NONCE_SIZE_BYTES,
        ).digest()
        # That a token was used is remembered as the answer to a mutation is, so it is good no longer.
        lifetime_s = min(limits.upload_url_lifetime_s, limits.outcome_retention_s)
        expires_ms = int(run.transaction.now_ms + lifetime_s * 1000)
        token = links_of(run.runner.engine.cursor_secret).token(nonce, expires_ms)
        return f"{self._origin()}{UPLOAD_PATH}?token={token}"

    def delete(self, id: Id[StoredFile], /) -> None:
        """Delete a file, and do what `rdb.OnDelete` says to the documents that refer to it.

        Its URL finds nothing from the commit on; the bytes are removed once the commit is durable.

        Raises:
            ValidationError: `DocumentNotFound`, `InvalidId`, `NotAFile`.
            RequestError: `DeleteRestricted`.
        """
        file = _checked_file(self._run.transaction.existing(id))
        cascade_of(self._run.writer).delete(file)
        self._run.deleted_files.append(file.id)


class ReadableFile(Protocol):
    """A file that is being read."""

    def pieces(self, start: int, stop: int) -> AsyncIterator[bytes]: ...


class Transfers(Protocol):
    """What an action's files need from the running database (`file_transfer`)."""

    async def transact(self, step: Callable[[Run], T]) -> T: ...

    async def receive(self, pieces: AsyncIterable[bytes], content_type: str | None) -> str: ...

    def opened(self, id: str) -> AbstractAsyncContextManager[ReadableFile]: ...


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored file, as an action gets it: what is known of it, and its bytes when they are asked for."""

    id: Id[StoredFile]
    # Base64, as in `_storage`.
    sha256: str
    size_bytes: int
    content_type: str | None
    _transfer: Transfers

    async def read(self) -> bytes:
        """All of it in memory.

        Raises:
            StorageError: `FileMissing`, it was deleted meanwhile.
        """
        return b"".join([piece async for piece in self.stream()])

    async def stream(self) -> AsyncIterator[bytes]:
        """Its bytes, piece by piece. Raises as `read` does."""
        async with self._transfer.opened(self.id) as file:
            async for piece in file.pieces(0, self.size_bytes):
                yield piece


class AsyncFiles:
    """`ctx.storage` of an action: every call is a transaction of its own."""

    def __init__(self, transfer: Transfers, held: Lease | None) -> None:
        self._transfer = transfer
        self._held = held

    async def generate_upload_url(self) -> str:
        """As in a mutation."""
        return await self._transact(lambda run: FileWriter(run).generate_upload_url())

    async def get_url(self, id: Id[StoredFile], /) -> str | None:
        """As in a query."""
        return await self._transact(lambda run: FileReader(run).get_url(id))

    async def delete(self, id: Id[StoredFile], /) -> None:
        """As in a mutation."""
        await self._transact(lambda run: FileWriter(run).delete(id))

    async def store(
        self, data: bytes | AsyncIterable[bytes], /, *, content_type: str | None = None
    ) -> Id[StoredFile]:
        """Store bytes, at once or as they come, as a new file; it is durable when this returns.

        Raises:
            LimitExceededError: `FileTooLarge`.
            ValidationError: `InvalidContentType`, `NotBytes`.
            StorageError: `DiskFull` and others; nothing is left of the file.
        """
        pieces = _in_pieces(data) if isinstance(data, _BYTES) else data
        with holding(self._held):
            return Id(await self._transfer.receive(_checked(pieces), content_type))

    async def get(self, id: Id[StoredFile], /) -> Blob | None:
        """The file, of which nothing is read yet; None if there is none.

        Raises:
            ValidationError: `InvalidId`, `NotAFile`.
        """
        row = await self._transact(lambda run: file_row(run, id))
        if row is None:
            return None
        return Blob(Id(row.id), row.sha256, int(row.size), row.content_type, self._transfer)

    async def _transact(self, step: Callable[[Run], T]) -> T:
        with holding(self._held):
            return await self._transfer.transact(step)


async def _in_pieces(data: bytes | bytearray | memoryview) -> AsyncIterator[bytes]:
    view = memoryview(data).cast("B")
    for start in range(0, len(view), PIECE_SIZE_BYTES):
        yield bytes(view[start : start + PIECE_SIZE_BYTES])


async def _checked(pieces: Any) -> AsyncIterator[bytes]:
    """Raises: ValidationError `NotBytes`."""
    if not isinstance(pieces, AsyncIterable):
        raise _not_bytes(pieces)
    piece: Any
    async for piece in cast("AsyncIterable[Any]", pieces):
        if not isinstance(piece, _BYTES):
            raise _not_bytes(piece)
        yield bytes(cast("bytes", piece))


def _not_bytes(got: object) -> ValidationError:
    return ValidationError(
        f"expected the bytes of a file, or an `async for` over pieces of them, got `{type(got).__name__}` - "
        "write a text as `text.encode()`",
        code="NotBytes",
    )


def file_row(run: Run, id: str) -> StoredFile | None:
    """What is known of a file.

    Raises:
        ValidationError: `InvalidId`, `NotAFile`.
    """
    file = run.transaction.get(id)
    return None if file is None else _checked_file(file).object()


def _checked_file(document: StoredDocument) -> StoredDocument:
    """Raises: ValidationError `NotAFile`."""
    if document.table.name != FILES:
        raise ValidationError(
            f"expected the id of a file, got `{document.id}` of `{document.table.name}` - "
            "pass what the upload answered as `storageId`, or what `ctx.storage.store` returned",
            code="NotAFile",
            id=document.id,
        )
    return document
