"""What does a function get as `ctx`?

`QueryCtx` and `MutationCtx` stand over one transaction; `ActionCtx` stands over none and reaches data by
running queries and mutations. Contexts are made per run and are useless after it.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, Protocol, TypeVar

from ..limits import active_limits
from .environment import Environment, stored_value
from .file_storage import AsyncFiles, FileReader, FileWriter, Transfers
from .identity import Identity, UserIdentity
from .lease import Lease, current, holding
from .registration import Kind, RegisteredAction, RegisteredFunction, RegisteredMutation, RegisteredQuery
from .scheduler import check_scheduled_count, epoch_ms_of, seconds_of

if TYPE_CHECKING:
    from ..engine import Transaction
    from .db import DatabaseReader, DatabaseWriter
    from .runner import Run
    from .scheduler import Scheduler

P = ParamSpec("P")
R = TypeVar("R")

# What people look for on a context that cannot have it, and what to do instead.
_TRANSACTION_LACKS: Final = {
    "run_mutation": "a query only reads - make the function a mutation",
    "scheduler": "a query only reads - make the function a mutation",
    "run_action": "a transaction waits for nothing - let a mutation schedule it, "
    "`ctx.scheduler.run_after(0, ...)`",
}
_ACTION_LACKS: Final = {
    "db": "an action is no transaction - write a query or a mutation, and `await ctx.run_query(...)`"
    " or `ctx.run_mutation(...)`",
}


def _lacks(ctx: object, name: str, reasons: dict[str, str]) -> NoReturn:
    because = f", because {reasons[name]}" if name in reasons else ""
    raise AttributeError(f"`{type(ctx).__name__}` has no `{name}`{because}", name=name, obj=ctx)


class Auth:
    """`ctx.auth`: looking at the caller makes a cached result that caller's own."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def get_user_identity(self) -> UserIdentity | None:
        """The user who calls, or None for an anonymous caller."""
        self._run.saw_identity = True
        return self._run.identity.user


class QueryCtx:
    """The context of a query."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def db(self) -> DatabaseReader:
        return self._run.reader

    @property
    def auth(self) -> Auth:
        return Auth(self._run)

    @property
    def env(self) -> Environment:
        """The deployment's environment variables; a query that reads one follows its changes."""
        run = self._run
        return Environment(run.runner, lambda name: stored_value(run.runner.engine, run.transaction, name))

    @property
    def now_ms(self) -> float:
        """Milliseconds since the epoch when this run began; does not move while it runs."""
        return self._transaction.now_ms

    @property
    def random(self) -> random.Random:
        """Random numbers that the same seed repeats; never the `random` module's own."""
        return self._transaction.random

    @property
    def _transaction(self) -> Transaction:
        return self._run.transaction

    @property
    def storage(self) -> FileReader:
        """The files; a query that asks for one's URL follows its deletion."""
        return FileReader(self._run)

    def run_query(self, function: RegisteredQuery[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run another query inside this transaction."""
        return self._run.nested(function, Kind.QUERY, *args, **kwargs)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            _lacks(self, name, _TRANSACTION_LACKS)


class MutationCtx(QueryCtx):
    """The context of a mutation."""

    @property
    def db(self) -> DatabaseWriter:
        return self._run.writer

    @property
    def scheduler(self) -> Scheduler:
        return self._run.scheduler

    @property
    def storage(self) -> FileWriter:
        """The files: URLs to them and for new ones, and their deletion."""
        return FileWriter(self._run)

    def run_mutation(self, function: RegisteredMutation[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run another mutation as a sub-transaction: if it raises, its writes alone are undone."""
        return self._run.nested(function, Kind.MUTATION, *args, **kwargs)


class ActionHost(Protocol):
    """What an action's context needs from the running database."""

    def call_from_action(
        self,
        function: RegisteredFunction[..., Any],
        kind: Kind,
        call: tuple[tuple[Any, ...], dict[str, Any]],
        identity: Identity,
    ) -> Awaitable[Any]: ...

    def schedule_from_action(
        self,
        at_ms: float | None,
        delay_s: float,
        function: RegisteredFunction[..., Any],
        call: tuple[tuple[Any, ...], dict[str, Any]],
    ) -> Awaitable[str]: ...

    def cancel_from_action(self, id: str) -> Awaitable[None]: ...

    def now_ms(self) -> float: ...

    def environment(self) -> Environment: ...

    @property
    def files(self) -> Transfers: ...


class AsyncScheduler:
    """`ctx.scheduler` of an action: every call is a commit of its own, and there may be so many of them."""

    def __init__(self, host: ActionHost, held: Lease | None) -> None:
        self._host = host
        self._held = held
        self._scheduled_count = 0

    async def run_after(
        self,
        delay: float | timedelta,
        function: RegisteredMutation[P, Any] | RegisteredAction[P, Any],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> str:
        """Run a function `delay` seconds from now; gives the id of the job."""
        return await self._schedule(None, seconds_of(delay), function, (args, kwargs))

    async def run_at(
        self,
        when: float | datetime,
        function: RegisteredMutation[P, Any] | RegisteredAction[P, Any],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> str:
        """Run a function at a time, in ms since the epoch or as an aware datetime."""
        return await self._schedule(epoch_ms_of(when), 0.0, function, (args, kwargs))

    async def _schedule(
        self,
        at_ms: float | None,
        delay_s: float,
        function: RegisteredFunction[..., Any],
        call: tuple[tuple[Any, ...], dict[str, Any]],
    ) -> str:
        # Before anything is waited for, as an action may schedule several at once.
        check_scheduled_count(self._scheduled_count + 1, active_limits())
        self._scheduled_count += 1
        try:
            with holding(self._held):
                return await self._host.schedule_from_action(at_ms, delay_s, function, call)
        except BaseException:
            self._scheduled_count -= 1
            raise

    async def cancel(self, id: str, /) -> None:
        """Make a pending job never run."""
        with holding(self._held):
            await self._host.cancel_from_action(id)


class ActionCtx:
    """The context of an action."""

    def __init__(self, host: ActionHost, identity: Identity) -> None:
        self._host = host
        self._identity = identity
        # Whoever calls it, from whichever task or thread, writes for this action.
        self._held = current()
        self._scheduler = AsyncScheduler(host, self._held)
        self._random: random.Random | None = None

    @property
    def auth(self) -> ActionAuth:
        return ActionAuth(self._identity)

    @property
    def scheduler(self) -> AsyncScheduler:
        return self._scheduler

    @property
    def env(self) -> Environment:
        """The deployment's environment variables, each as it is when it is asked for."""
        return self._host.environment()

    @property
    def storage(self) -> AsyncFiles:
        """The files, and their bytes."""
        return AsyncFiles(self._host.files, self._held)

    @property
    def now_ms(self) -> float:
        """Milliseconds since the epoch, now."""
        return self._host.now_ms()

    @property
    def random(self) -> random.Random:
        if self._random is None:
            self._random = random.Random()
        return self._random

    async def run_query(self, function: RegisteredQuery[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a query in a transaction of its own; what it returns is durable."""
        return await self._host.call_from_action(function, Kind.QUERY, (args, kwargs), self._identity)

    async def run_mutation(
        self, function: RegisteredMutation[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run a mutation in a transaction of its own; it is durable when this returns."""
        with holding(self._held):
            return await self._host.call_from_action(function, Kind.MUTATION, (args, kwargs), self._identity)

    async def run_action(self, function: RegisteredAction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run another action and wait for it."""
        with holding(self._held):
            return await self._host.call_from_action(function, Kind.ACTION, (args, kwargs), self._identity)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            _lacks(self, name, _ACTION_LACKS)


class ActionAuth:
    """`ctx.auth` of an action."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def get_user_identity(self) -> UserIdentity | None:
        """The user who calls, or None for an anonymous caller."""
        return self._identity.user
