"""Who waits, and who is cut off, when too many bytes wait for slow peers?

What was sent to a peer that takes nothing cannot be refused any more; it can only be taken back with the
connection. So a large update is promised its room before it is made: where there is none, it waits, and its
client is told the newest state later. Answers have to be given, so a share may still be over its bound for a
moment. If after `limits.relief_s` something is over, or somebody still waits for room, those that have been
slow for the longest are cut off, among those that draw on the same share, until there is room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from ..log import Log
from .admission import Caller, Resource, limit_name

# How often it is looked after buffers that are neither empty nor full.
_LOOK_S = 0.25

_logger = Log("reactivedb.server")


class CallLater(Protocol):
    def __call__(self, delay_s: float, work: Callable[[], None], /) -> object: ...


class Relief:
    """The slow peers of one server, longest first, and those whose updates wait for room."""

    def __init__(self, relief_s: float, refusals: Counter[str], *, call_later: CallLater) -> None:
        self._relief_s = relief_s
        self._refusals = refusals
        self._call_later = call_later
        self._slow: dict[Unsent, None] = {}
        # The size of each update that waits for room, and what to call when there is some.
        self._waiting: dict[Caller, tuple[int, Callable[[], None]]] = {}
        self._looked_after: dict[Unsent, Callable[[], None]] = {}
        self._is_due = False
        self._is_waking = False

    def unsent(self, caller: Caller, cut_off: Callable[[], None]) -> Unsent:
        return Unsent(self, caller, cut_off)

    # Room for updates

    def promise(self, caller: Caller, size_bytes: int, retry: Callable[[], None]) -> bool:
        """Hold the bytes of an update until they are `sent`; False: `retry` is called once there is room."""
        self._waiting.pop(caller, None)
        if caller.has_room(size_bytes):
            caller.hold_bytes(size_bytes)
            return True
        self._waiting[caller] = size_bytes, retry
        self._make_due()
        return False

    def sent(self, caller: Caller, size_bytes: int) -> None:
        """The update is on its way, or will not be sent: it is not held by itself any more."""
        caller.hold_bytes(-size_bytes)
        self.freed()

    def forget(self, caller: Caller) -> None:
        """It waits no longer."""
        self._waiting.pop(caller, None)

    def freed(self) -> None:
        """There may be room for those who wait; they are asked in the next turn of the loop."""
        if self._waiting and not self._is_waking:
            self._is_waking = True
            self._call_later(0, self._wake)

    def _wake(self) -> None:
        self._is_waking = False
        for caller, (size_bytes, retry) in list(self._waiting.items()):
            if caller.has_room(size_bytes):
                del self._waiting[caller]
                retry()

    # Slow peers

    def put(self, unsent: Unsent) -> None:
        self._slow.setdefault(unsent)
        if unsent.caller.too_large is not None:
            self._make_due()

    def drop(self, unsent: Unsent) -> None:
        self._slow.pop(unsent, None)

    def look_after(self, unsent: Unsent, count: Callable[[], None]) -> None:
        """Call `count` in a moment: what was written is not taken yet, and nothing will tell when it is."""
        if not self._looked_after:
            self._call_later(_LOOK_S, self._look)
        self._looked_after[unsent] = count

    def _look(self) -> None:
        counts, self._looked_after = self._looked_after, {}
        for count in counts.values():
            count()

    def _make_due(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._call_later(self._relief_s, self._relieve)

    def _relieve(self) -> None:
        self._is_due = False
        for unsent in list(self._slow):
            limit = unsent.caller.too_large
            if limit is not None:
                self._cut_off(unsent, limit)
        self._make_room()
        if self._waiting:
            self._make_due()
            self.freed()

    def _make_room(self) -> None:
        """For all that wait, one after the other; what they need is held while it is made."""
        made: list[tuple[Caller, int]] = []
        for caller, (size_bytes, _) in self._waiting.items():
            while (share := caller.share_without_room(size_bytes)) is not None:
                slow = next((unsent for unsent in self._slow if unsent.caller.draws_on(share)), None)
                if slow is None:
                    break
                self._cut_off(slow, limit_name(share.scope, Resource.BYTES))
            else:
                caller.hold_bytes(size_bytes)
                made.append((caller, size_bytes))
        for caller, size_bytes in made:
            caller.hold_bytes(-size_bytes)

    def _cut_off(self, unsent: Unsent, limit: str) -> None:
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

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def is_now(self, size_bytes: int) -> None:
        before_bytes, self._size_bytes = self._size_bytes, size_bytes
        self.caller.hold_bytes(size_bytes - before_bytes)
        if size_bytes:
            self._relief.put(self)
        else:
            self._relief.drop(self)
        if size_bytes < before_bytes:
            self._relief.freed()

    def look_again(self, count: Callable[[], None]) -> None:
        self._relief.look_after(self, count)
