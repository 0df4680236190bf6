"""How many durable read-modify-inserts per second, beside bare SQLite writing the same rows?

By one synchronous caller, one sync each; and by 32 concurrent coroutines, whose commits share syncs, beside
bare SQLite with 32 of them in one SQL transaction.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import reactivedb as rdb
from reactivedb.app import AsyncDatabase, Database, Runtime
from reactivedb.functions import ANONYMOUS
from reactivedb.storage import Commit

from .application import ledger
from .application.app import app
from .bare_sqlite import BareSqlite, recorded
from .measure import Effort, Figure, at_least, in_turns, median, seconds

TEXT = "an entry of an ordinary length, as somebody might type it. " * 2
CALLERS = 32


def run(effort: Effort) -> list[Figure]:
    rounds, per_round = effort.pick(9, 31), effort.pick(128, 512)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        return [
            one_caller(Path(folder), rounds, per_round),
            asyncio.run(many_callers(Path(folder), rounds, per_round)),
        ]


def rows(count: int) -> list[Commit]:
    """What `count` calls of `add` write, behind the commit that opens the account."""

    def fill(runtime: Runtime) -> None:
        runner = runtime.runner
        opened = runner.registry.of(ledger.open_account)
        account_id = runner.mutation(opened, runner.bind(opened, ("ada",), {}), ANONYMOUS).unwrap()
        added = runner.registry.of(ledger.add)
        for _ in range(count):
            runner.mutation(added, runner.bind(added, (account_id, TEXT), {}), ANONYMOUS).unwrap()

    return recorded(fill)


class BareWriter:
    """Writes the next recorded commits at each call."""

    def __init__(self, path: Path, commits: Sequence[Commit], *, per_sync: int) -> None:
        self._sqlite = BareSqlite(path)
        self._sqlite.write(commits[:1])
        self._rest = list(commits[1:])
        self._per_sync = per_sync

    def write(self, count: int) -> None:
        mine, self._rest = self._rest[:count], self._rest[count:]
        for start in range(0, count, self._per_sync):
            self._sqlite.write(mine[start : start + self._per_sync])

    def close(self) -> None:
        self._sqlite.close()


def one_caller(folder: Path, rounds: int, per_round: int) -> Figure:
    bare = BareWriter(folder / "bare-one.db", rows(rounds * per_round), per_sync=1)
    with app.open(folder / "one.db") as database:
        account_id = database.mutation(ledger.open_account, "ada")
        taken = in_turns(
            rounds,
            {
                "ours": lambda: seconds(lambda: add_in_turn(database, account_id, per_round)),
                "bare": lambda: seconds(lambda: bare.write(per_round)),
            },
        )
    bare.close()
    return rate_figure("one caller, read-modify-insert", taken, per_round, floor=0.4)


def add_in_turn(database: Database, account_id: rdb.Id[ledger.Account], count: int) -> None:
    for _ in range(count):
        database.mutation(ledger.add, account_id, TEXT)


async def many_callers(folder: Path, rounds: int, per_round: int) -> Figure:
    per_round *= 4
    bare = BareWriter(folder / "bare-many.db", rows(rounds * per_round), per_sync=CALLERS)
    taken: dict[str, list[float]] = {"ours": [], "bare": []}
    async with app.open_async(folder / "many.db") as database:
        account_id = await database.mutation(ledger.open_account, "ada")
        loop = asyncio.get_running_loop()
        for number in range(rounds):
            for name in ("ours", "bare") if number % 2 else ("bare", "ours"):
                began = loop.time()
                if name == "ours":
                    await add_together(database, account_id, per_round)
                else:
                    bare.write(per_round)
                taken[name].append(loop.time() - began)
    bare.close()
    return rate_figure(f"{CALLERS} concurrent async callers", taken, per_round, floor=0.2)


async def add_together(database: AsyncDatabase, account_id: rdb.Id[ledger.Account], count: int) -> None:
    async def caller() -> None:
        for _ in range(count // CALLERS):
            await database.mutation(ledger.add, account_id, TEXT)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


def rate_figure(who: str, taken: dict[str, list[float]], count: int, *, floor: float) -> Figure:
    ours, bare = median(taken["ours"]), median(taken["bare"])
    return Figure(
        f"commits/s, {who}",
        f"{count / ours:,.0f}/s",
        f"{count / bare:,.0f}/s bare SQLite, {'1' if floor == 0.4 else CALLERS} per sync",
        bare / ours,
        at_least(floor),
    )
