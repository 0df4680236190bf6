"""Which actions run in threads of their own, and how many?

A run takes a place and holds it until its thread has ended, also when it was left behind: so actions that
hang cannot fill the process with threads. Others wait for a place. One that is called by an action in a
thread does not wait, for its caller holds a place meanwhile: where none is free it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio

from ..errors import LimitExceededError
from ..functions import ThreadRun, current_thread_run
from ..limits import Limits

T = TypeVar("T")


class ActionThreads:
    """The threads of one open database's actions."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._places = anyio.CapacityLimiter(limits.action_threads_max)
        # Runs that were cancelled and did not end in time.
        self.abandoned_count = 0

    @property
    def running(self) -> int:
        """Threads that have not ended."""
        return self._places.borrowed_tokens

    async def run(self, path: str, make: Callable[[ThreadRun], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine in a thread of its own to its end. Raises as `ThreadRun.run` does.

        Raises:
            LimitExceededError: `TooManyActionThreads`, to an action in a thread.
        """
        place = object()
        if current_thread_run() is None:
            await self._places.acquire_on_behalf_of(place)
        else:
            self._take_at_once(place, path)
        run = ThreadRun(
            path,
            stop_s=self._limits.action_thread_stop_s,
            on_gone=lambda: self._places.release_on_behalf_of(place),
        )
        try:
            return await run.run(lambda: make(run))
        finally:
            self.abandoned_count += run.was_abandoned

    def _take_at_once(self, place: object, path: str) -> None:
        try:
            self._places.acquire_on_behalf_of_nowait(place)
        except anyio.WouldBlock:
            maximum = self._limits.action_threads_max
            raise LimitExceededError(
                f"`{path}` was called by an action in a thread while all {maximum} threads were taken "
                "(`action_threads_max`) - schedule it, or call it as a plain function",
                code="TooManyActionThreads",
                limit="action_threads_max",
                maximum=maximum,
                asked=maximum + 1,
            ) from None
