"""Does the server keep up with what it is asked?

Everything runs on one loop, so how long one turn of it takes is how long everybody waits. Turns are timed
while requests come in, and only then. One slow turn is a slow function; when all turns have been slow for
`limits.overload_patience_s`, the server is overloaded: from then on each turn admits work for
`limits.turn_s_max` and refuses the rest of that turn by name, until a turn takes half of that. So those
who are admitted wait no longer than now, whatever the others ask.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from ..errors import LimitExceededError
from ..limits import Limits


class Load:
    """Times the turns of one loop."""

    def __init__(
        self,
        limits: Limits,
        call_soon: Callable[[Callable[[], None]], object],
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._turn_s_max = limits.turn_s_max
        self._patience_s = limits.overload_patience_s
        self._call_soon = call_soon
        self._now_s = now_s
        self.refusals: Counter[str] = Counter()
        # When the turn that is being timed began; None between turns.
        self._began_s: float | None = None
        self._ended_s = 0.0
        # Since when no turn has been quick.
        self._slow_since_s: float | None = None
        self._is_overloaded = False

    def admit(self) -> None:
        """Something is asked for now.

        Raises:
            LimitExceededError: `TooManyConcurrentRequests`, in an overloaded server's full turn.
        """
        now_s = self._now_s()
        if self._began_s is None:
            if now_s - self._ended_s > self._turn_s_max:
                # Nothing was asked for a while: whatever was slow before is over.
                self._slow_since_s, self._is_overloaded = None, False
            self._began_s = now_s
            self._call_soon(self._turned)
        elif self._is_overloaded and now_s - self._began_s > self._turn_s_max:
            self.refusals["turn_s_max"] += 1
            raise LimitExceededError(
                f"the server is overloaded: `turn_s_max` is {self._turn_s_max:g} s - try again later",
                code="TooManyConcurrentRequests",
                limit="turn_s_max",
                maximum=self._turn_s_max,
                asked=now_s - self._began_s,
            )

    def _turned(self) -> None:
        assert self._began_s is not None
        began_s, self._began_s = self._began_s, None
        self._ended_s = self._now_s()
        taken_s = self._ended_s - began_s
        if taken_s <= self._turn_s_max / 2:
            self._slow_since_s, self._is_overloaded = None, False
        elif taken_s > self._turn_s_max:
            if self._slow_since_s is None:
                self._slow_since_s = began_s
            self._is_overloaded |= self._ended_s - self._slow_since_s >= self._patience_s
