"""Fence of a call: does its caller still want what it is about to commit?

A caller that gives up waiting (its thread was interrupted) cannot stop the code of a function that runs in
another thread. It fences the call instead: the function may run on, and its commit is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

_pass: ContextVar[Callable[[], None] | None] = ContextVar("reactivedb_fence", default=None)


@contextmanager
def fenced(check: Callable[[], None] | None) -> Generator[None]:
    """Ask `check` before each commit of what runs in this context; it raises to refuse the commit."""
    token = _pass.set(check)
    try:
        yield
    finally:
        _pass.reset(token)


def pass_before_commit() -> None:
    """Raises: RequestError `CallWithdrawn`, if nobody waits for this commit any more."""
    check = _pass.get()
    if check is not None:
        check()
