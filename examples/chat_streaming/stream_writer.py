"""How do a model's tokens get into a message: when, how often, and what ends it?

`Outbox` gathers what the model says; `StreamWriter` types it into the message at most once per
`FLUSH_INTERVAL_S`, so the number of commits follows the time an answer takes, not its number of tokens.
The first word is typed at once.
"""

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Final, Self

import anyio

import reactivedb as rdb

from . import messages
from .model import Piece
from .tables import FinishReason, Message, MessageStatus, Usage

FLUSH_INTERVAL_S: Final = 0.08
# A model that talks very fast is written earlier than that, so that one delta stays small.
FLUSH_LENGTH: Final = 8_192
# While the model is silent no delta tells the run that it was stopped, so it asks.
SILENT_CHECK_S: Final = 1.0


class Outbox:
    """What the model has said and nobody has typed yet. One task fills it, one empties it."""

    def __init__(self) -> None:
        self.text = ""
        self.ended = False
        self.finish_reason: FinishReason | None = None
        self.usage: Usage | None = None
        self.error: str | None = None
        self._changed = anyio.Event()

    async def fill_from(self, pieces: AsyncIterator[Piece]) -> None:
        """Take everything the model says; its failure becomes `error`."""
        try:
            async for piece in pieces:
                self.text += piece.text
                self.finish_reason = piece.finish_reason or self.finish_reason
                self.usage = piece.usage or self.usage
                self._changed.set()
            if self.finish_reason is None:
                self.error = "the model broke off without a reason"
        except Exception as error:
            # Whatever the model's client raises, the reader must see it at the message and not wait.
            self.error = f"{type(error).__name__}: {error}"
        self.ended = True
        self._changed.set()

    def take(self) -> str:
        text, self.text = self.text, ""
        return text

    async def wait_for_text(self, *, timeout_s: float) -> bool:
        """True when there is text or the end, False after `timeout_s` of silence."""
        return await self._wait_until(lambda: bool(self.text) or self.ended, timeout_s)

    async def wait_for_length(self, length: int, *, timeout_s: float) -> bool:
        return await self._wait_until(lambda: len(self.text) >= length or self.ended, timeout_s)

    async def _wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> bool:
        with anyio.move_on_after(timeout_s):
            while not is_ready():
                self._changed = anyio.Event()
                await self._changed.wait()
        return is_ready()


class StreamWriter:
    """One run's hold on its message: however the block is left, the message has ended.

    The run may be killed where no code of it runs any more; then `messages:failSilentStream` ends it.
    """

    def __init__(self, ctx: rdb.ActionCtx, message_id: rdb.Id[Message], run_token: str) -> None:
        self.status: MessageStatus | None = "streaming"
        self._ctx = ctx
        self._message_id = message_id
        self._run_token = run_token

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.status != "streaming":
            return
        why = "the run ended early" if error is None else f"{type(error).__name__}: {error}"
        # The run may be here because it was cancelled. The last write has to get through all the same, but
        # must not hold up a server that is going down.
        with anyio.move_on_after(2, shield=True):
            await self._end("", finish_reason="error", error=why)

    async def still_wanted(self) -> bool:
        self.status = await self._ctx.run_query(messages.status_of, self._message_id)
        return self.status == "streaming"

    async def type_all(self, pieces: AsyncIterator[Piece]) -> None:
        """Type everything the model says and its end, or hang up on it when the run is not wanted."""
        outbox = Outbox()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outbox.fill_from, pieces)
            await self._drain(outbox)
            tasks.cancel_scope.cancel()

    async def _drain(self, outbox: Outbox) -> None:
        while not outbox.ended:
            if not await outbox.wait_for_text(timeout_s=SILENT_CHECK_S):
                if not await self.still_wanted():
                    return
            elif outbox.text:
                if not await self._type(outbox.take()):
                    return
                await outbox.wait_for_length(FLUSH_LENGTH, timeout_s=FLUSH_INTERVAL_S)
        if outbox.error is not None:
            await self._end(outbox.take(), finish_reason="error", error=outbox.error, usage=outbox.usage)
        else:
            reason = outbox.finish_reason or "stop"
            await self._end(outbox.take(), finish_reason=reason, usage=outbox.usage)

    async def _type(self, text: str) -> bool:
        """Whether the run may go on."""
        outcome = await self._ctx.run_mutation(
            messages.append_stream_delta, self._message_id, self._run_token, delta_text=text
        )
        self.status = outcome.status
        return outcome.accepted

    async def _end(
        self, text: str, *, finish_reason: FinishReason, error: str | None = None, usage: Usage | None = None
    ) -> None:
        outcome = await self._ctx.run_mutation(
            messages.append_stream_delta,
            self._message_id,
            self._run_token,
            delta_text=text,
            is_final=True,
            finish_reason=finish_reason,
            error=error,
            usage=usage,
        )
        self.status = outcome.status
