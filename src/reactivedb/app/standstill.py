"""Standstill: a call waits for a function that waits for the thread of the call.

A query or mutation has the database to itself, so one that waits for another thread, which calls the same
database, would never end. The caller's thread looks where the function's thread stands. A function that
joins the caller's thread, or waits for what an executor runs in it, is recognised at once. What another lock,
event or queue waits for cannot be seen: there, the function is given some time.
"""

from __future__ import annotations

import inspect
import queue
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final

from ..engine import Running
from ..errors import RequestError
from ..functions import frame_of

# A function that has waited for another thread for so long, with a call waiting for it, will not end.
_PATIENCE_S: Final = 2.0
_EXECUTOR_FILE: Final = inspect.getfile(ThreadPoolExecutor)
# Whose frames are the innermost ones of a thread that waits for another.
_WAITING_FILES: Final = (threading.__file__, inspect.getfile(Executor), queue.__file__)


class Standstill:
    """What one waiting call has seen so far."""

    def __init__(self) -> None:
        self._function: Running | None = None
        self._since_s = 0.0

    def look(self, running: Running | None) -> None:
        """Look at the function that runs now.

        Raises:
            RequestError: `Standstill`.
        """
        waits = running is not None and bool(_awaited(running))
        if not waits or running is not self._function:
            self._function, self._since_s = running if waits else None, time.monotonic()
        if running is None or not waits:
            return
        is_mine = not _awaited(running).isdisjoint(_this_thread())
        if is_mine or time.monotonic() - self._since_s >= _PATIENCE_S:
            raise RequestError(
                f"this call waits until `{running.path}` has ended, and that function waits for another "
                f"thread at {_place(running)} - a function must not wait for a thread that calls its own "
                "database",
                code="Standstill",
                path=running.path,
            )


def _awaited(running: Running) -> set[int]:
    """The identities of what the function's thread waits for: a thread, a future, a lock; none if it runs."""
    awaited: set[int] = set()
    frame = frame_of(running.thread_id)
    while frame is not None and frame.f_code.co_filename in _WAITING_FILES:
        awaited.add(id(frame.f_locals.get("self")))
        frame = frame.f_back
    return awaited


def _this_thread() -> set[int]:
    """The identities of this thread and of the futures that an executor resolves in it."""
    mine = {id(threading.current_thread())}
    frame = frame_of(threading.get_ident())
    while frame is not None:
        # Only what is the executor's own is looked into: any other `self` is an object of the program's.
        if frame.f_code.co_filename == _EXECUTOR_FILE:
            mine.add(id(getattr(frame.f_locals.get("self"), "future", None)))
        frame = frame.f_back
    return mine - {id(None)}


def _place(running: Running) -> str:
    """The line that waits, in the function's code or in a library that it called."""
    frame = frame_of(running.thread_id)
    while frame is not None and frame.f_code.co_filename in _WAITING_FILES:
        frame = frame.f_back
    return "an unknown place" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
