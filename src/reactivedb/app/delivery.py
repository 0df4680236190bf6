"""When is a commit durable, and who is told what it changed?

The heart is `_tick`, at most one per turn of the loop: commit the open group into the file, sync, tell
those who waited, run the live queries that were touched, publish. Nothing that a commit changed is
published before that commit is durable.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

import anyio.to_thread

from ..engine import Engine
from ..errors import StorageError
from ..functions import Jobs
from ..storage import CLOSED_FOR_GOOD
from ..subscriptions import QueryCache
from .meters import Histogram
from .tasks import Tasks

# A thread hop costs about 0.1 ms, so a sync that is not much slower is done in place.
_INLINE_SYNC_MAX_S = 0.0005
# Live queries run for so long in one turn of the loop, then calls have theirs.
_REFRESH_BUDGET_S = 0.02
# How often recorded answers and finished jobs are looked through for what is too old.
_FORGET_INTERVAL_NS = 3600 * 10**9


class Subscriber(Protocol):
    """A client with a query set."""

    def prepare(self, ts: int) -> Callable[[StorageError | None], None] | None:
        """Take what is to be published of the state at `ts`, under the engine's lock.

        What is given back is called once `ts` is durable, or with the error that undid it. None: nothing
        is due, or the client cannot take anything now.
        """
        ...


class Follower(Protocol):
    """A consumer in this process, which waits for what is published."""

    def ended(self, error: StorageError) -> None:
        """The database is closed, or has failed for good."""
        ...


class Delivery:
    """Commits on their way to the disk and to the subscribers of one open database."""

    def __init__(
        self, engine: Engine, cache: QueryCache, jobs: Jobs, *, tasks: Tasks, syncs: Histogram
    ) -> None:
        self._engine = engine
        self._cache = cache
        self._jobs = jobs
        self._tasks = tasks
        self._syncs = syncs
        # Called once when the storage is closed for good; a server ends itself then.
        self.on_broken: Callable[[StorageError], None] | None = None
        self.broken: StorageError | None = None
        self._inline_sync = engine.storage.sync_cost_s <= _INLINE_SYNC_MAX_S
        self._syncing = False
        self._tick_scheduled = False
        self._due: dict[Subscriber, None] = {}
        self._followers: dict[Follower, None] = {}
        # Why nothing will be published any more.
        self._ended: StorageError | None = None
        # While set, whoever becomes due is served by the delivery that is going on.
        self._delivering = False
        self._forgot_ns = engine.clock.elapsed_ns()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._context = contextvars.Context()
        # Set whenever something ended that `wait_until` may have waited for.
        self._activity = asyncio.Event()
        self._awaited = 0

    def begin(self) -> None:
        """Belong to the running loop."""
        self._loop = asyncio.get_running_loop()
        # Ticks serve everybody: they must not run in the context of the function that was the occasion.
        self._context = contextvars.copy_context()
        self._loop_thread = threading.get_ident()

    def follow(self, follower: Follower) -> None:
        """Tell the follower when there will be nothing more. Any thread may say so."""
        self._followers[follower] = None
        if self._ended is not None:
            follower.ended(self._ended)

    def unfollow(self, follower: Follower) -> None:
        self._followers.pop(follower, None)

    def _end_followers(self, error: StorageError) -> None:
        self._ended = error
        for follower in list(self._followers):
            follower.ended(error)

    def end(self) -> None:
        self._loop = None
        self._end_followers(_closed())

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Raises: StorageError `DatabaseClosed`."""
        if self._loop is None:
            raise _closed()
        return self._loop

    async def durable(self, ts: int) -> None:
        """Wait until `ts` is durable. Raises StorageError if it never will be."""
        committer = self._engine.committer
        if ts <= committer.durable_ts and committer.abandoned is None:
            self._notice_jobs()
            return
        loop = asyncio.get_running_loop()
        waiting = loop.create_future()

        def resolve(error: StorageError | None) -> None:
            if not waiting.done():
                if error is None:
                    waiting.set_result(None)
                else:
                    waiting.set_exception(error)

        def settle(error: StorageError | None) -> None:
            # A synchronous caller's commit makes durable what waited before it, in that caller's thread.
            if threading.get_ident() == self._loop_thread:
                resolve(error)
            else:
                loop.call_soon_threadsafe(resolve, error)

        with self._engine.lock:
            committer.when_durable(ts, settle)
        self.committed()
        await waiting

    def committed(self) -> None:
        """A commit was appended, or somebody wants to know: a tick is due. Called on the loop."""
        if not self._tick_scheduled and self._loop is not None:
            self._tick_scheduled = True
            self._loop.call_soon(self._tick, context=self._context)

    def committed_elsewhere(self) -> None:
        """Another thread has committed and made durable: the loop is woken if that concerns it."""
        found_jobs = self._jobs.notice()
        if self._loop is None:
            return
        if found_jobs:
            self._loop.call_soon_threadsafe(self._jobs.wake)
        if self._cache or self._awaited:
            self._loop.call_soon_threadsafe(self.committed)

    def due(self, subscriber: Subscriber) -> None:
        """The subscriber has something to publish at the next tick. Any thread may say so."""
        self._due[subscriber] = None
        if self._delivering or self._loop is None:
            return
        if threading.get_ident() == self._loop_thread:
            self.committed()
        else:
            self._loop.call_soon_threadsafe(self.committed)

    def publish_now(self) -> None:
        """Make durable and publish in this thread; for synchronous callers, which want the state of now."""
        with self._engine.lock:
            self._engine.make_durable()
            self._deliver()

    def _tick(self) -> None:
        self._tick_scheduled = False
        if self._loop is None:
            return
        if self.broken is not None:
            # Nothing can be published any more, and whoever waited has been told.
            self._activity.set()
            return
        self._notice_jobs()
        committer = self._engine.committer
        if committer.abandoned is not None:
            # A synchronous caller found that out.
            self._storage_failed(committer.abandoned)
        elif committer.applied_ts > committer.durable_ts and not self._syncing:
            try:
                self._forget_sometimes()
                began_s = time.perf_counter()
                flushed_ts = self._engine.flush()
                if self._inline_sync:
                    self._engine.sync(flushed_ts)
                    self._syncs.add(time.perf_counter() - began_s)
                else:
                    self._syncing = True
                    self._tasks.start(self._sync_in_thread, flushed_ts, began_s)
            except StorageError as error:
                self._storage_failed(error)
        self._deliver(budget_s=_REFRESH_BUDGET_S)
        self._activity.set()

    async def _sync_in_thread(self, flushed_ts: int, began_s: float) -> None:
        try:
            await anyio.to_thread.run_sync(self._engine.storage.sync)
            error = None
        except StorageError as failure:
            error = failure
        finally:
            self._syncing = False
        # Callbacks belong to the loop, so the thread does nothing but wait for the disk.
        if error is None:
            self._syncs.add(time.perf_counter() - began_s)
            self._engine.synced(flushed_ts)
        else:
            self._engine.abandon(error)
            self._storage_failed(error)
        self.committed()

    def _storage_failed(self, error: StorageError) -> None:
        """A failed group has been undone; a failed sync has closed the storage for good."""
        self._jobs.storage_failed()
        error = self._engine.committer.abandoned or error
        if error.code in CLOSED_FOR_GOOD and self.broken is None:
            self.broken = error
            self._end_followers(error)
            if self.on_broken is not None:
                self.on_broken(error)

    def check_disk(self) -> None:
        """Refuse what could not become durable, before it begins. Raises: StorageError `StorageClosed`."""
        failure = self._engine.committer.abandoned
        if failure is not None:
            raise StorageError(
                f"nothing was begun, since the disk has failed: {failure}", code="StorageClosed"
            )

    def _deliver(self, *, budget_s: float = math.inf) -> None:
        """Run what is stale and publish it once it is durable.

        With a budget the rest is left to the next tick; who follows some of it is told then.
        """
        with self._engine.lock:
            self._delivering = True
            try:
                self._cache.refresh(budget_s=budget_s)
            finally:
                self._delivering = False
            if not self._cache.is_fresh:
                self.committed()
            if not self._due:
                return
            ts = self._engine.committer.applied_ts
            due, self._due = self._due, {}
            publish = [step for subscriber in due if (step := subscriber.prepare(ts)) is not None]

            def durable(error: StorageError | None) -> None:
                for step in publish:
                    step(error)

            if publish:
                self._engine.committer.when_durable(ts, durable)
                if ts > self._engine.committer.durable_ts:
                    self.committed()

    def _forget_sometimes(self) -> None:
        """Drop what is no longer kept; beside commits only, so that an idle database does no work."""
        now_ns = self._engine.clock.elapsed_ns()
        if now_ns - self._forgot_ns > _FORGET_INTERVAL_NS:
            self._forgot_ns = now_ns
            self._engine.forget_outcomes()
            self._jobs.sweep()

    def _notice_jobs(self) -> None:
        if self._jobs.notice():
            self._jobs.wake()

    # Idleness

    @property
    def is_idle(self) -> bool:
        """Everything committed is durable and published."""
        return not self._tick_scheduled and not self._due and not self._engine.committer.is_waiting

    def noticed(self) -> None:
        """Something ended that `wait_until` may wait for."""
        self._activity.set()

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        """Return once `holds`, looking again whenever something has ended."""
        self._awaited += 1
        try:
            self.committed()
            while not holds():
                self._activity.clear()
                await self._activity.wait()
        finally:
            self._awaited -= 1


def _closed() -> StorageError:
    return StorageError("the database is closed - open it again", code="DatabaseClosed")
