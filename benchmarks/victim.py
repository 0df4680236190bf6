"""A client beside an attack: how long does each of its round trips take?

It runs in a process of its own, and does the same all the while: a small mutation, until its answer and the
new result of the live query that it changes are here, then a short pause. It waits for one before it sends
the next, so a server that stands still shows in the longest round trip.
"""

from __future__ import annotations

import json
import math
import time
from multiprocessing.context import SpawnContext
from multiprocessing.synchronize import Event
from typing import Any

from .peer import SyncPeer

# Another address than the attackers' (TEST-NET-2), as the server's proxy would say it.
HEADERS = "X-Forwarded-For: 198.51.100.4\r\n"
_PAUSE_S = 0.001
_CAPACITY = 500_000


class RoundTrips:
    """When each round trip began and ended, by the machine's monotonic clock.

    The victim writes and the benchmark reads, through memory that both share. An end of `math.inf` says that
    the server refused it, or cut the victim off.
    """

    def __init__(self, context: SpawnContext) -> None:
        self._began_s = context.RawArray("d", _CAPACITY)
        self._ended_s = context.RawArray("d", _CAPACITY)
        # Those that have begun; the last one may be under way: its end is 0.
        self._count = context.RawValue("q", 0)

    def begin(self) -> None:
        self._began_s[self._count.value] = time.monotonic()
        self._count.value += 1

    def end(self, *, answered: bool) -> None:
        self._ended_s[self._count.value - 1] = time.monotonic() if answered else math.inf

    def between(self, from_s: float, until_s: float, *, wholly: bool = False) -> list[float]:
        """The seconds of each that lies in that time, in part or `wholly`; so far, if it is under way."""
        taken_s: list[float] = []
        now_s = time.monotonic()
        for number in range(self._count.value):
            began_s, ended_s = self._began_s[number], self._ended_s[number] or now_s
            inside = began_s >= from_s and ended_s <= until_s
            if inside if wholly else began_s < until_s and ended_s > from_s:
                taken_s.append(ended_s - began_s)
        return taken_s

    def has_answer_since(self, since_s: float) -> bool:
        """Whether one that began after that moment has been answered."""
        last = self._count.value - 1
        # The last one may be under way.
        return any(
            self._began_s[number] > since_s and 0 < self._ended_s[number] < math.inf
            for number in range(max(0, last - 1), last + 1)
        )


class Victim:
    """One connection that follows a counter."""

    def __init__(self, url: str) -> None:
        self._peer = SyncPeer(url, headers=HEADERS)
        self._counter_id = self._peer.mutate("targets:openCounter", {"name": "victim"})
        self._peer.subscribe("targets:count", {"counterId": self._counter_id})

    def round_trip(self) -> None:
        """Raises: AssertionError or OSError: the server refused it, or closed the connection."""
        self._peer.send_mutation("targets:increase", {"counterId": self._counter_id})
        expected: Any = None
        shown: Any = None
        while expected is None or shown != expected:
            message = json.loads(self._peer.receive())
            match message["type"]:
                case "MutationResponse":
                    assert message["success"], message
                    expected = message["result"]
                case "Transition":
                    shown = next((change["value"] for change in message["modifications"]), shown)
                case _:
                    assert message["type"] == "Ping", message

    def close(self) -> None:
        self._peer.close()


def run(url: str, round_trips: RoundTrips, over: Event) -> None:
    """The whole of the victim's process."""
    victim = Victim(url)
    while not over.is_set():
        round_trips.begin()
        try:
            victim.round_trip()
        except (AssertionError, OSError):
            round_trips.end(answered=False)
            victim.close()
            if over.is_set():
                return  # The server was ended because it did not answer.
            victim = Victim(url)
        else:
            round_trips.end(answered=True)
        time.sleep(_PAUSE_S)
    victim.close()
