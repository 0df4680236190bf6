"""How do long tasks on a database (erasing, giving room back, backing up) run beside its calls?

What takes long is a generator of short steps (`functions.erasure`, `engine.compaction`). A synchronous
database runs each as a call of its own, an asynchronous one lets the loop turn after each, so calls of others
go on in between. A backup reads the file over a connection of its own, in the caller's thread or in another
one.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from ..engine import CompactionReport, compaction
from ..errors import StorageError
from ..functions import Durable, Erasure, ErasureReport, Pause, Step
from ..storage import BackupReport, back_up
from .call_queue import CallQueue
from .runtime import Runtime

T = TypeVar("T")


class _Steps(Generic[T]):
    """A generator that is driven from another thread or task at each step."""

    def __init__(self, steps: Generator[Step, None, T]) -> None:
        self._steps = steps
        # One when it has ended.
        self.results: list[T] = []

    def advance(self) -> Step:
        try:
            return next(self._steps)
        except StopIteration as ended:
            self.results.append(ended.value)
            return None


def run_steps(runtime: Runtime, calls: CallQueue, steps: Generator[Step, None, T]) -> T:
    """For a synchronous database."""
    driven = _Steps(steps)
    while not driven.results:
        match calls.run(driven.advance):
            case Durable(ts):
                calls.run(partial(runtime.engine.make_durable, ts))
                runtime.delivery.committed_elsewhere()
            case Pause(seconds):
                time.sleep(seconds)
            case None:
                pass
    return driven.results[0]


async def run_steps_async(runtime: Runtime, steps: Generator[Step, None, T]) -> T:
    """For an asynchronous one."""
    runtime.check_loop()
    driven = _Steps(steps)
    while not driven.results:
        match driven.advance():
            case Durable(ts):
                await runtime.durable(ts)
            case Pause(seconds):
                await anyio.sleep(seconds)
            case None:
                await anyio.lowlevel.checkpoint()
    return driven.results[0]


def erase(runtime: Runtime, id: str) -> Generator[Step, None, ErasureReport]:
    return Erasure(runtime.runner, runtime.file_store, id).steps()


def compact(runtime: Runtime) -> Generator[Step, None, CompactionReport]:
    return compaction(runtime.engine)


def backup_now(runtime: Runtime, calls: CallQueue, folder: str | PathLike[str]) -> BackupReport:
    path = _path_of(runtime)
    calls.run(runtime.engine.make_durable)
    return back_up(path, Path(folder))


async def backup_now_async(runtime: Runtime, folder: str | PathLike[str]) -> BackupReport:
    path = _path_of(runtime)
    runtime.check_loop()
    await runtime.durable(runtime.engine.committer.applied_ts)
    return await anyio.to_thread.run_sync(back_up, path, Path(folder))


def _path_of(runtime: Runtime) -> Path:
    """Raises: StorageError `NoFile`."""
    path = runtime.engine.storage.path
    if path is None:
        raise StorageError(
            "a database in memory has no file to back up - open one with `app.open(path)`", code="NoFile"
        )
    return path
