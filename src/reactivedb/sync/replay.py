"""What will a client that comes back say again, before it is told anything?

A connection may end between a commit and its answer. The client says such mutations again, at once behind
`Connect`, and goes on showing what it put in their place until they are answered; a transition ahead of the
answers would show both side by side (section b.5, rule 9). They are known: their commits lie above the
greatest timestamp that the client has observed. So the first transition waits for them, but not for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable


class Replay:
    """The requests that one connection is waiting for. `release` is called when it does so no longer."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release
        self._awaited: set[int] = set()
        self._deadline: asyncio.TimerHandle | None = None

    def expect(self, requests: Iterable[int], loop: asyncio.AbstractEventLoop, *, timeout_s: float) -> None:
        self._awaited = set(requests)
        if self._awaited:
            self._deadline = loop.call_later(timeout_s, self._give_up)

    @property
    def is_awaited(self) -> bool:
        return bool(self._awaited)

    def answered(self, request_id: int) -> None:
        if request_id in self._awaited:
            self._awaited.discard(request_id)
            if not self._awaited:
                self.close()
                self._release()

    def _give_up(self) -> None:
        # Not every client repeats itself; what it follows is told to it all the same.
        self.close()
        self._release()

    def close(self) -> None:
        self._awaited.clear()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
