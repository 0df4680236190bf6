"""What does one client follow, and what has it not been told yet?

A client's queries always move together to one timestamp: `take_changes` gives everything that differs from
what it was told last, all true at the timestamp of the last `refresh`. What waits for a slow client is
bounded by its newest state, never by a queue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import ref

from ..functions import Identity
from ..limits import KIB
from ..values import Value
from .query_cache import LiveQuery, QueryCache
from .result import Result

_HELD_BY_CLIENTS_BYTES_MAX = 4 * KIB


class HeldQuery:
    """One query of one client."""

    __slots__ = ("_sent", "identity", "live", "owner", "query_id")

    def __init__(self, owner: QuerySet, query_id: int, identity: Identity) -> None:
        self.owner = owner
        self.query_id = query_id
        self.identity = identity
        self.live: LiveQuery | None = None
        # What the client was told last; None before its first result. A client that is slow must not hold
        # large results that have been replaced, so of these it is only known whether they still stand.
        self._sent: Result | ref[Result] | None = None

    def was_told(self, result: Result) -> bool:
        sent = self._sent() if isinstance(self._sent, ref) else self._sent
        return result.same_as(sent)

    def told(self, result: Result | None) -> None:
        is_large = result is not None and result.size_bytes > _HELD_BY_CLIENTS_BYTES_MAX
        self._sent = ref(result) if is_large and result is not None else result

    def changed(self, live: LiveQuery) -> None:
        self.live = live
        self.owner.mark(self)


@dataclass(frozen=True, slots=True)
class QueryChange:
    """A query's new result."""

    query_id: int
    result: Result


class QuerySet:
    """The live queries of one client. The engine's lock guards it."""

    def __init__(
        self, cache: QueryCache, *, on_change: Callable[[], None], keeps_values: bool = False
    ) -> None:
        self._cache = cache
        self._keeps_values = keeps_values
        self._on_change = on_change
        self._held: dict[int, HeldQuery] = {}
        self._changed: dict[HeldQuery, None] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, query_id: int) -> bool:
        return query_id in self._held

    def add(
        self, query_id: int, path: str, args: Value, identity: Identity, *, journal: str | None = None
    ) -> LiveQuery:
        """Follow a query. Its first result comes with the next `take_changes` after a refresh.

        With the journal of an earlier result its pages end where they did then.

        Raises:
            ValidationError: `InvalidFunctionPath`; the query is not followed then.
        """
        held = HeldQuery(self, query_id, identity)
        live = held.live = self._cache.hold(path, args, held, journal=journal, keeps_value=self._keeps_values)
        self._held[query_id] = held
        self.mark(held)
        return live

    def live(self, query_id: int) -> LiveQuery:
        """What stands behind a followed query now; another one may stand there later."""
        live = self._held[query_id].live
        assert live is not None
        return live

    def remove(self, query_id: int) -> bool:
        """Stop following; False if the query was not followed."""
        held = self._held.pop(query_id, None)
        if held is None:
            return False
        self._changed.pop(held, None)
        if held.live is not None:
            self._cache.release(held.live, held)
        return True

    def identify(self, identity: Identity) -> None:
        """Everything this client follows is asked by somebody else now."""
        for held in self._held.values():
            live = held.live
            assert live is not None
            held.identity = identity
            now = held.live = self._cache.hold_as(live, held)
            # Let go afterwards: a result that stays this client's shall not be dropped in between.
            if now is not live:
                self._cache.release(live, held)
            self.mark(held)

    def mark(self, held: HeldQuery) -> None:
        self._changed[held] = None
        self._on_change()

    @property
    def is_current(self) -> bool:
        """All that is followed is true at one moment, that of the last `refresh`."""
        return self._cache.is_fresh or not any(
            held.live is not None and held.live.stale for held in self._held.values()
        )

    def changes_size_bytes(self, size_of: Callable[[bytes], int] = len) -> int:
        """How long the results that `take_changes` would give are."""
        size_bytes = 0
        # A plain loop: this is asked for each client of each commit.
        for held in self._changed:
            live = held.live
            if live is not None and live.result is not None and live.result.json is not None:
                size_bytes += size_of(live.result.json)
        return size_bytes

    def take_changes(self) -> list[QueryChange]:
        """Everything the client does not know yet; call it when all `is_current`."""
        changes: list[QueryChange] = []
        for held in self._changed:
            result = held.live.result if held.live is not None else None
            if result is None or held.was_told(result):
                continue
            held.told(result)
            changes.append(QueryChange(held.query_id, result))
        self._changed.clear()
        return changes

    def forget_sent(self) -> None:
        """What was taken last never reached the client: it knows nothing for certain any more."""
        for held in self._held.values():
            held.told(None)
            self.mark(held)

    def clear(self) -> None:
        """The client is gone."""
        for query_id in list(self._held):
            self.remove(query_id)
