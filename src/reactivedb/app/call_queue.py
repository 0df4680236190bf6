"""Queue of the calls into a synchronous database; one daemon thread runs them in order.

Python runs signal handlers in the main thread, between any two of its instructions, and what a handler
raises (Ctrl-C, a test's time limit, `sys.exit()` on SIGTERM) ends whatever that thread was doing. So the
caller's thread does nothing but wait here. An exception in it ends the wait: a call that has not begun to
commit never will, and one that has begun is waited for. The engine's own steps are never cut short.

For the same reason the caller's side takes no lock that the queue's thread needs: between the two there are
only single operations that the interpreter does not divide (`SimpleQueue.put`, `list.pop`, a lock that one
side acquires and the other releases).

Calls that wait at the same time share one sync.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar, cast

from ..engine import Running
from ..errors import RequestError, StorageError
from ..functions import fence
from .standstill import Standstill

T = TypeVar("T")

# How many calls share a sync at most; the first of them waits for the functions of all.
_BATCH_MAX: Final = 64
# After this long, a call looks at what it waits for.
_LOOK_S: Final = 0.05
# How often a thread that waits for the loop looks whether there still is one.
_LOOP_LOOK_S: Final = 0.5


class _Call(Generic[T]):
    """One call on its way."""

    def __init__(self, body: Callable[[], T], settle: Callable[[T], None] | None) -> None:
        self._body = body
        self._settle = settle
        self._context = contextvars.copy_context()
        # Who takes the ticket decides: the commit, or the caller that gives up.
        self._ticket = [None]
        self._withdrawn = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self.has_begun = self._has_ended = False
        # Released once, by the queue's thread, when the call has ended.
        self.done = threading.Lock()
        self.done.acquire()

    def run(self) -> None:
        if self._withdrawn:
            return
        self.has_begun = True
        try:
            self._value = self._context.run(self._fenced_body)
        except BaseException as error:  # raised again in the caller's thread
            self._error = error

    def _fenced_body(self) -> T:
        with fence.fenced(self._before_commit):
            return self._body()

    def end(self) -> None:
        if self._error is None and self._settle is not None and not self._withdrawn:
            try:
                self._settle(cast("T", self._value))
            except BaseException as error:  # raised again in the caller's thread
                self._error = error
        self._release()

    def refuse(self, error: StorageError) -> None:
        self._error = error
        self._release()

    def _release(self) -> None:
        self._has_ended = True
        self.done.release()

    def _before_commit(self) -> None:
        try:
            self._ticket.pop()
        except IndexError:
            if self._withdrawn:
                raise RequestError(
                    "the caller of this function was interrupted before it could commit - call it again",
                    code="CallWithdrawn",
                ) from None

    def withdraw(self) -> None:
        """Give it up before it commits, or wait until it is committed."""
        try:
            self._ticket.pop()
        except IndexError:
            # The interrupted wait may have seen its end already.
            while not (self._has_ended or self.done.acquire(timeout=_LOOK_S)):
                pass
        else:
            self._withdrawn = True

    def outcome(self) -> T:
        """Once it has ended: what it gave; what it raised is raised."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                # The traceback refers to this frame.
                del error
        return cast("T", self._value)


class LoopCall(Generic[T]):
    """One coroutine that a thread has run on the database's loop."""

    def __init__(self, start: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._start = start
        self._task: asyncio.Task[T] | None = None
        self._withdrawn = False
        # Released once, on the loop, when the coroutine has ended.
        self._done = threading.Lock()
        self._done.acquire()

    def begin(self) -> None:
        """Called on the loop."""
        if not self._withdrawn:
            self._task = asyncio.get_running_loop().create_task(self._start())
            self._task.add_done_callback(lambda _: self._done.release())

    def cancel(self) -> None:
        """Called on the loop."""
        self._withdrawn = True
        if self._task is not None:
            self._task.cancel()

    def wait(self, loop: asyncio.AbstractEventLoop, timeout_s: float) -> T:
        """What the coroutine gave; what it raised is raised. Called in the thread that waits.

        Raises:
            TimeoutError: after `timeout_s`.
            StorageError: `DatabaseClosed`, if the loop ended first.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self._done.acquire(timeout=max(0.0, min(_LOOP_LOOK_S, deadline_s - time.monotonic()))):
            if loop.is_closed():
                raise closed()
            if time.monotonic() >= deadline_s:
                raise TimeoutError
        assert self._task is not None
        if self._task.cancelled():
            raise closed()
        return self._task.result()


class CallQueue:
    """The calls of one synchronous database."""

    def __init__(self, running: Callable[[], Running | None]) -> None:
        self._running = running
        self._calls: queue.SimpleQueue[_Call[Any]] = queue.SimpleQueue()
        self._ended = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._serve, name="reactivedb-calls", daemon=True)
        self._thread.start()

    def run(self, body: Callable[[], T], *, settle: Callable[[T], None] | None = None) -> T:
        """Run `body` in the queue's thread, then `settle` with what it gave, and wait for both.

        `settle` waits for the disk, for several calls at once.

        Raises:
            RequestError: `NestedCall`, inside of a function; `Standstill`, where it would wait for itself.
            StorageError: `DatabaseForked`; `DatabaseClosed`.
        """
        self.check_caller()
        call = _Call(body, settle)
        self._calls.put(call)
        try:
            if self._ended:
                self._refuse_rest()
            self._wait(call)
        except BaseException:
            call.withdraw()
            raise
        return call.outcome()

    @property
    def is_forked(self) -> bool:
        """This process is a child of the one that opened the database, which alone may use it."""
        return os.getpid() != self._pid

    def check_caller(self) -> None:
        """Raises: RequestError `NestedCall`; StorageError `DatabaseForked`."""
        if self.is_forked:
            raise forked()
        running = self._running()
        if running is not None and running.thread_id == threading.get_ident():
            raise RequestError(
                f"`{running.path}` called its own database, which waits for `{running.path}` to end - inside "
                "of a function use `ctx.db`, or `ctx.run_query` and `ctx.run_mutation` for other functions",
                code="NestedCall",
                path=running.path,
            )

    def end(self, body: Callable[[], None]) -> None:
        """Run `body` behind the calls that wait, and end the thread. Harmless if it has ended."""

        def last() -> None:
            try:
                body()
            finally:
                self._ended = True

        if not self._ended:
            self.run(last)

    # In the queue's thread

    def _serve(self) -> None:
        while not self._ended:
            self._run_batch(self._calls.get())
        self._refuse_rest()

    def _run_batch(self, first: _Call[Any]) -> None:
        calls = [first]
        while len(calls) < _BATCH_MAX and not self._calls.empty():
            calls.append(self._calls.get())
        for call in calls:
            call.run()
        for call in calls:
            call.end()

    def _refuse_rest(self) -> None:
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return
            call.refuse(closed())

    # In the caller's thread

    def _wait(self, call: _Call[Any]) -> None:
        standstill = Standstill()
        while not call.done.acquire(timeout=_LOOK_S):
            running = self._running()
            is_own = call.has_begun and running is not None and running.thread_id == self._thread.ident
            standstill.look(None if is_own else running)


def closed() -> StorageError:
    return StorageError("the database is closed - open it again", code="DatabaseClosed")


def forked() -> StorageError:
    return StorageError(
        "this database was opened before the process was forked, and only the parent may use it - open a "
        "database after the fork, in one of the two processes",
        code="DatabaseForked",
    )
