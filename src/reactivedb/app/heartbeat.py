"""Does something block an event loop, and what?

One thread of the process looks at the loops of its open databases, some times within
`Limits.loop_blocked_s`. A loop that does not wait is sent a beat. If it has not answered after so much of
its thread's own time (`functions/own_time`), it is blocked: that is counted, and logged with the stack. What
holds the interpreter's lock (a long regular expression, a huge allocation) holds up this thread too: then the
CPU time of the loop's thread tells. A loop that waits is not woken; a debugger is not told of.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Final

from ..functions import OwnTime, is_debugger, measure_collections, now_s, place_of, stack_of, user_frame
from ..log import Log

if TYPE_CHECKING:
    from .meters import Meters

_logger = Log("reactivedb")

_LOOKS_PER_LIMIT: Final = 4
# Where a loop waits for something to happen; one in C is called by the last two.
_WAITING: Final = ("selectors.py", "asyncio/runners.py", "anyio/_backends/_asyncio.py")


class Pulse:
    """One loop that is looked at. Made on the loop."""

    def __init__(
        self, limit_s: float, meters: Meters, handlers: Callable[[], Iterable[tuple[CodeType, str]]]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.thread_id = threading.get_ident()
        self.limit_s = limit_s
        self._meters = meters
        self._handlers = handlers
        self._lock = threading.Lock()
        self._own = OwnTime(self.thread_id)
        self._looked_s = now_s()
        # The own time when a beat was sent that is not answered.
        self._asked_at_s: float | None = None
        self._is_told = False

    @property
    def is_asked(self) -> bool:
        """A beat is on its way."""
        return self._asked_at_s is not None

    def look(self, frame: FrameType | None, planned_s: float) -> None:
        """Find out whether the loop is blocked. Called by another thread."""
        with self._lock:
            at_s = now_s()
            is_late = at_s - self._looked_s > planned_s + self.limit_s
            self._looked_s = at_s
            before_s = self._own.taken_s
            self._own.sample(at_s, planned_s=planned_s)
            if self._asked_at_s is not None:
                self._tell(self._own.taken_s - self._asked_at_s, frame)
            elif is_late:
                # This thread was held up as well, within a turn of the loop to which no beat was sent.
                self._tell(self._own.taken_s - before_s, frame)
                self._end(self._own.taken_s - before_s)
            if self._asked_at_s is None and not _waits(frame):
                self._ask()

    def _ask(self) -> None:
        self._asked_at_s = self._own.taken_s
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop was closed in this moment
            self._asked_at_s = None

    def _answer(self) -> None:
        with self._lock:
            if self._asked_at_s is None:
                return
            self._own.sample(now_s(), planned_s=0.0)
            taken_s = self._own.taken_s - self._asked_at_s
            self._tell(taken_s, None)
            self._end(taken_s)
            self._asked_at_s = None

    def _tell(self, taken_s: float, frame: FrameType | None) -> None:
        if self._is_told or taken_s <= self.limit_s or _is_debugged(frame):
            return
        self._is_told = True
        self._meters.loop_blocks += 1
        stack = "" if frame is None else f"\n{stack_of(frame)}"
        _logger.warning(
            "the event loop has been blocked for %.3g s%s, at %s: nobody else is served meanwhile - await "
            "instead, or declare the action with `thread=True`%s",
            taken_s,
            self._who(frame),
            place_of(user_frame(frame)) if frame is not None else "a place that is not known any more",
            stack,
        )

    def _end(self, taken_s: float) -> None:
        if self._is_told:
            self._is_told = False
            self._meters.loop_blocked_s += taken_s
            _logger.warning("the event loop goes on, it was blocked for %.3g s", taken_s)

    def _who(self, frame: FrameType | None) -> str:
        """The function or route whose own code is on the stack."""
        paths = dict(self._handlers())
        while frame is not None:
            if (path := paths.get(frame.f_code)) is not None:
                return f" by `{path}`"
            frame = frame.f_back
        return ""


def _waits(frame: FrameType | None) -> bool:
    return frame is None or frame.f_code.co_filename.endswith(_WAITING)


def _is_debugged(frame: FrameType | None) -> bool:
    while frame is not None:
        if is_debugger(frame):
            return True
        frame = frame.f_back
    return False


class Heart:
    """The thread that looks, and the loops that it looks at."""

    def __init__(self, *, with_thread: bool = True) -> None:
        self.pulses: list[Pulse] = []
        self._lock = threading.Lock()
        self._news = threading.Event()
        # A test looks by itself.
        self._needs_thread = with_thread

    def begin(self, pulse: Pulse) -> None:
        if pulse.limit_s == math.inf:
            return
        with self._lock:
            self.pulses.append(pulse)
            if self._needs_thread:
                self._needs_thread = False
                measure_collections()
                threading.Thread(target=self._run, name="reactivedb-heartbeat", daemon=True).start()
        self._news.set()

    def end(self, pulse: Pulse) -> None:
        with self._lock:
            if pulse in self.pulses:
                self.pulses.remove(pulse)

    def _run(self) -> None:
        while True:
            self._news.clear()
            planned_s = self.interval_s
            self._news.wait(planned_s)
            if planned_s is not None:
                self.look(planned_s)

    @property
    def interval_s(self) -> float | None:
        """Between two looks; None: there is no loop to look at."""
        with self._lock:
            return min((pulse.limit_s / _LOOKS_PER_LIMIT for pulse in self.pulses), default=None)

    def look(self, planned_s: float) -> None:
        """Look at all loops once."""
        with self._lock:
            pulses = list(self.pulses)
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
        for pulse in pulses:
            pulse.look(frames.get(pulse.thread_id), planned_s)


heart = Heart()
