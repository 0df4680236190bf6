"""Fork of a process that has a database open.

The child inherits the descriptors and a copy of all memory, but none of the threads, and SQLite does not work
across a fork. So in the child every open file is left to the parent at once.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Final, Protocol


class Forkable(Protocol):
    """What must not be used in a child process."""

    def leave_to_parent(self) -> None: ...


_open: Final[weakref.WeakSet[Forkable]] = weakref.WeakSet()


def keep_away(thing: Forkable) -> None:
    """Have `leave_to_parent` called in each child that is forked as long as this lives."""
    _open.add(thing)


def let_go(thing: Forkable) -> None:
    """It has been closed: there is nothing to leave."""
    _open.discard(thing)


def never_finalize(thing: object) -> None:
    """Keep it from being closed when nothing refers to it, also when the interpreter ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _leave_all() -> None:
    for thing in list(_open):
        thing.leave_to_parent()


os.register_at_fork(after_in_child=_leave_all)
