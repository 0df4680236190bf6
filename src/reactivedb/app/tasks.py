"""Who owns the tasks that a callback of the loop starts?

anyio starts tasks from tasks only; calls from a socket's protocol and ticks come from callbacks. So one task
owns the group and starts what callbacks leave for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from ..errors import StorageError
from ..log import Log
from ..user_code import contained_in_task, name_of

_logger = Log("reactivedb")


class Tasks:
    """The tasks of one open database. They end with `run`; one that fails is logged and ends alone."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[..., Coroutine[Any, Any, Any]], tuple[Any, ...]]] = deque()
        self._news = asyncio.Event()
        self._stopped = False

    def start(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Have a task started in the next turn of the loop. Called on the loop, from anywhere.

        Raises:
            StorageError: `DatabaseClosed`.
        """
        if self._stopped:
            raise StorageError("the database is closed - open it again", code="DatabaseClosed")
        self._waiting.append((function, args))
        self._news.set()

    def stop(self) -> None:
        """Cancel everything and end `run`."""
        self._stopped = True
        self._news.set()

    async def run(self, started: Callable[[], None]) -> None:
        """Own the tasks until `stop` or cancellation."""
        try:
            async with anyio.create_task_group() as group:
                started()
                while not self._stopped:
                    while self._waiting:
                        function, args = self._waiting.popleft()
                        group.start_soon(_run_alone, function, args)
                    self._news.clear()
                    await self._news.wait()
                group.cancel_scope.cancel()
        finally:
            self._stopped = True


async def _run_alone(function: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]) -> None:
    # Some run user code, which can break a task from within: a cancel scope that it leaves open, say.
    try:
        await function(*args)
    except BaseException as error:
        contained_in_task(error)
        _logger.exception("a task of the database failed with `%s`", name_of(error))
