"""Who is cut off when too many bytes wait for slow peers?

What was sent to a peer that takes nothing cannot be refused any more; it can only be taken back with the
connection. A large result that goes to many is gone a moment later, so being over a bound is no fault yet.
If it is still so after `limits.relief_s`, those that have been slow for the longest are cut off, among those
that draw on the share that is over, until nothing is over any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ..log import Log
from .admission import Caller

_logger = Log("reactivedb.server")


class Relief:
    """The slow peers of one server, longest first."""

    def __init__(
        self,
        relief_s: float,
        refusals: Counter[str],
        *,
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._relief_s = relief_s
        self._refusals = refusals
        self._call_later = call_later
        self._slow: dict[Unsent, None] = {}
        self._is_due = False

    def unsent(self, caller: Caller, cut_off: Callable[[], None]) -> Unsent:
        return Unsent(self, caller, cut_off)

    def put(self, unsent: Unsent) -> None:
        self._slow.setdefault(unsent)
        if not self._is_due and unsent.caller.too_large is not None:
            self._is_due = True
            self._call_later(self._relief_s, self._relieve)

    def drop(self, unsent: Unsent) -> None:
        self._slow.pop(unsent, None)

    def _relieve(self) -> None:
        self._is_due = False
        for unsent in list(self._slow):
            limit = unsent.caller.too_large
            if limit is not None:
                self._refusals[limit] += 1
                _logger.warning("a client that takes too little was cut off: `%s` is passed", limit)
                unsent.cut_off()
                unsent.is_now(0)


class Unsent:
    """What was sent to one peer and not taken, as far as it is counted."""

    __slots__ = ("_relief", "_size_bytes", "caller", "cut_off")

    def __init__(self, relief: Relief, caller: Caller, cut_off: Callable[[], None]) -> None:
        self._relief = relief
        self.caller = caller
        self.cut_off = cut_off
        self._size_bytes = 0

    def is_now(self, size_bytes: int) -> None:
        self.caller.hold_bytes(size_bytes - self._size_bytes)
        self._size_bytes = size_bytes
        if size_bytes:
            self._relief.put(self)
        else:
            self._relief.drop(self)
