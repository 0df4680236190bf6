"""What does an action in a thread reach of the database, and how?

The same as any other: each call of its context hops to the database's loop (`thread_run`). Actions that it
calls get this host too, so that its fence holds for them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import RequestError
from .context import ActionHost
from .environment import Environment
from .file_storage import ReadableFile, Transfers
from .identity import Identity
from .registration import Kind, RegisteredFunction
from .thread_run import ThreadRun

if TYPE_CHECKING:
    from .runner import Run

T = TypeVar("T")
_Call = tuple[tuple[Any, ...], dict[str, Any]]


class FarHost:
    """An `ActionHost` for what belongs to one run in a thread."""

    def __init__(self, host: ActionHost, run: ThreadRun) -> None:
        self._host = host
        self._run = run

    async def call_from_action(
        self, function: RegisteredFunction[..., Any], kind: Kind, call: _Call, identity: Identity
    ) -> Any:
        return await self._run.hop(lambda: self._host.call_from_action(function, kind, call, identity))

    async def schedule_from_action(
        self, at_ms: float | None, delay_s: float, function: RegisteredFunction[..., Any], call: _Call
    ) -> str:
        return await self._run.hop(lambda: self._host.schedule_from_action(at_ms, delay_s, function, call))

    async def cancel_from_action(self, id: str) -> None:
        await self._run.hop(lambda: self._host.cancel_from_action(id))

    def now_ms(self) -> float:
        return self._host.now_ms()

    def environment(self) -> Environment:
        # Reading takes the engine's lock, as any thread may.
        self._run.check()
        return self._host.environment()

    @property
    def files(self) -> Transfers:
        return _FarTransfers(self._host.files, self._run)


class _FarTransfers:
    """`Transfers` for what belongs to one run in a thread."""

    def __init__(self, transfers: Transfers, run: ThreadRun) -> None:
        self._transfers = transfers
        self._run = run

    async def transact(self, step: Callable[[Run], T]) -> T:
        return await self._run.hop(lambda: self._transfers.transact(step))

    async def receive(self, pieces: AsyncIterable[bytes], content_type: str | None) -> str:
        if self._run.is_home:
            return await self._run.hop(lambda: self._transfers.receive(pieces, content_type))
        there = pieces.__aiter__()

        async def next_piece() -> bytes | None:
            return await anext(there, None)

        async def here() -> AsyncIterator[bytes]:
            while (piece := await self._run.ask(next_piece)) is not None:
                yield piece

        return await self._run.hop(lambda: self._transfers.receive(here(), content_type))

    @asynccontextmanager
    async def opened(self, id: str) -> AsyncGenerator[ReadableFile]:
        self._run.check()
        if self._run.is_home:
            async with self._transfers.opened(id) as file:
                yield file
            return
        # Closed on the database's loop, by the fence at the latest: a thread that blocks cannot do so.
        opened = AsyncExitStack()

        async def enter() -> ReadableFile:
            self._run.opened.add(opened)
            return await opened.enter_async_context(self._transfers.opened(id))

        async def leave() -> None:
            self._run.opened.discard(opened)
            await opened.aclose()

        file = await self._run.hop(enter)
        try:
            yield _FarFile(file, self._run)
        finally:
            try:
                await self._run.hop(leave)
            except RequestError:
                if not self._run.is_over:
                    raise


class _FarFile:
    """A `ReadableFile` that is open on the database's loop."""

    def __init__(self, file: ReadableFile, run: ThreadRun) -> None:
        self._file = file
        self._run = run

    async def pieces(self, start: int, stop: int) -> AsyncIterator[bytes]:
        there = aiter(self._file.pieces(start, stop))

        async def next_piece() -> bytes | None:
            return await anext(there, None)

        while (piece := await self._run.hop(next_piece)) is not None:
            yield piece
