"""What user code raised: is it the failure of that one call, and what may be said of it?

User code runs in functions, validators, default factories, predicates, migrations, imports, and in the error
classes themselves. Each place catches `BaseException` and hands it to `contained`, which gives it back as the
failure of that one call. Only what a signal handler raised goes on, for it is to end the program.

An error of user code is an object of user code: its `__str__`, `__class__` and attributes may raise or lie.
So its class is asked with `is_of`, its texts are had with `name_of` and `text_of`, and these never raise.
"""

from __future__ import annotations

import asyncio
import dis
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType, TracebackType
from typing import Any, Final, TypeGuard, TypeVar, cast

E = TypeVar("E", bound=BaseException)
T = TypeVar("T")

_PACKAGE: Final = str(Path(__file__).parent) + os.sep
_CALL_USER_CODE: Final = tuple(
    _PACKAGE + part + os.sep for part in ("functions", "schema", "sign_in", "server")
)
# Nobody reads more of an error, and it is copied; what keeps errors cuts them further.
_TEXT_LENGTH_MAX: Final = 100_000

# The attribute itself: a class may have one of that name of its own.
traceback_of: Final[Callable[[BaseException], TracebackType | None]] = vars(BaseException)[
    "__traceback__"
].__get__
_members_of: Final[Callable[[BaseException], tuple[BaseException, ...]]] = vars(BaseExceptionGroup)[
    "exceptions"
].__get__
_class_name: Final[Callable[[type], str]] = vars(type)["__name__"].__get__


def contained(error: E) -> E:
    """Give back what user code raised, as the failure of that one call.

    Raises: the error itself, if a signal handler raised it.
    """
    if is_from_signal(error):
        raise error
    return error


def contained_in_task(error: E) -> E:
    """As `contained`, for what a coroutine of user code raised.

    Raises: the error itself also if the task is cancelled or the coroutine is closed.
    """
    kind = type(error)
    if issubclass(kind, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is None or task.cancelling() > 0:
            raise error
    if issubclass(kind, GeneratorExit) and not _is_by_statement(error):
        raise error
    return contained(error)


def is_of(error: object, kind: type[T]) -> TypeGuard[T]:
    """Is that the error's real class? `isinstance` asks the object's `__class__` too, which may lie."""
    return issubclass(type(error), kind)


def is_from_library(error: BaseException) -> bool:
    """Was it raised by a line of this library or of its storage, or by none at all, and not by user code?"""
    caller, file = "", ""
    for step in _steps(error):
        file = step.tb_frame.f_code.co_filename
        if file.startswith(_PACKAGE):
            caller = file
    # These parts call user code; the others call nothing that may come from elsewhere but a storage.
    return file == caller or not caller.startswith(_CALL_USER_CODE)


def is_from_signal(error: BaseException) -> bool:
    """Did a signal handler raise it, and does it end programs (it is no `Exception`)?

    A signal is handled in the main thread between two instructions, so the handler's frame is in the
    traceback. The interpreter's own handler of SIGINT has no frame: what it raised stands at an instruction
    that raises nothing by itself.
    """
    if is_of(error, Exception) or threading.current_thread() is not threading.main_thread():
        return False
    if is_of(error, BaseExceptionGroup):
        return any(map(is_from_signal, _leaves(error)))
    if is_of(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        return not _is_by_statement(error)
    codes = set(_handler_codes())
    return any(here.tb_frame.f_code in codes for here in _steps(error))


def name_of(error: BaseException) -> str:
    """The name of the error's class."""
    return str.__str__(_class_name(type(error)))


def text_of(value: object) -> str:
    """`str(value)`, or what became of asking for it; of bounded length."""
    return _asked(str, value, "__str__")


def repr_of(value: object) -> str:
    """`repr(value)`, or what became of asking for it; of bounded length."""
    return _asked(repr, value, "__repr__")


def _asked(ask: Callable[[Any], str], value: object, method: str) -> str:
    try:
        text = str.__str__(ask(value))
    except BaseException as broken:
        return f"(no text: `{method}` raised `{name_of(contained(broken))}`)"
    return text if len(text) <= _TEXT_LENGTH_MAX else f"{text[:_TEXT_LENGTH_MAX]} (truncated)"


def _steps(error: BaseException) -> Iterator[TracebackType]:
    here = traceback_of(error)
    while here is not None:
        yield here
        here = here.tb_next


def _innermost(error: BaseException) -> TracebackType | None:
    last = None
    for step in _steps(error):
        last = step
    return last


def _is_by_statement(error: BaseException) -> bool:
    """Does it stand at a `raise`?"""
    last = _innermost(error)
    if last is None:
        return False
    operation = dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]]
    return operation in ("RAISE_VARARGS", "RERAISE")


def _leaves(group: BaseException) -> Iterator[BaseException]:
    waiting = [group]
    while waiting:
        error = waiting.pop()
        if is_of(error, BaseExceptionGroup):
            waiting += _members_of(error)
        else:
            yield error


def _handler_codes() -> Iterator[CodeType]:
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while isinstance(handler, functools.partial | MethodType):
            handler = handler.func if isinstance(handler, functools.partial) else handler.__func__
        if not isinstance(handler, FunctionType):
            # An object that can be called.
            handler = getattr(cast("type[Any]", type(handler)), "__call__", None)  # noqa: B004
        if isinstance(handler, FunctionType):
            yield handler.__code__


def say(text: str) -> None:
    """Write a line to standard error where logging itself has failed."""
    stream = sys.__stderr__
    if stream is not None:
        stream.write(f"{text}\n")
