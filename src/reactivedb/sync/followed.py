"""What does one connection follow, and what has it not been told of that?

Beside live queries there are those that cannot be followed at all: their failure is told once, and they take
their ids until they are removed. All of it is bounded: a query is held against the shares of its caller, and
what cannot be followed, or was removed and not told, by multiples of the limit for one client.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..app import Caller, Resource, Runtime, args_of
from ..errors import LimitExceededError, ProtocolError, RequestError
from ..functions import Identity, describe
from ..subscriptions import QueryChange, Result
from .messages import Add, Remove

# How many times the limit on queries a client may remove without taking what it is told of it.
_UNTOLD_FACTOR_MAX = 4
# Over these it is the connection that is closed: its client comes back later, and follows all of it again.
_TRY_AGAIN = ("TooManyConcurrentRequests", "SubscriptionsWorkerFullError")


@dataclass(frozen=True, slots=True)
class News:
    """What the client does not know yet."""

    changes: list[QueryChange]
    removed: list[int]


class Followed:
    """The queries of one connection."""

    def __init__(self, runtime: Runtime, caller: Caller, *, on_change: Callable[[], None]) -> None:
        self._runtime = runtime
        self._caller = caller
        self._query_set = runtime.query_set(on_change)
        # Of each query that is followed, the texts that the client gave for it.
        self._sizes_bytes: dict[int, int] = {}
        self._removed: list[int] = []
        # The failures of queries that cannot be followed, and which of them are to be told.
        self._failures: dict[int, QueryChange] = {}
        self._untold: dict[int, QueryChange] = {}

    def add(self, change: Add, identity: Identity, *, request_id: str) -> None:
        """Follow a query, or have told why not.

        Raises:
            ProtocolError: its id is taken.
            LimitExceededError: the connection is to be closed.
        """
        if change.query_id in self._query_set or change.query_id in self._failures:
            raise ProtocolError(f"query {change.query_id} is followed already", code="DuplicateQueryId")
        try:
            self._follow(change, identity)
        except RequestError as error:
            if error.code in _TRY_AGAIN:
                raise
            if len(self._failures) >= self._runtime.limits.queries_per_client_max:
                raise self._too_many("more queries fail than may be followed") from None
            failure = describe(error, request_id=request_id, production=self._runtime.production)
            told = QueryChange(change.query_id, Result(None, failure, ()))
            self._failures[change.query_id] = self._untold[change.query_id] = told

    def _follow(self, change: Add, identity: Identity) -> None:
        """Raises: RequestError; the query is not followed then."""
        args = args_of(change.args, self._runtime.limits)
        journal = change.journal
        if journal is not None and len(journal) > self._runtime.limits.journal_length_max:
            journal = None
        live = self._query_set.add(change.query_id, change.path, args, identity, journal=journal)
        size_bytes = live.args_size_bytes + len(journal or "")
        try:
            self._caller.take(Resource.QUERIES, size_bytes=size_bytes)
        except LimitExceededError:
            self._query_set.remove(change.query_id)
            raise
        self._sizes_bytes[change.query_id] = size_bytes

    def remove(self, change: Remove) -> None:
        """Follow it no longer.

        Raises:
            ProtocolError: it is not followed.
            LimitExceededError: the connection is to be closed.
        """
        if self._failures.pop(change.query_id, None) is not None:
            self._untold.pop(change.query_id, None)
        elif change.query_id in self._query_set:
            self._query_set.remove(change.query_id)
            size_bytes = self._sizes_bytes.pop(change.query_id)
            self._caller.give_back(Resource.QUERIES, size_bytes=size_bytes)
        else:
            raise ProtocolError(f"query {change.query_id} is not followed", code="UnknownQueryId")
        self._removed.append(change.query_id)
        # They wait for a peer that takes nothing; one that does take is told of them in every turn.
        if len(self._removed) > _UNTOLD_FACTOR_MAX * self._runtime.limits.queries_per_client_max:
            raise self._too_many("more queries were removed than it has been told of")

    def _too_many(self, why: str) -> LimitExceededError:
        return self._runtime.admission.over("queries_per_client_max", why)

    def identify(self, identity: Identity) -> None:
        """Everything is asked by somebody else now."""
        with self._runtime.engine.lock:
            self._query_set.identify(identity)

    @property
    def is_current(self) -> bool:
        """All of it is true at one moment."""
        return self._query_set.is_current

    def news_size_bytes(self, size_of: Callable[[bytes], int] = len) -> int:
        """About how long what is to be told is."""
        return self._query_set.changes_size_bytes(size_of)

    def take_news(self) -> News:
        """What is to be told; call it when all `is_current`."""
        untold, self._untold = self._untold, {}
        removed, self._removed = self._removed, []
        return News([*self._query_set.take_changes(), *untold.values()], removed)

    def take_back(self, news: News) -> None:
        """It never reached the client."""
        self._removed = news.removed + self._removed
        failures = {change.query_id: change for change in news.changes}
        self._untold |= {id: failures[id] for id in failures if self._failures.get(id) is failures[id]}
        self._query_set.forget_sent()

    def clear(self) -> None:
        """The connection has ended."""
        size_bytes = sum(self._sizes_bytes.values())
        self._caller.give_back(Resource.QUERIES, len(self._query_set), size_bytes=size_bytes)
        self._sizes_bytes.clear()
        with self._runtime.engine.lock:
            self._query_set.clear()
