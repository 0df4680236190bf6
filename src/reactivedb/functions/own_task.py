"""A coroutine of user code, in a task of its own.

User code can break the task that it runs in: a cancel scope that it never leaves makes every scope around it
fail, and a task that it awaits closes the whole chain of awaiting coroutines if it ends with `GeneratorExit`.
The tasks of the database and of its requests are not user code's to break. Costs one turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import anyio

from ..user_code import contained, is_of

T = TypeVar("T")


async def in_own_task(work: Awaitable[T]) -> T:
    """What `work` gives. Whatever it raises is raised; cancelling this cancels it, and waits for its end."""
    values: list[T] = []
    failures: list[BaseException] = []

    async def run() -> None:
        try:
            values.append(await work)
        except BaseException as error:
            task = asyncio.current_task()
            if is_of(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0:
                raise
            # Kept: asyncio ends its loop with some errors of tasks.
            failures.append(contained(error))

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
    except BaseExceptionGroup as broken:
        # The work has ended, but it has left a scope open.
        if not values and not failures:
            failures.append(contained(broken))
    try:
        if failures and is_of(failures[0], GeneratorExit):
            # Raised in a coroutine it would look as if that were closed.
            raise RuntimeError("the function raised `GeneratorExit`") from failures[0]
        if failures:
            raise failures[0]
        if not values:
            raise asyncio.CancelledError("the function cancelled its own task")
        return values[0]
    finally:
        # Their tracebacks refer to this frame.
        failures.clear()
