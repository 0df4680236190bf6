"""How does an action run that blocks, and what ends it?

In a daemon thread with an event loop of its own, where it may block as it likes. Each of its calls to the
database is a hop to the database's loop, with the context of the caller: limits, log lines and lease.

It is cancelled like any other action, where it awaits. One that blocks does not notice, so it is waited for
only `Limits.action_thread_stop_s`; then it is fenced. The fence stands on the database's loop, where every
hop begins, so from then on nothing of the run commits: not by nested actions, nor by tasks and threads that
it started. The thread itself cannot be ended; it ends with its function or with the process.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from contextvars import ContextVar
from typing import Any, TypeVar

import anyio

from ..errors import RequestError
from ..log import Log
from .stacks import place_of

T = TypeVar("T")

_logger = Log("reactivedb")


class ThreadRun:
    """One run of an action in a thread. Made on the database's loop."""

    def __init__(self, path: str, *, stop_s: float, on_gone: Callable[[], None]) -> None:
        self.path = path
        self._stop_s = stop_s
        # Called when the thread has ended, if the database's loop still runs then.
        self._on_gone = on_gone
        self._home = asyncio.get_running_loop()
        # Why nothing of it may reach the database any more. Set once, on the database's loop.
        self._over: str | None = None
        self._ended = anyio.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        self._hops: set[asyncio.Task[Any]] = set()
        # What the thread has open on the database's loop.
        self.opened: set[AsyncExitStack] = set()
        # Written by the thread before it looks at `_is_cancelled`, so one of both sees the other.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_cancelled = False
        self._scope = anyio.CancelScope()

    @property
    def is_over(self) -> bool:
        """Nothing of it may reach the database any more."""
        return self._over is not None

    @property
    def was_abandoned(self) -> bool:
        """It was left behind in its thread."""
        return self.is_over and not self._ended.is_set()

    @property
    def is_home(self) -> bool:
        """The caller runs on the database's loop."""
        return asyncio.get_running_loop() is self._home

    # On the database's loop

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine in a thread to its end, or until it is cancelled. Raises what it raises."""
        context = contextvars.copy_context()
        context.run(_current.set, self)
        thread = threading.Thread(
            target=context.run, args=(self._serve, make), name=f"reactivedb {self.path}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads
            self._on_gone()
            raise
        try:
            await self._ended.wait()
        except anyio.get_cancelled_exc_class():
            self._cancel()
            with anyio.move_on_after(self._stop_s, shield=True):
                await self._ended.wait()
            raise
        finally:
            await self._fence(thread)
        if self._error is not None:
            raise self._error
        return self._value

    def _cancel(self) -> None:
        self._is_cancelled = True
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._scope.cancel)
            except RuntimeError:  # its loop was closed in this moment: it has ended
                return

    async def _fence(self, thread: threading.Thread) -> None:
        """Let nothing of it reach the database any more, and end what is under way there."""
        if self._ended.is_set():
            self._over = "has ended - await what it starts before it returns"
        else:
            self._over = (
                f"was cancelled and did not end within {self._stop_s:g} s (`action_thread_stop_s`) - "
                "let it block for shorter times, with timeouts"
            )
            frame = sys._current_frames().get(thread.ident or 0)  # pyright: ignore[reportPrivateUsage]
            _logger.warning(
                "the action `%s` was cancelled and still blocks after %g s, at %s: it is left behind in its "
                "thread, and can write nothing more",
                self.path,
                self._stop_s,
                place_of(frame),
            )
        hops = [hop for hop in self._hops if not hop.done()]
        for hop in hops:
            hop.cancel()
        with anyio.move_on_after(self._stop_s, shield=True):
            if hops:
                await asyncio.wait(hops)
            while self.opened:
                await self.opened.pop().aclose()

    async def _begin(self, make: Callable[[], Awaitable[T]]) -> T:
        self.check()
        hop = asyncio.current_task()
        assert hop is not None
        self._hops.add(hop)
        try:
            return await make()
        finally:
            self._hops.discard(hop)

    def _finish(self, value: Any, error: BaseException | None) -> None:
        self._value, self._error = value, error
        self._ended.set()

    # Anywhere

    def check(self) -> None:
        """Raises: RequestError `ActionFenced`, once nothing of it may reach the database."""
        if self._over is not None:
            raise RequestError(f"the action `{self.path}` {self._over}", code="ActionFenced", path=self.path)

    async def hop(self, make: Callable[[], Awaitable[T]]) -> T:
        """Do something on the database's loop and wait for it.

        Raises:
            RequestError: `ActionFenced`; whatever it raises.
        """
        self.check()
        if self.is_home:
            return await make()
        beginning = self._begin(make)
        try:
            hop = asyncio.run_coroutine_threadsafe(beginning, self._home)
        except RuntimeError:  # the loop was closed in this moment, after the fence was set
            beginning.close()
            self.check()
            raise
        try:
            return await asyncio.wrap_future(hop)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                self.check()
            raise

    async def ask(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something on the thread's loop, for what runs on the database's."""
        assert self._loop is not None
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), self._loop))

    # In the thread

    def _serve(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        async def begin() -> Any:
            self._loop = asyncio.get_running_loop()
            with self._scope:
                return None if self._is_cancelled else await make()

        value: Any = None
        error: BaseException | None = None
        with asyncio.Runner() as runner:
            try:
                value = runner.run(begin())
            except BaseException as raised:  # it is raised again where the run is waited for
                error = raised
            self._tell(self._finish, value, error)
            del value, error
        self._tell(self._on_gone)

    def _tell(self, function: Callable[..., object], *args: Any) -> None:
        try:
            self._home.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the database was closed without it, and nobody waits
            return


_current: ContextVar[ThreadRun | None] = ContextVar("reactivedb_thread_run", default=None)


def current() -> ThreadRun | None:
    """The run in a thread that this context belongs to, also that of a nested action."""
    return _current.get()


def check_current() -> None:
    """Raises: RequestError `ActionFenced`, if the run that this context belongs to may write no more."""
    run = _current.get()
    if run is not None:
        run.check()
