"""Do actions run side by side? They wait for one another, so the tests need no clock.

An arrival is known to this process alone; a restarted server has forgotten it.
"""

from dataclasses import dataclass, field

import anyio

import reactivedb as rdb


@dataclass(slots=True)
class Room:
    arrivals: int = 0
    full: anyio.Event = field(default_factory=anyio.Event)


ROOMS: dict[str, Room] = {}


@rdb.action
async def meet(ctx: rdb.ActionCtx, room: str, count: int) -> int:
    """Wait until `count` callers are in the room; the answer is how many had come before."""
    place = ROOMS.setdefault(room, Room())
    before = place.arrivals
    place.arrivals += 1
    if place.arrivals == count:
        place.full.set()
    await place.full.wait()
    return before
