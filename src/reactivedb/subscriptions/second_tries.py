"""When is a live query run again that was stopped for its time?

It becomes right without a change of what it has read: the machine was busy. So it is run again after a delay
that grows fourfold, a few times, for each run may hold up everybody. A run that ends begins the count anew.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Final, Generic, TypeVar

from ..errors import LimitExceededError
from ..limits import Limits
from ..user_code import is_of

Item = TypeVar("Item", bound=Hashable)

_GROWTH: Final = 4


class SecondTries(Generic[Item]):
    """What was stopped for its time. The engine's lock guards it."""

    def __init__(self, limits: Limits, elapsed_ns: Callable[[], int]) -> None:
        self._limits = limits
        self._elapsed_ns = elapsed_ns
        # How often it was stopped, and when it is due; None: not before something changes that it read.
        self._stopped: dict[Item, tuple[int, int | None]] = {}
        # Called, from any thread, when something is due that was not before.
        self.on_due: Callable[[], None] | None = None

    def __contains__(self, item: Item) -> bool:
        return item in self._stopped

    def __iter__(self) -> Iterator[Item]:
        return iter(self._stopped)

    def ran(self, item: Item, error: BaseException | None) -> None:
        """It has run, and this came of it."""
        if not (is_of(error, LimitExceededError) and error.code == "FunctionTimeout"):
            self._stopped.pop(item, None)
            return
        count = self._stopped.get(item, (0, None))[0] + 1
        if count > self._limits.live_query_retry_count_max:
            self._stopped[item] = count, None
            return
        delay_s = self._limits.live_query_retry_delay_s * _GROWTH ** (count - 1)
        self._stopped[item] = count, self._elapsed_ns() + int(delay_s * 1e9)
        if self.on_due is not None:
            self.on_due()

    def forget(self, item: Item) -> None:
        self._stopped.pop(item, None)

    @property
    def next_ns(self) -> int | None:
        """When the first one is due, by what passes."""
        return min((due_ns for _, due_ns in self._stopped.values() if due_ns is not None), default=None)

    def take_due(self) -> list[Item]:
        """Those that are due now; each is given once."""
        elapsed_ns = self._elapsed_ns()
        due = [
            item for item, (_, at_ns) in self._stopped.items() if at_ns is not None and at_ns <= elapsed_ns
        ]
        for item in due:
            self._stopped[item] = self._stopped[item][0], None
        return due
