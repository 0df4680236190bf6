"""How much of the time that passes is a thread's own?

The time on the wall is not: a busy machine, the garbage collector and a stopped process take from it. CPU
time is not either: a function that sleeps for ever uses none, and holds up everybody. So another thread
samples both:

- What the thread computed counts in full, without what full garbage collections took in it.
- A sample in which it did not run at all counts in full: it sleeps, or waits for a lock or a socket.
- Else a tenth of what it did not compute counts. It may have wanted to run and not been let, by other
  processes or by threads that hold the interpreter's lock. One that polls is stopped after ten times its
  bound.
- A sampler that comes late was kept from running itself, so what passed beyond its own plan is nobody's time.
"""

from __future__ import annotations

import gc
import math
import sys
import threading
import time
from types import FrameType
from typing import Any, Final, Protocol

# Of time in which a thread ran some of the time, what counts of the rest.
_SHARE_NOT_RUN: Final = 0.1
# A thread that ran less in one sample did not run: it was woken and found the interpreter's lock taken.
_RAN_S: Final = 50e-6

_DEBUGGERS: Final = frozenset({"bdb", "pdb", "ipdb", "pudb", "pydevd", "debugpy", "remote_pdb", "web_pdb"})


class Machine(Protocol):
    """The clocks of this machine; a test has its own."""

    def now_s(self) -> float: ...

    def cpu_s(self, thread_id: int) -> float | None:
        """CPU time of a thread. None: the system does not tell."""
        ...


class SystemMachine:
    """The machine that this process runs on."""

    now_s = staticmethod(time.monotonic)

    def cpu_s(self, thread_id: int) -> float | None:
        if thread_id == threading.get_ident():
            return time.thread_time()
        try:
            return time.clock_gettime(time.pthread_getcpuclockid(thread_id))
        except (AttributeError, OSError):  # no POSIX, macOS, or a thread that has ended
            return None


# Everything below and whoever uses it asks these; tests put others in their place.
machine: Machine = SystemMachine()


def now_s() -> float:
    """By the machine's clock that never goes back."""
    return machine.now_s()


class OwnTime:
    """The own time of one thread since this was made."""

    taken_s = 0.0
    # In garbage collections, and in samples that were excused.
    excused_s = 0.0

    @property
    def excused_s_max(self) -> float:
        return math.inf

    def __init__(self, thread_id: int) -> None:
        self.thread_id = thread_id
        # Each run makes one: of the two clocks, that of the CPU is a call of the system's.
        self.began_s = self._at_s = machine.now_s()
        self._cpu_s = machine.cpu_s(thread_id)
        self._collected_s = _collected.get(thread_id, 0.0)

    def sample(self, now_s: float, *, planned_s: float, excused: bool = False) -> None:
        """Count what has passed since the last sample, which was to last `planned_s`."""
        passed_s, self._at_s = now_s - self._at_s, now_s
        cpu_s = machine.cpu_s(self.thread_id)
        ran_s = passed_s if cpu_s is None or self._cpu_s is None else cpu_s - self._cpu_s
        self._cpu_s = cpu_s
        total_s = collected_s(self.thread_id, cpu_s)
        collecting_s, self._collected_s = total_s - self._collected_s, total_s
        if excused:
            self.excused_s += passed_s
            return
        # Beyond, a finalizer perhaps does not end.
        collecting_s = min(collecting_s, max(0.0, self.excused_s_max - self.excused_s))
        self.excused_s += collecting_s
        idle_s = max(0.0, min(passed_s, planned_s) - ran_s)
        share = 1.0 if ran_s < _RAN_S else _SHARE_NOT_RUN
        self.taken_s += max(0.0, ran_s - collecting_s) + idle_s * share


# Garbage collections. A young generation is small; it is not worth two looks at the clock.

# By thread: CPU time taken so far, and when the one that is going on began.
_collected: dict[int, float] = {}
_collecting: dict[int, float] = {}


def collected_s(thread_id: int, cpu_s: float | None = None) -> float:
    """CPU time that garbage collections have taken in a thread, with the one that is going on at `cpu_s`."""
    taken_s = _collected.get(thread_id, 0.0)
    began_s = _collecting.get(thread_id)
    return taken_s if began_s is None or cpu_s is None else taken_s + max(0.0, cpu_s - began_s)


def forget_collection(thread_id: int) -> None:
    """An exception has landed in the thread, perhaps in the callback that was to note the end of one."""
    _collecting.pop(thread_id, None)


def _collection(phase: str, info: dict[str, Any]) -> None:
    if not info["generation"]:
        return
    thread_id = threading.get_ident()
    if phase == "start":
        _collecting[thread_id] = machine.cpu_s(thread_id) or 0.0
        return
    began_s = _collecting.pop(thread_id, None)
    if began_s is not None:
        _collected[thread_id] = _collected.get(thread_id, 0.0) + (machine.cpu_s(thread_id) or 0.0) - began_s


def measure_collections() -> None:
    """Time the garbage collections of this process from now on. Harmless to call again."""
    if _collection not in gc.callbacks:
        gc.callbacks.append(_collection)


# What a thread does, by its frames


def is_import(frame: FrameType) -> bool:
    """A frame of the import system: what runs above it is a module's own code."""
    return frame.f_code.co_filename.startswith("<frozen importlib")


def is_debugger(frame: FrameType) -> bool:
    """A frame of a debugger, at its prompt perhaps."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _DEBUGGERS


def is_traced_by(frame: FrameType, inner: FrameType) -> bool:
    """What runs above a frame is its trace function: a debugger of another make, at its prompt perhaps."""
    code: Any = getattr(frame.f_trace, "__code__", None)
    return code is inner.f_code


# From Python 3.12 on.
_monitoring: Any = getattr(sys, "monitoring", None)


def is_debugged() -> bool:
    """A debugger is attached to the whole process, as those of editors are."""
    return _monitoring is not None and _monitoring.get_tool(_monitoring.DEBUGGER_ID) is not None
