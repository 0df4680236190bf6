"""How is a query or mutation stopped that does not end by itself?

A run holds the engine's lock and, in a server, the event loop, so one that takes too long stops everybody.
One thread watches all runs of the process and raises an exception inside of the one that is over its time,
with `PyThreadState_SetAsyncExc`. It sleeps on an event while nothing runs.

Where the exception may land: only in a function's own code, or in a library that it called. The innermost
frame is looked at before, under the lock under which runs are armed and disarmed; while the engine works for
the function, the transaction refuses instead (`Transaction.overdue`). What was raised and has not landed
when the function is left is caught by `call`. A handler that catches it has it raised again, from the second
time on at every line of the frames it runs in. What happens inside one C call can only be logged.

A function's time is its own (`own_time`), sampled some times within the limit: a busy machine and the garbage
collector do not count. What the engine takes for reads and writes comes on top, so that a run may use up all
the documents that it may read and write. A debugger's time does not count, and neither does that of an
import, within `uncounted_time_s_max`: stopped half-way, a module would begin anew at each call.

Not watched: a limit of `math.inf`, a thread that a debugger or a coverage tool traces, and a run inside of
a watched one, whose time is the outer one's.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..errors import LimitExceededError
from ..log import Log
from . import own_time
from .own_time import OwnTime, is_debugged, is_debugger, is_import, is_traced_by
from .stacks import LIBRARIES, PACKAGE

if TYPE_CHECKING:
    from ..engine import Transaction

_logger = Log("reactivedb")

# Between two attempts to stop a run that is over its time.
_RETRY_S: Final = 0.002
# A raised exception lands within microseconds; after this long, the thread is inside of a C call.
_STUCK_S: Final = 0.1
# Samples within a limit: an import or a debugger is noticed by them.
_SAMPLE_COUNT: Final = 8

_set_async_exc: Final = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.py_object)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


class Interrupted(BaseException):
    """Raised inside of a function that is over its time; never leaves `call`."""

    def __init__(self) -> None:
        super().__init__()
        # The interpreter makes the exception in the thread in which it lands.
        thread_id = threading.get_ident()
        own_time.forget_collection(thread_id)
        watch = _watchdog.armed.get(thread_id)
        if watch is not None:
            watch.landed_count += 1
            watch.stuck |= watch.landed_count == 1 and own_time.machine.now_s() > watch.over_at_s + _STUCK_S
            if watch.landed_count > 1:
                watch.raise_at_every_line()


class _Debugger:
    """Somebody looks at the run."""


class _Import:
    """The run imports a module."""

    def __init__(self, frame: FrameType) -> None:
        importer = frame.f_back or frame
        self.place = f"{importer.f_code.co_filename}:{importer.f_lineno}"


_Excuse: TypeAlias = _Debugger | _Import


class _Watch(OwnTime):
    """One run."""

    # Set by the run itself before it is disarmed: from then on nothing is raised in it.
    leaving = False
    # What the last sample saw; a short import between two samples counts.
    excuse: _Excuse | None = None
    # The import that takes long is told of once, and so is one that takes too long.
    told_count = 0
    # The rest concerns runs that are over their time; on the class, since most never are.
    stopping = False
    over_at_s = math.inf
    raised_count = 0
    landed_count = 0
    tracing = False
    # It could not be stopped for a while.
    stuck = False
    logged = False

    def __init__(self, path: str, transaction: Transaction, limit_s: float, thread_id: int) -> None:
        OwnTime.__init__(self, thread_id)
        self.path = path
        self.transaction = transaction
        self.limit_s = limit_s

    @property
    def excused_s_max(self) -> float:
        return self.transaction.limits.uncounted_time_s_max

    @property
    def left_s(self) -> float:
        """What is left of its time. What the engine takes for reads and writes is not the function's own."""
        return self.limit_s + self.transaction.usage.engine_time_s() - self.taken_s

    def look(self, frame: FrameType | None, planned_s: float) -> None:
        """Count what has passed; while it imports or is being debugged, it does not count."""
        last, self.excuse = self.excuse, self._excuse_of(frame)
        excuse = self.excuse or last
        self.sample(own_time.machine.now_s(), planned_s=planned_s, excused=excuse is not None)
        if isinstance(excuse, _Import):
            self._tell(excuse)

    def finish(self) -> float:
        """Count what has passed since the last look; gives how much the run is over its time."""
        excused = self.excuse is not None
        self.sample(own_time.machine.now_s(), planned_s=0.0, excused=excused)
        return -self.left_s

    def _excuse_of(self, frame: FrameType | None) -> _Excuse | None:
        importing: _Import | None = None
        inner: FrameType | None = None
        while frame is not None and frame.f_code is not call.__code__:
            if is_debugger(frame) or (inner is not None and is_traced_by(frame, inner)):
                return _Debugger()
            if is_import(frame):
                importing = _Import(frame)
            inner, frame = frame, frame.f_back
        if importing is not None and self.excused_s > self.excused_s_max:
            return None
        return importing

    def _tell(self, importing: _Import) -> None:
        if self.told_count == 0 and self.excused_s > self.limit_s:
            self.told_count = 1
            _logger.warning(
                "`%s` has been importing for %.3g s, which holds up everybody, at %s - "
                "import at the top of the module",
                self.path,
                self.excused_s,
                importing.place,
            )
        elif self.told_count == 1 and self.excused_s > self.excused_s_max:
            self.told_count = 2
            _logger.warning(
                "`%s` imports for longer than %g s (`uncounted_time_s_max`) at %s: from now on that counts",
                self.path,
                self.excused_s_max,
                importing.place,
            )

    def exceeded(self) -> LimitExceededError:
        return LimitExceededError(
            f"a query or mutation may run for {self.limit_s:g} s (`user_time_s_max`) beside what its reads "
            f"and writes take, `{self.path}` was stopped - do less in one run, let jobs do it in parts, or "
            "compute in an action",
            code="FunctionTimeout",
            limit="user_time_s_max",
            maximum=self.limit_s,
        )

    def raise_at_every_line(self) -> None:
        """Let no handler in the frames that run now get further than its next line."""
        self.tracing = True
        # A trace function that raises is taken away; one that is a C function and has the exception raised
        # at the next check stays. Extra arguments of a C function are harmless: they are the event's.
        again = _traced(self.thread_id)
        frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
        while frame is not None and frame.f_code is not call.__code__:
            if not frame.f_code.co_filename.startswith(PACKAGE):
                frame.f_trace = again
            frame = frame.f_back
        sys.settrace(_ignore_new_frames)


_trace_with_exc: Final = ctypes.PYFUNCTYPE(None, ctypes.c_ulong, *[ctypes.py_object] * 4)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


def _traced(thread_id: int) -> Callable[[FrameType, str, Any], None]:
    return functools.partial(_trace_with_exc, thread_id, Interrupted)


def _ignore_new_frames(frame: FrameType, event: str, arg: Any) -> None:
    return None


class _Watchdog:
    """The watching thread and what it watches, at most one run per thread."""

    def __init__(self, *, with_thread: bool = True) -> None:
        self.armed: dict[int, _Watch] = {}
        # Guards `armed` and everything the thread does to a run.
        self._lock = threading.Lock()
        self._news = threading.Event()
        # When the thread will look next, and how long it meant to wait; infinite while it sleeps for good.
        self._looks_at = math.inf
        self._planned_s = math.inf
        # Of the newest run: how long the thread stays awake to spare the next run waking it.
        self._limit_s = 0.0
        self._awake_until = 0.0
        self._armed_since_look = False
        # A test looks by itself.
        self._needs_thread = with_thread

    def arm(self, watch: _Watch) -> None:
        with self._lock:
            self.armed[watch.thread_id] = watch
            self._armed_since_look = True
            self._limit_s = watch.limit_s
            if watch.began_s + watch.limit_s / _SAMPLE_COUNT < self._looks_at:
                self._planned_s = watch.limit_s / _SAMPLE_COUNT
                self._looks_at = watch.began_s + self._planned_s
                self._news.set()
            if self._needs_thread:
                self._needs_thread = False
                own_time.measure_collections()
                threading.Thread(target=self._run, name="reactivedb-watchdog", daemon=True).start()

    def disarm(self, watch: _Watch) -> None:
        """Called by the run's own thread. What was raised lands here at the latest, at the first call below.

        Raises:
            Interrupted: call it again.
        """
        # Taking it back instead (with a null pointer) leaves CPython 3.11 looking for it for ever.
        with self._lock:
            self.armed.pop(watch.thread_id, None)
            if watch.stopping:
                watch.transaction.overdue = None
            if watch.tracing:
                sys.settrace(None)

    @property
    def sleeps(self) -> bool:
        """Nothing will wake the thread but a new run."""
        with self._lock:
            return self._looks_at == math.inf

    def _run(self) -> None:
        while True:
            self._news.wait(self.look())
            self._news.clear()

    def look(self) -> float | None:
        """Sample all runs, stop what is over its time; gives how long to wait, None: until a run begins."""
        with self._lock:
            stuck = self._look()
            wait_s = self._looks_at - own_time.machine.now_s()
        for watch, place in stuck:
            _logger.warning(
                "`%s` is over its %g s and inside of one C call, which cannot be stopped, at %s",
                watch.path,
                watch.limit_s,
                place,
            )
        return None if wait_s == math.inf else max(0.0, wait_s)

    def _look(self) -> list[tuple[_Watch, str]]:
        """Stop what is over its time, decide when to look again; gives what has to be logged."""
        now_s = own_time.machine.now_s()
        stuck: list[tuple[_Watch, str]] = []
        if self._armed_since_look:
            self._armed_since_look = False
            self._awake_until = now_s + self._limit_s
        planned_s = self._limit_s / _SAMPLE_COUNT if now_s < self._awake_until else math.inf
        frames = sys._current_frames() if self.armed else {}  # pyright: ignore[reportPrivateUsage]
        for watch in self.armed.values():
            if watch.leaving:
                continue
            watch.look(frames.get(watch.thread_id), self._planned_s)
            if watch.left_s > 0 or watch.excuse is not None:
                sample_s = watch.limit_s / _SAMPLE_COUNT
                planned_s = min(planned_s, max(_RETRY_S, min(watch.left_s, sample_s)))
                continue
            planned_s = min(planned_s, _RETRY_S)
            place = _stop(watch)
            if now_s > watch.over_at_s + _STUCK_S and not watch.landed_count and not watch.logged:
                watch.logged = True
                stuck.append((watch, place))
        self._planned_s = planned_s
        self._looks_at = now_s + planned_s
        return stuck


def _stop(watch: _Watch) -> str:
    """Raise in the run, or have its transaction refuse if the engine works for it now; gives the place."""
    if not watch.stopping:
        watch.stopping = True
        watch.over_at_s = own_time.machine.now_s() + watch.left_s
        watch.transaction.overdue = watch.exceeded()
    # Looked at anew, directly before it is raised in.
    frame = sys._current_frames().get(watch.thread_id)  # pyright: ignore[reportPrivateUsage]
    if frame is None:
        return "an unknown place"
    # Between this look and the raising, the thread stands still or leaves through `disarm`, which waits.
    # One that has not landed is not raised twice: two could be on their way when the function is left.
    if watch.raised_count <= watch.landed_count and _is_stoppable(frame):
        watch.raised_count = watch.landed_count + 1
        _set_async_exc(watch.thread_id, Interrupted)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _is_stoppable(frame: FrameType | None) -> bool:
    """The function's own code runs, or a library that it called, not the engine or one that that called."""
    while frame is not None and frame.f_code is not call.__code__:
        file = frame.f_code.co_filename
        if file.startswith(PACKAGE):
            return False
        if not file.startswith(LIBRARIES):
            return True
        frame = frame.f_back
    return frame is not None


_watchdog = _Watchdog()
# The thread does not live on in a forked process, and its lock may have been held.
os.register_at_fork(after_in_child=_watchdog.__init__)


def call(
    handler: Callable[..., Any], ctx: object, named: dict[str, Any], *, path: str, transaction: Transaction
) -> Any:
    """Call a handler within its time.

    Raises:
        LimitExceededError: `FunctionTimeout`; whatever the handler raises.
    """
    limit_s = transaction.limits.user_time_s_max
    thread_id = threading.get_ident()
    if limit_s == math.inf or thread_id in _watchdog.armed or sys.gettrace() is not None or is_debugged():
        return handler(ctx, **named)
    watch = _Watch(path, transaction, limit_s, thread_id)
    _watchdog.arm(watch)
    value: Any = None
    error: BaseException | None = None
    try:
        value = handler(ctx, **named)
    except BaseException as raised:
        error = raised
    # The interpreter looks for an exception to raise at calls and jumps back: none is between the end of the
    # handler and the `try` below. Of those on their way there are two at most, the thread's and a line's.
    watch.leaving = True
    try:
        try:
            _watchdog.disarm(watch)
        except Interrupted:
            _watchdog.disarm(watch)
    except Interrupted:
        _watchdog.disarm(watch)
    # More of its own time cannot have passed than time.
    over_s = own_time.machine.now_s() - watch.began_s - limit_s
    if over_s > 0 and not watch.stopping:
        over_s = watch.finish()
    try:
        if not watch.stopping and (over_s <= 0 or error is not None):
            if error is not None:
                raise error
            return value
        if (watch.stuck or not watch.landed_count) and not watch.logged:
            _logger.warning(
                "`%s` ran %.3g s longer than its %g s and could not be stopped inside of a C call",
                path,
                over_s,
                limit_s,
            )
        raise watch.exceeded() from error
    finally:
        # Its traceback refers to this frame.
        del error
