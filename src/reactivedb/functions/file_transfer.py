"""How do the bytes of a file get onto the disk, and back from it?

Coming in, they go piece by piece into a part beside the database; then it is synced and gets its name, then
its row is committed. Whatever goes wrong before the row is there, nothing is left; a crash leaves at most a
file without a row, which the sweep at the next opening removes. So a row never lacks its file. Going away,
the row's deletion is durable first, then the file is removed (`Runner`).

Memory is bounded by a piece for each transfer. The disk is waited for in a few threads of its own, so that
many transfers keep neither the event loop nor the syncs of commits waiting.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Collection, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import anyio
import anyio.to_thread

from ..errors import LimitExceededError, RequestError, StorageError, ValidationError
from ..log import Log
from ..storage import PART_SUFFIX
from ..values import Value, decode_id, encode_id
from .file_links import Ticket, links_of
from .file_storage import PIECE_SIZE_BYTES
from .identity import ANONYMOUS
from .runner import RequestKey
from .system import FILE_TABLE_NUMBER, FILES

if TYPE_CHECKING:
    from ..engine import StoredDocument
    from ..storage import FileStore, PartialFile
    from .runner import Run, Runner, RunResult

T = TypeVar("T")

_logger = Log("reactivedb")

_THREADS_MAX: Final = 8
_SWEPT_AT_ONCE: Final = 200
# What can stand in a header, and nothing that could end it; blanks around it are no part of a header.
_CONTENT_TYPE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")


class FileHost(Protocol):
    """What transfers need from the running database."""

    @property
    def runner(self) -> Runner: ...

    async def durable(self, ts: int) -> None: ...

    def work_ended(self) -> None:
        """The database may be idle now."""
        ...


class FileTransfer:
    """The transfers of one open database."""

    def __init__(self, store: FileStore, host: FileHost) -> None:
        self._store = store
        self._host = host
        self._threads = anyio.CapacityLimiter(_THREADS_MAX)
        # The tickets with which somebody is sending a file now.
        self._running: set[str] = set()
        # What was in the folder when it was opened: nobody is writing that any more.
        self._found = store.names()
        self.is_sweeping = bool(self._found)

    # In

    def ticket(self, token: str) -> Ticket:
        """What an upload's token allows.

        Raises:
            RequestError: `InvalidUploadToken`, `UploadTokenExpired`, `UploadTokenUsed`, `UploadInProgress`.
        """
        engine = self._host.runner.engine
        with engine.lock:
            # Not by a clock that was set ahead since the URL was made.
            now_ms = engine.timeline.believed_ms(engine.limits.upload_url_lifetime_s)
        ticket = links_of(engine.cursor_secret).ticket(token, now_ms=now_ms)
        with engine.lock:
            used = engine.storage.outcome(ticket.name, 0) is not None
        if used:
            raise RequestError(
                "this upload URL has been used - make a new one for each file", code="UploadTokenUsed"
            )
        if ticket.name in self._running:
            raise RequestError(
                "another upload to this URL is still going on - wait for it, or make a URL for each file",
                code="UploadInProgress",
            )
        return ticket

    async def upload(
        self,
        ticket: Ticket,
        pieces: AsyncIterable[bytes],
        content_type: str | None,
        *,
        expected: Collection[bytes] = (),
    ) -> str:
        """Store what comes as the one file that the ticket is good for; gives its id.

        `expected` are digests (SHA-256) that it has to have. If this raises, the ticket stays good.

        Raises:
            LimitExceededError: `TooManyUploads`, `FileTooLarge`.
            ValidationError: `DigestMismatch`, `InvalidContentType`.
            StorageError: as the disk and the database have it.
        """
        with self._running_with(ticket):
            key = RequestKey(ticket.name, 0)
            return await self.receive(pieces, content_type, expected=expected, key=key)

    @contextmanager
    def _running_with(self, ticket: Ticket) -> Generator[None]:
        uploads_max = self._host.runner.engine.limits.uploads_max
        if len(self._running) >= uploads_max:
            raise LimitExceededError(
                f"{uploads_max} uploads are going on already - try again in a while",
                code="TooManyUploads",
                limit="uploads_max",
                maximum=uploads_max,
                asked=uploads_max + 1,
            )
        self._running.add(ticket.name)
        try:
            yield
        finally:
            self._running.discard(ticket.name)

    async def receive(
        self,
        pieces: AsyncIterable[bytes],
        content_type: str | None,
        *,
        expected: Collection[bytes] = (),
        key: RequestKey | None = None,
    ) -> str:
        """Store what comes as a new file; gives its id once it is durable. Raises as `upload` does."""
        self._check_content_type(content_type)
        id = self._new_id()
        part = await self._in_thread(self._store.create, id)
        may_have_row = False
        try:
            await self._fill(part, pieces)
            if any(digest != part.sha256 for digest in expected):
                raise ValidationError(
                    f"expected bytes of the digest that was sent along, got `sha-256={_base64(part.sha256)}` "
                    f"for {part.size_bytes} bytes - send them again",
                    code="DigestMismatch",
                )
            await self._in_thread(part.finish)
            fields: dict[str, Value] = {
                "sha256": _base64(part.sha256),
                "size": float(part.size_bytes),
                "contentType": content_type,
            }

            def body(run: Run) -> tuple[Any, Any]:
                table = run.runner.engine.catalog.table(FILES)
                return run.transaction.insert(table, fields, id=id), id

            may_have_row = True
            return await self._committed(self._host.runner.transact(body, ANONYMOUS, key=key))
        finally:
            if not (may_have_row and self._has_row(id)):
                with anyio.CancelScope(shield=True):
                    await self._in_thread(part.discard)

    async def _fill(self, part: PartialFile, pieces: AsyncIterable[bytes]) -> None:
        size_bytes_max = self._host.runner.engine.limits.file_size_bytes_max
        waiting = bytearray()
        async for piece in pieces:
            if part.size_bytes + len(waiting) + len(piece) > size_bytes_max:
                raise LimitExceededError(
                    f"a file may have {size_bytes_max} bytes, got more - store it in parts, or set "
                    "`Limits(file_size_bytes_max=)`",
                    code="FileTooLarge",
                    limit="file_size_bytes_max",
                    maximum=size_bytes_max,
                )
            waiting += piece
            if len(waiting) >= PIECE_SIZE_BYTES:
                await self._in_thread(part.write, bytes(waiting))
                waiting.clear()
        await self._in_thread(part.write, bytes(waiting))

    def _check_content_type(self, content_type: str | None) -> None:
        length_max = self._host.runner.engine.limits.file_content_type_length_max
        if content_type is None:
            return
        if len(content_type) > length_max or not _CONTENT_TYPE.fullmatch(content_type):
            raise ValidationError(
                f"expected a content type of 1 to {length_max} printable ASCII characters without blanks "
                f"around them, got `{content_type[:80]!r}` - write it as `text/plain`, or leave it out",
                code="InvalidContentType",
            )

    def _new_id(self) -> str:
        """As other ids: time first, then chance. Given before the row is, for the file is there first."""
        now_ms = self._host.runner.engine.clock.now_ns() // 1_000_000
        return encode_id(FILE_TABLE_NUMBER, now_ms.to_bytes(6, "big") + os.urandom(10))

    def _has_row(self, id: str) -> bool:
        """Whether the file may be needed: it has a row, or that is not known (the next opening will)."""
        engine = self._host.runner.engine
        try:
            with engine.lock:
                return engine.load(engine.catalog.table(FILES), id) is not None
        except StorageError:
            return True

    async def transact(self, step: Callable[[Run], T]) -> T:
        """Do one step for an action in a transaction of its own; what it gives is durable."""
        return await self._committed(self._host.runner.transact(lambda run: (step(run), None), ANONYMOUS))

    async def _committed(self, result: RunResult) -> Any:
        await self._host.durable(result.ts)
        return result.unwrap()

    # Out

    async def find(self, address: str) -> StoredDocument | None:
        """The row of the file at an address; what the answer reflects is durable."""
        engine = self._host.runner.engine
        id = links_of(engine.cursor_secret).id_at(address)
        if id is None:
            return None
        with engine.lock:
            row = engine.load(engine.catalog.table(FILES), id)
            ts = engine.committer.applied_ts
        await self._host.durable(ts)
        return row

    @asynccontextmanager
    async def opened(self, id: str) -> AsyncGenerator[OpenFile]:
        """A file to read from.

        Raises:
            StorageError: `FileMissing`.
        """
        descriptor = await self._in_thread(self._store.open, id)
        try:
            yield OpenFile(descriptor, self._in_thread)
        finally:
            # The last to let go of a removed file waits until the disk has freed it.
            with anyio.CancelScope(shield=True):
                await self._in_thread(os.close, descriptor)

    async def _in_thread(self, function: Callable[..., T], *args: Any) -> T:
        return await anyio.to_thread.run_sync(lambda: function(*args), limiter=self._threads)

    # What a crash left over

    async def sweep(self) -> None:
        """Remove what was in the folder at the opening and belongs to no row."""
        found, self._found = self._found, []
        try:
            for start in range(0, len(found), _SWEPT_AT_ONCE):
                await self._in_thread(self._sweep, found[start : start + _SWEPT_AT_ONCE])
        except StorageError as error:
            _logger.warning("files without a row are left until the next opening: %s", error)
        finally:
            self.is_sweeping = False
            self._host.work_ended()

    def _sweep(self, names: list[str]) -> None:
        # Only what we could have made: somebody may have put a note of their own there.
        ids = {id for id in (name.removesuffix(PART_SUFFIX) for name in names) if _is_file_id(id)}
        engine = self._host.runner.engine
        with engine.lock:
            known = {id for id, _, _ in engine.storage.get_many(FILE_TABLE_NUMBER, ids)}
        for name in names:
            if name.removesuffix(PART_SUFFIX) in ids and name not in known:
                self._store.remove(name)


class OpenFile:
    """A file that is being read."""

    def __init__(self, descriptor: int, in_thread: Callable[..., Any]) -> None:
        self._descriptor = descriptor
        self._in_thread = in_thread

    async def pieces(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop`.

        Raises:
            StorageError: `FileMissing`, if it is shorter.
        """
        while start < stop:
            size_bytes = min(PIECE_SIZE_BYTES, stop - start)
            piece: bytes = await self._in_thread(os.pread, self._descriptor, size_bytes, start)
            if not piece:
                raise StorageError(
                    f"a file has lost its end: expected {stop} bytes, got {start} - put it back from a copy",
                    code="FileMissing",
                )
            start += len(piece)
            yield piece


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _is_file_id(text: str) -> bool:
    try:
        return decode_id(text)[0] == FILE_TABLE_NUMBER
    except ValidationError:
        return False
