"""What does a write cost while many other live queries look elsewhere?

In memory, so that no disk hides it: 10, 10,000 and 100,000 live queries, half of them on an equality prefix
and half on a true range of the index that the write goes into, none of them touched. A process for each
number, so that what 100,000 live objects do to the garbage collector shows too; they write in turns.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from reactivedb.app import AsyncDatabase

from .application import ledger
from .application.app import app
from .measure import Effort, Figure, at_most, median, spread

FEW = 10
MANY = (10_000, 100_000)
_BATCH = 200
_FAR_AWAY = 1_000_000_000


def run(effort: Effort) -> list[Figure]:
    rounds = effort.pick(15, 100)
    with Writer(FEW) as few, Writer(MANY[0]) as many, Writer(MANY[1]) as most:
        writers = (few, many, most)
        taken: list[list[float]] = [[] for _ in writers]
        for number in range(rounds):
            for place in (0, 1, 2) if number % 2 else (2, 1, 0):
                taken[place] += writers[place].write_batch()
    return [
        Figure(
            f"write beside {count:,} untouched live queries",
            spread(times),
            f"{spread(taken[0])} beside {FEW}",
            median(times) / median(taken[0]),
            at_most(1.5),
        )
        for count, times in zip(MANY, taken[1:], strict=True)
    ]


class Writer:
    """A process with that many live queries, which writes when it is told to."""

    def __init__(self, queries: int) -> None:
        words = [sys.executable, "-m", __name__, str(queries)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def write_batch(self) -> list[float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("go", file=self._process.stdin, flush=True)
        return [float(word) for word in self._process.stdout.readline().split()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(20)


async def write_when_told(queries: int) -> None:
    """What the process does: a batch of single writes for each line that comes in."""
    async with app.open_async() as database, AsyncExitStack() as following:
        await follow(database, following, queries)
        number = _FAR_AWAY
        for _ in sys.stdin:
            times: list[float] = []
            for _ in range(_BATCH):
                number += 1
                began = time.perf_counter()
                await database.mutation(ledger.write_topics, number, 1, "nobody follows this")
                times.append(time.perf_counter() - began)
            print(*times, flush=True)


async def follow(database: AsyncDatabase, following: AsyncExitStack, count: int) -> None:
    for number in range(count):
        if number % 2:
            live = database.subscribe(ledger.topic, number)
        else:
            live = database.subscribe(ledger.topics_between, number, number + 5)
        await following.enter_async_context(live)
        if number % 1000 == 0:
            await database.run_until_idle(timeout_s=60)
    await database.run_until_idle(timeout_s=60)


if __name__ == "__main__":
    asyncio.run(write_when_told(int(sys.argv[1])))
