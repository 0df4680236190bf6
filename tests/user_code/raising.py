"""What user code may raise, by name."""

# ruff: noqa: N818 - each says what it does

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import reactivedb as rdb


class Panic(BaseException):
    pass


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class PanicInText(BaseException):
    def __str__(self) -> str:
        raise Panic

    __repr__ = __str__


class NotFound(rdb.ApplicationError):
    def __init__(self, what: str) -> None:
        self.what = what


class PanicInData(rdb.ApplicationError):
    @property
    def data(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        raise Panic

    @data.setter
    def data(self, value: Any) -> None: ...


class BrokenWords(rdb.ValidationError):
    @property
    def wire_text(self) -> str:
        raise Panic


class NoDisk(rdb.StorageError):
    def __init__(self) -> None:
        pass


class Liar(Exception):
    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise Panic


class Pretender(Exception):
    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return rdb.ApplicationError


class Incomparable(Exception):
    def __eq__(self, other: object) -> bool:
        raise Panic

    def __hash__(self) -> int:
        raise Panic

    def __bool__(self) -> bool:
        raise Panic


class Uncopyable(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


class _NamelessType(type):
    @property
    def __name__(cls) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        raise Panic


class Nameless(Exception, metaclass=_NamelessType):
    pass


def _recursion() -> NoReturn:
    _recursion()


def _cycle() -> NoReturn:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    raise one


def _raise(make: Callable[[], BaseException]) -> Callable[[], NoReturn]:
    def throw() -> NoReturn:
        raise make()

    return throw


@dataclass(frozen=True)
class Kind:
    """How it is raised, and what the error text in development says of it."""

    throw: Callable[[], NoReturn]
    told: str


KINDS = {
    "exception": Kind(_raise(lambda: RuntimeError("boom")), "boom"),
    "base exception": Kind(_raise(Panic), "Panic"),
    "system exit": Kind(_raise(lambda: SystemExit(3)), "SystemExit(3)"),
    "keyboard interrupt": Kind(_raise(KeyboardInterrupt), "KeyboardInterrupt"),
    "generator exit": Kind(_raise(GeneratorExit), "GeneratorExit"),
    "cancelled": Kind(_raise(asyncio.CancelledError), "Cancelled"),
    "stop iteration": Kind(_raise(StopIteration), "StopIteration"),
    "stop async iteration": Kind(_raise(StopAsyncIteration), "StopAsyncIteration"),
    "str raises": Kind(_raise(Unprintable), "Unprintable"),
    "str raises a base exception": Kind(_raise(PanicInText), "PanicInText"),
    "no super init": Kind(_raise(lambda: NotFound("ada")), "NotFound"),
    "data raises": Kind(_raise(lambda: PanicInData("ada")), "PanicInData"),
    "wire text raises": Kind(_raise(lambda: BrokenWords("BrokenWords has none")), "BrokenWords"),
    "storage error without super init": Kind(_raise(NoDisk), "NoDisk"),
    "class raises": Kind(_raise(Liar), "Liar"),
    "class lies": Kind(_raise(lambda: Pretender("hm")), "Pretender"),
    "eq and hash raise": Kind(_raise(Incomparable), "Incomparable"),
    "cannot be copied": Kind(_raise(lambda: Uncopyable("a", "b")), "Uncopyable"),
    "class name raises": Kind(_raise(Nameless), "Nameless"),
    "group": Kind(_raise(lambda: BaseExceptionGroup("all", [SystemExit(1), Panic()])), "all"),
    "recursion": Kind(_recursion, "RecursionError"),
    "memory": Kind(_raise(lambda: MemoryError("none left")), "MemoryError"),
    "cycle of causes": Kind(_cycle, "one"),
}


def fail(kind: str) -> NoReturn:
    KINDS[kind].throw()
