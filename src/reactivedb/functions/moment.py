"""What time is it, and what is random, for code that has no `ctx`?

A default factory is called by pydantic, without a context. `now_ms` and `random` give it those of the
transaction that runs in this thread or task, so that a repeated run makes the same document; where none runs
(an action, a test), there is nothing to repeat and they are the machine's own.
"""

from __future__ import annotations

import time
from contextvars import ContextVar, Token
from random import Random, SystemRandom
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..engine import Transaction

_current: ContextVar[Transaction | None] = ContextVar("reactivedb_moment", default=None)
_machine: Random = SystemRandom()


def enter(transaction: Transaction) -> Token[Transaction | None]:
    """Make it the transaction that is asked in this context, until `leave`."""
    return _current.set(transaction)


def leave(token: Token[Transaction | None]) -> None:
    _current.reset(token)


def now_ms() -> float:
    """Milliseconds since the epoch: the transaction's `ctx.now_ms`, as in
    `created: float = pydantic.Field(default_factory=rdb.now_ms)`."""
    transaction = _current.get()
    if transaction is None:
        return time.time_ns() / 1e6
    if transaction.filtering is not None:
        # Asked again after the run, the predicate would see another time.
        transaction.filtering.unfilter()
    return transaction.now_ms


def random() -> Random:
    """The transaction's `ctx.random`, as in
    `code: int = pydantic.Field(default_factory=lambda: rdb.random().randrange(10_000))`."""
    transaction = _current.get()
    return _machine if transaction is None else transaction.random
