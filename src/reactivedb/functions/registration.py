"""How does an ordinary function become a query, a mutation or an action?

The decorators keep the signature and return a `RegisteredFunction`, which is a reference: it is passed to
`db.query`, `ctx.run_query` or the scheduler, and calling it directly is an error. Nothing is collected
here; `App(*modules)` does that.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar, overload

from ..errors import ReactiveDBError, SchemaError

if TYPE_CHECKING:
    from .context import ActionCtx, MutationCtx, QueryCtx
    from .retry import Retry

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Kind(Enum):
    """What a function may do."""

    QUERY = "query"
    MUTATION = "mutation"
    ACTION = "action"


class RegisteredFunction(Generic[P, R_co]):
    """A reference to a function of the application."""

    kind: Kind

    def __init__(self, handler: Callable[..., Any], *, internal: bool) -> None:
        _check_handler(handler, self.kind)
        self.handler = handler
        self.internal = internal
        self.__name__: str = handler.__name__
        functools.update_wrapper(self, handler)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        name = getattr(self.handler, "__name__", "function")
        raise ReactiveDBError(
            f"`{name}` is a registered {self.kind.value}, which the database runs - call it as "
            f"`ctx.run_{self.kind.value}({name}, ...)` inside a function "
            f"or `db.{self.kind.value}({name}, ...)` outside of one",
            code="DirectCall",
            function=name,
        )

    def __repr__(self) -> str:
        visibility = "internal " if self.internal else ""
        return f"<{visibility}{self.kind.value} {self.handler.__module__}.{self.handler.__qualname__}>"


class RegisteredQuery(RegisteredFunction[P, R_co]):
    """Reads; its result stays true by itself."""

    kind = Kind.QUERY


class RegisteredMutation(RegisteredFunction[P, R_co]):
    """Reads and writes in one transaction."""

    kind = Kind.MUTATION


class RegisteredAction(RegisteredFunction[P, R_co]):
    """May wait for the outside world; touches data through queries and mutations."""

    kind = Kind.ACTION
    # How a job of it is tried again; None: it runs at most once.
    retry: Retry | None = None
    # It runs in a thread of its own, where it may block.
    thread: bool = False


def _check_handler(handler: Callable[..., Any], kind: Kind) -> None:
    """Raises: SchemaError, with what to write instead."""
    name = getattr(handler, "__name__", repr(handler))
    is_async = inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler)
    if kind is Kind.ACTION and not inspect.iscoroutinefunction(handler):
        raise SchemaError(
            f"action `{name}` must be `async def` - it waits for the outside world", code="ActionNotAsync"
        )
    if kind is not Kind.ACTION and is_async:
        raise SchemaError(
            f"{kind.value} `{name}` is `async def`, but a transaction has nothing to wait for - write `def`, "
            "and do network calls in an action",
            code="TransactionAsync",
        )
    if kind is not Kind.ACTION and inspect.isgeneratorfunction(handler):
        raise SchemaError(
            f"{kind.value} `{name}` is a generator, which would run after its transaction - return a list",
            code="TransactionGenerator",
        )
    if not inspect.signature(handler).parameters:
        raise SchemaError(
            f"{kind.value} `{name}` takes no parameter - its first one is `ctx`", code="NoContextParameter"
        )


def query(handler: Callable[Concatenate[QueryCtx, P], R], /) -> RegisteredQuery[P, R]:
    """Make a function that only reads; anybody may call it."""
    return RegisteredQuery(handler, internal=False)


def mutation(handler: Callable[Concatenate[MutationCtx, P], R], /) -> RegisteredMutation[P, R]:
    """Make a function that reads and writes in one transaction; anybody may call it."""
    return RegisteredMutation(handler, internal=False)


@overload
def action(handler: Callable[Concatenate[ActionCtx, P], Awaitable[R]], /) -> RegisteredAction[P, R]: ...
@overload
def action(
    *, thread: bool
) -> Callable[[Callable[Concatenate[ActionCtx, P], Awaitable[R]]], RegisteredAction[P, R]]: ...
def action(handler: Any = None, /, *, thread: bool = False) -> Any:
    """Make a coroutine that may wait for the outside world; anybody may call it.

    With `thread=True` it runs in a thread of its own and may block; it stays `async def`.
    """
    return _register_action(handler, internal=False, retry=None, thread=thread)


def internal_query(handler: Callable[Concatenate[QueryCtx, P], R], /) -> RegisteredQuery[P, R]:
    """Like `query`, for other functions and administrators only."""
    return RegisteredQuery(handler, internal=True)


def internal_mutation(handler: Callable[Concatenate[MutationCtx, P], R], /) -> RegisteredMutation[P, R]:
    """Like `mutation`, for other functions and administrators only."""
    return RegisteredMutation(handler, internal=True)


@overload
def internal_action(
    handler: Callable[Concatenate[ActionCtx, P], Awaitable[R]], /
) -> RegisteredAction[P, R]: ...
@overload
def internal_action(
    *, retry: Retry | None = None, thread: bool = False
) -> Callable[[Callable[Concatenate[ActionCtx, P], Awaitable[R]]], RegisteredAction[P, R]]: ...
def internal_action(handler: Any = None, /, *, retry: Retry | None = None, thread: bool = False) -> Any:
    """Like `action`, for other functions and administrators only. With `retry`, its jobs are tried again."""
    return _register_action(handler, internal=True, retry=retry, thread=thread)


def _register_action(handler: Any, *, internal: bool, retry: Retry | None, thread: bool) -> Any:
    def register(handler: Any) -> RegisteredAction[..., Any]:
        registered: RegisteredAction[..., Any] = RegisteredAction(handler, internal=internal)
        registered.retry = retry
        registered.thread = thread
        return registered

    return register if handler is None else register(handler)
