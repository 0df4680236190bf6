"""Who goes on with long work in this turn of the loop?

Work that takes longer than a turn (reading large messages) comes as steps. Of all of it together, one slice
is done in a turn; then sockets and timers are looked at. It is the work of the caller who has used the least
time lately, so one with much of it waits while others are served. Time is counted for the connection, its
user and its address, and half of it is forgotten each second; the greatest of the three counts.

A step cannot be cut. After one that was long, nothing is done for a multiple of its time, if somebody else
was served lately: so however many send what takes long, the loop is there for the others. `pause_s` says how
long a connection waits that has made the loop do much outside of here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from itertools import islice
from typing import Any, Protocol

import anyio

from ..limits import MIB
from .admission import Caller

# Of all that is long, this much in one turn: some ten small mutations wait for it.
SLICE_S = 0.001
# What is longer than that was not to be cut, and is followed by a rest: such steps are few, so that others
# meet one now and then and not each time.
_LONG_S = 0.004
_REST_FACTOR = 40
# A connection whose message took long (its function, for instance) waits this multiple of it.
_PAUSE_FACTOR = 3
_REST_S_MAX = 3.0
# Of one connection, in large messages: taking 15 MB in costs 5 to 10 ms that cannot be cut.
_LARGE_BYTES_PER_S = 16 * MIB
# Who was served within this time is waited for.
_LATELY_S = 0.1
# Of so many callers, those that have waited longest, the one is looked for that has used the least.
_ASKED_MAX = 64


class Loop(Protocol):
    """Of an event loop."""

    def call_soon(self, callback: Callable[[], None], /) -> object: ...

    def call_later(self, delay_s: float, callback: Callable[[], None], /) -> object: ...


class Work:
    """Steps that are under way."""

    __slots__ = ("_steps", "_then", "caller", "is_done")

    def __init__(
        self, caller: Caller, steps: Generator[None, None, Any], done: Callable[[Any], None]
    ) -> None:
        self.caller = caller
        self._steps = steps
        self._then: list[Callable[[Any], None]] = [done]
        self.is_done = False

    def then(self, callback: Callable[[], None]) -> None:
        """Call it at the end, or at once if that has come."""
        if self.is_done:
            callback()
        else:
            self._then.append(lambda _result: callback())

    def step(self) -> None:
        """One more; what the last one raises is for the steps themselves to catch."""
        if self.is_done:
            return
        try:
            next(self._steps)
        except StopIteration as end:
            self._end(end.value)

    def cancel(self) -> None:
        """Do nothing more of it: it has ended, with None."""
        if not self.is_done:
            self._steps.close()
            self._end(None)

    def _end(self, result: object) -> None:
        self.is_done = True
        for callback in self._then:
            callback(result)


class Turns:
    """All long work of one server. Everything happens on its loop."""

    def __init__(
        self,
        loop: Callable[[], Loop],
        *,
        now_s: Callable[[], float] = time.monotonic,
        used_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._loop = loop
        self._now_s = now_s
        # Of this thread: what other processes take of the machine is not the caller's doing.
        self._used_s = used_s
        # By whose it is; in order for each of them.
        self._lanes: dict[Caller, deque[Work]] = {}
        self._is_due = False
        # The last two callers that were served, and when the one before the last was.
        self._last: object = None
        self._last_s = self._other_s = float("-inf")

    def served(self, caller: object) -> None:
        """Somebody has asked for something, and has it."""
        now_s = self._now_s()
        if caller is not self._last:
            self._other_s, self._last = self._last_s, caller
        self._last_s = now_s

    def _is_alone(self, caller: object) -> bool:
        other_s = self._other_s if self._last is caller else self._last_s
        return self._now_s() - other_s > _LATELY_S

    def pause_s(self, caller: object, used_s: float, *, size_bytes: int = 0) -> float:
        """How long a connection is not read after its messages have taken so long at a stretch.

        `size_bytes` are those of large messages among them.
        """
        if self._is_alone(caller):
            return 0.0
        return min(max(_PAUSE_FACTOR * used_s, size_bytes / _LARGE_BYTES_PER_S), _REST_S_MAX)

    def _rest_s(self, caller: object, used_s: float) -> float:
        if used_s <= _LONG_S or self._is_alone(caller):
            return 0.0
        return min(_REST_FACTOR * used_s, _REST_S_MAX)

    def start(self, caller: Caller, steps: Generator[None, None, Any], done: Callable[[Any], None]) -> Work:
        """Do these steps in turns to come; `done` is given what they return. They must not raise."""
        work = Work(caller, steps, done)
        self._lanes.setdefault(caller, deque()).append(work)
        self._go_on_in(0.0)
        return work

    async def run(self, caller: Caller, steps: Generator[None, None, Any]) -> Any:
        """As `start`, for a task; what the steps raise is raised here.

        The first step is done at once, so what has no more of them takes no turn.
        """
        try:
            next(steps)
        except StopIteration as end:
            return end.value
        ended = anyio.Event()
        outcome: list[Any] = []
        failure: list[Exception] = []

        def caught() -> Generator[None, None, Any]:
            try:
                return (yield from steps)
            except Exception as error:
                failure.append(error)

        def done(result: Any) -> None:
            outcome.append(result)
            ended.set()

        self.start(caller, caught(), done)
        await ended.wait()
        if failure:
            raise failure[0]
        return outcome[0]

    def _go_on_in(self, delay_s: float) -> None:
        if self._is_due or not self._lanes:
            return
        self._is_due = True
        if delay_s:
            self._loop().call_later(delay_s, self._turn)
        else:
            self._loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_due = False
        now_s, began_s = self._now_s(), self._used_s()
        caller = min(islice(self._lanes, _ASKED_MAX), key=lambda caller: caller.used_s(now_s))
        # Behind the others, for not all of many are asked.
        lane = self._lanes[caller] = self._lanes.pop(caller)
        try:
            while True:
                work = lane[0]
                work.step()
                if work.is_done:
                    lane.popleft()
                if not lane or self._used_s() - began_s >= SLICE_S:
                    break
        finally:
            if not lane:
                del self._lanes[caller]
            used_s = self._used_s() - began_s
            caller.use(used_s, now_s)
            self._go_on_in(self._rest_s(caller, used_s))

    @property
    def is_idle(self) -> bool:
        return not self._lanes
