"""The event loop of a database that has one of its own; user code cannot end it.

asyncio lets `SystemExit` and `KeyboardInterrupt` out of any task or callback, and its loop stops with them.
User code that calls `sys.exit()` in a task that it has started would end the server for everybody. Here the
loop goes on, with a line in the log; the task has failed with what it raised, and its awaiter is told. What a
signal handler raised ends the loop as ever.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

from ..log import Log
from ..user_code import contained, is_from_signal, name_of

_logger = Log("reactivedb")

_STANDARD: Any = asyncio.ProactorEventLoop if sys.platform == "win32" else asyncio.SelectorEventLoop

if TYPE_CHECKING:
    _Mixed = asyncio.BaseEventLoop
else:
    _Mixed = object


class _GoesOn(_Mixed):
    """Stands before the class of a loop."""

    _main: asyncio.Future[Any] | None = None

    def run_until_complete(self, future: Any) -> Any:
        outer = self._main
        main = self._main = asyncio.ensure_future(future, loop=self)
        try:
            return super().run_until_complete(main)
        finally:
            self._main = outer

    def run_forever(self) -> None:
        while True:
            try:
                return super().run_forever()
            except BaseException as error:
                if self._main is None or self._main.done():
                    raise
                contained(error)
                _logger.exception("a task or callback of a function raised `%s`", name_of(error))


def loop_factory(*, fast: bool) -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes such loops; `fast` ones on uvloop where it is installed."""
    base = import_module("uvloop").Loop if fast and find_spec("uvloop") is not None else _STANDARD
    return type("Loop", (_GoesOn, base), {})


def end_if_from_signal(error: BaseException) -> None:
    """End the running loop with what a signal handler raised, which servers catch like any other error."""
    if is_from_signal(error):
        asyncio.get_running_loop().call_soon(_raise, error)


def _raise(error: BaseException) -> NoReturn:
    raise error
