"""Which stale query runs next?

One client may follow thousands of queries, and all of them may be stale at once. Each owner of queries has a
lane, and the lanes take turns: a lane that is short is through in its first turn, a long one goes on after
the others. As a client is told only when all it follows is true at one moment, one whose lane fills again
faster than it runs would never be told anything; so a lane that has not become shorter since its last turn
gets twice the time, up to a bound. Adding, discarding and choosing cost O(1).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

# Some hundred small queries, then as much as others can be made to wait for one client.
_TURN_S = 0.01
_TURN_S_MAX = 0.5

Item = TypeVar("Item", bound=Hashable)


class Lanes(Generic[Item]):
    """What is stale, by whose it is; each item once."""

    def __init__(self, *, now_s: Callable[[], float] = time.perf_counter) -> None:
        self._now_s = now_s
        self._owner_of: dict[Item, Hashable] = {}
        # In order of turns; no lane is empty.
        self._lanes: dict[Hashable, dict[Item, None]] = {}
        # Of the lanes that were not through in their last turn: the time they had, and what was left.
        self._unfinished: dict[Hashable, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._owner_of)

    def __contains__(self, item: Item) -> bool:
        return item in self._owner_of

    def add(self, item: Item, owner: Hashable) -> None:
        if item not in self._owner_of:
            self._owner_of[item] = owner
            self._lanes.setdefault(owner, {})[item] = None

    def discard(self, item: Item) -> None:
        if item not in self._owner_of:
            return
        owner = self._owner_of.pop(item)
        lane = self._lanes[owner]
        del lane[item]
        if not lane:
            del self._lanes[owner]
            self._unfinished.pop(owner, None)

    def run(self, work: Callable[[Item], None], *, budget_s: float = math.inf) -> None:
        """Take items out and work on them, lane after lane, until none is left or no lane may begin.

        The work may add and discard items.
        """
        ends_s = self._now_s() + budget_s
        while self._lanes:
            self._run_lane(next(iter(self._lanes)), work, may_end=budget_s < math.inf)
            if self._now_s() >= ends_s:
                return

    def _run_lane(self, owner: Hashable, work: Callable[[Item], None], *, may_end: bool) -> None:
        turn_s, left = self._unfinished.get(owner, (_TURN_S, math.inf))
        ends_s = self._now_s() + (turn_s if may_end else math.inf)
        while (lane := self._lanes.get(owner)) is not None:
            item = next(iter(lane))
            self.discard(item)
            work(item)
            if owner in self._lanes and self._now_s() >= ends_s:
                lane = self._lanes[owner] = self._lanes.pop(owner)
                longer_s = turn_s if len(lane) < left else min(2 * turn_s, _TURN_S_MAX)
                self._unfinished[owner] = (longer_s, len(lane))
                return

    def check(self) -> None:
        """Assert the invariants that hold between calls."""
        assert all(self._lanes.values())
        assert self._unfinished.keys() <= self._lanes.keys()
        by_lane = {item: owner for owner, lane in self._lanes.items() for item in lane}
        assert by_lane == self._owner_of
