"""A coroutine of user code, in a task of its own.

User code can break the task that it runs in: a cancel scope that it never leaves makes every scope around it
fail, and a task that it awaits closes the whole chain of awaiting coroutines if it ends with `GeneratorExit`.
The tasks of the database and of its requests are not user code's to break. Costs one turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from ..user_code import contained

T = TypeVar("T")


async def in_own_task(work: Awaitable[T]) -> T:
    """What `work` gives. Whatever it raises is raised; cancelling this cancels it, and waits for its end."""
    failure: BaseException | None = None

    async def run() -> T | None:
        nonlocal failure
        try:
            return await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # Kept: asyncio ends its loop with some errors of tasks.
            failure = contained(error)
            return None

    task = asyncio.get_running_loop().create_task(run())
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
            task.cancel()
    try:
        if cancelled is not None and task.cancelled():
            raise cancelled
        value = task.result()
        if failure is not None:
            raise failure
        return value  # pyright: ignore[reportReturnType] - there is one if nothing was raised
    finally:
        # Their tracebacks refer to this frame.
        failure = cancelled = None
