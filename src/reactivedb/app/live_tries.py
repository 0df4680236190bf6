"""Who runs live queries again that were stopped for their time (`subscriptions/second_tries`)?

One task, which waits for the first that is due and does no work in between.
"""

from __future__ import annotations

import anyio

from ..engine import Engine
from ..errors import StorageError
from ..subscriptions import QueryCache
from .delivery import Delivery


class LiveTries:
    """The second tries of one open database."""

    def __init__(self, engine: Engine, cache: QueryCache, delivery: Delivery) -> None:
        self._engine = engine
        self._cache = cache
        self._delivery = delivery
        self._wake = anyio.Event()
        cache.tries.on_due = self._look_again

    def _look_again(self) -> None:
        """Called from the thread in which a query was stopped."""
        try:
            self._delivery.loop.call_soon_threadsafe(lambda: self._wake.set())
        except StorageError:  # the database is closed, and nobody follows anything
            return

    @property
    def is_idle(self) -> bool:
        """None is due."""
        with self._engine.lock:
            next_ns = self._cache.tries.next_ns
        return next_ns is None or next_ns > self._engine.clock.elapsed_ns()

    async def run(self) -> None:
        """Run what falls due, until cancelled."""
        while True:
            self._wake = anyio.Event()
            with self._engine.lock:
                if self._cache.try_again():
                    self._delivery.committed()
                next_ns = self._cache.tries.next_ns
            await self._wait(next_ns)

    async def _wait(self, next_ns: int | None) -> None:
        """Until then, or until another one is due."""
        async with anyio.create_task_group() as waiting:

            async def until_due(due_ns: int) -> None:
                await self._engine.clock.sleep_ns(due_ns - self._engine.clock.elapsed_ns())
                waiting.cancel_scope.cancel()

            if next_ns is not None:
                waiting.start_soon(until_due, next_ns)
            await self._wake.wait()
            waiting.cancel_scope.cancel()
