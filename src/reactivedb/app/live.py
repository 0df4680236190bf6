"""What does a program in this process hold of a live query?

A query set with one member: the same path as a client's. It yields the current value first and then only
the newest; a value of this consumer's own each time, so that nobody else sees what it does to its lists.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from ..errors import StorageError
from ..functions import IN_PROCESS, FunctionDefinition, own
from ..subscriptions import LiveQuery, Result
from ..values import Value
from .call_queue import CallQueue
from .runtime import Runtime

R_co = TypeVar("R_co", covariant=True)
_QUERY_ID = 0


class _Consumer:
    """The newest published result, and whether it was taken."""

    def __init__(
        self,
        runtime: Runtime,
        definition: FunctionDefinition,
        args: dict[str, Value],
        wake: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._wake = wake
        self._result: Result | None = None
        self._failure: StorageError | None = None
        self.fresh = False
        runtime.delivery.follow(self)
        with runtime.engine.lock:
            self._query_set = runtime.query_set(self._changed, keeps_values=True)
            self._opened = self._query_set.add(_QUERY_ID, definition.path, args, IN_PROCESS)

    def _changed(self) -> None:
        self._runtime.delivery.due(self)

    def ended(self, error: StorageError) -> None:
        """Nothing will ever be published again: whoever waits is told."""
        self._failure, self.fresh = error, True
        self._wake()

    def prepare(self, ts: int) -> Callable[[StorageError | None], None] | None:
        if not self._query_set.is_current:
            self._changed()
            return None
        changes = self._query_set.take_changes()
        if not changes:
            return None
        result = changes[-1].result

        def publish(error: StorageError | None) -> None:
            if error is None:
                self._result, self.fresh = result, True
            else:
                self._failure, self.fresh = error, True
                with self._runtime.engine.lock:
                    self._query_set.forget_sent()
            self._wake()

        return publish

    def take(self) -> Any:
        """The newest value; what the query raised is raised once."""
        self.fresh = False
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        assert self._result is not None
        if self._result.raised is not None:
            raise self._result.raised
        return own(self._result.value)

    @property
    def has_result(self) -> bool:
        return self._result is not None or self._failure is not None

    @property
    def live(self) -> LiveQuery:
        # Once closed, the one it began with serves for its path and its count.
        return self._query_set.live(_QUERY_ID) if _QUERY_ID in self._query_set else self._opened

    def close(self) -> None:
        self._runtime.delivery.unfollow(self)
        with self._runtime.engine.lock:
            self._query_set.clear()


class Live(Generic[R_co]):
    """A query's result that stays true, for synchronous code. Close it, or use it in a `with` block."""

    def __init__(
        self, runtime: Runtime, calls: CallQueue, definition: FunctionDefinition, args: dict[str, Value]
    ) -> None:
        """Called in the thread of `calls`."""
        self._runtime = runtime
        self._calls = calls
        # A lock for each thread that waits. No condition: one whose thread was interrupted while it had it
        # would stop the thread that notifies.
        self._waiting: deque[threading.Lock] = deque()
        self._consumer = _Consumer(runtime, definition, args, self._notify)
        runtime.delivery.publish_now()

    def _notify(self) -> None:
        # Any thread may notify.
        with suppress(IndexError):
            while True:
                self._waiting.pop().release()

    @property
    def value(self) -> R_co:
        """The value of now. Taking it counts: `wait_for_change` waits for another."""

        def take() -> Any:
            self._runtime.delivery.publish_now()
            return self._consumer.take()

        return cast("R_co", self._calls.run(take))

    def wait_for_change(self, *, timeout_s: float | None = None) -> R_co:
        """The newest value this consumer has not taken, waiting for one if need be.

        Raises:
            TimeoutError: nothing changed for `timeout_s`.
        """
        deadline_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        self._calls.run(self._runtime.delivery.publish_now)
        while not self._consumer.fresh:
            changed = threading.Lock()
            changed.acquire()
            self._waiting.append(changed)
            # It may have become fresh just before.
            if self._consumer.fresh:
                break
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not changed.acquire(timeout=min(left_s, threading.TIMEOUT_MAX)):
                with suppress(ValueError):
                    self._waiting.remove(changed)
                raise TimeoutError(
                    f"the result of `{self._consumer.live.path}` did not change within {timeout_s} s"
                )
        return cast("R_co", self._calls.run(self._consumer.take))

    def __iter__(self) -> Iterator[R_co]:
        """The value of now, then each newest value as it comes; never ends by itself."""
        while True:
            yield self.wait_for_change()

    @property
    def run_count(self) -> int:
        """How often the query has run since somebody holds it."""
        return self._consumer.live.run_count

    def close(self) -> None:
        """Stop following. Harmless when the database is closed."""
        if self._runtime.is_open and not self._runtime.is_forked:
            self._calls.run(self._consumer.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncLive(AsyncIterator[R_co], Generic[R_co]):
    """A query's result that stays true, inside an event loop. Use it in an `async with` block."""

    def __init__(self, runtime: Runtime, definition: FunctionDefinition, args: dict[str, Value]) -> None:
        self._runtime = runtime
        self._start: tuple[FunctionDefinition, dict[str, Value]] = (definition, args)
        self._event = asyncio.Event()
        self._opened: _Consumer | None = None

    @property
    def _consumer(self) -> _Consumer:
        if self._opened is None:
            self._opened = _Consumer(self._runtime, *self._start, self._event.set)
        return self._opened

    async def wait_for_change(self) -> R_co:
        """The newest value this consumer has not taken, waiting for one if need be.

        Raises:
            RequestError: `WrongEventLoop`.
        """
        self._runtime.check_loop()
        consumer = self._consumer
        while not consumer.fresh:
            self._event.clear()
            await self._event.wait()
        return cast("R_co", consumer.take())

    async def __anext__(self) -> R_co:
        try:
            return await self.wait_for_change()
        except StopAsyncIteration as error:  # what the query raised must not look like the end
            raise RuntimeError("the live query raised `StopAsyncIteration`") from error

    def __aiter__(self) -> Self:
        return self

    @property
    def run_count(self) -> int:
        """How often the query has run since somebody holds it."""
        return self._consumer.live.run_count

    def close(self) -> None:
        """Stop following."""
        if self._opened is not None:
            self._opened.close()

    async def __aenter__(self) -> Self:
        assert self._consumer is not None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
