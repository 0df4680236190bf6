"""How does cost grow from a thousand documents to a million, and what is resident then?

Each operation is a call from Python to its result, beside the SQL statement that does the same on the same
file by a second connection. The large file is made through mutations, as an application would. Memory is
that of a fresh process that opens the large file and reads and writes all over it.

A range is of documents that were written together, as the newest messages of a channel are. Those of a
scattered range each lie on a page of their own: the larger the file, the fewer of these are in a cache, for
SQLite as for us. What the functions return is on its way to a client as the text it is stored as; for the
fields of a range, the function looks into each document too. A first count looks at every entry of the index,
as SQLite's own does; counted again, large ranges are remembered, as for a live count at each insertion.

Measured is a database that has served for a while: what was read lately is in our caches and in SQLite's,
which has the same for both. How much of a million documents that is, their bounds say.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import apsw

import reactivedb as rdb
from reactivedb.app import Database, Runtime
from reactivedb.functions import ANONYMOUS
from reactivedb.storage import Commit
from reactivedb.values import encode_key

from .bare_sqlite import BareSqlite, recorded
from .large import records
from .large.app import app
from .measure import Effort, Figure, at_most, in_turns, median, seconds, us

SIZES = (1_000, 100_000, 1_000_000)
_BATCH = 1_000
_MIB = 1024 * 1024
_RESIDENT_MAX = 300 * _MIB
_GROWTH_MAX = 2.0
# How often each question is asked before it is measured, in measurements; inserts would change the size.
_WARM_UP = {"point get": 20, "range of 20": 40, "fields of a range of 20": 10, "scattered range of 20": 20}
_GROWING = ("point get", "range of 20", "insert")
# How many of each make one measurement.
_TIMES = {
    "point get": 200,
    "range of 20": 100,
    "fields of a range of 20": 100,
    "scattered range of 20": 100,
    "page of 20": 100,
    "first count": 1,
    "count again": 20,
    "insert": 50,
}

_RESIDENT = """
import random, sys, psutil
from benchmarks.large import records
from benchmarks.large.app import app
from reactivedb.schema import source_bounds
from reactivedb.engine import scan_of

count = int(sys.argv[2])
with app.open(sys.argv[1]) as database:
    engine = database.runtime.engine
    every = scan_of(engine.catalog, source_bounds(records.Record.by_owner))
    rng = random.Random(7)
    ids = []
    for _ in range(count // 20):
        database.query(records.range_of_20, f"owner-{rng.randrange(count // records.PER_OWNER):08}")
    for number in range(2_000):
        ids.append(database.mutation(records.insert, rng.randrange(count)))
    for id in ids:
        database.query(records.get, id)
    print(psutil.Process().memory_info().rss)
"""


def run(effort: Effort) -> list[Figure]:
    sizes = SIZES if effort.full else SIZES[:2]
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        paths = {size: Path(folder) / f"{size}.db" for size in sizes}
        with ExitStack() as opened:
            subjects = {size: Subject(opened.enter_context(app.open(paths[size])), size) for size in sizes}
            for subject in subjects.values():
                subject.fill()
            taken = measure(subjects, paths, rounds=effort.pick(5, 15))
        resident_bytes = resident(paths[sizes[-1]], sizes[-1])
        file_bytes = paths[sizes[-1]].stat().st_size
    figures: list[Figure] = []
    for question, per_size in taken.items():
        figures += [figure(question, size, *per_size[size]) for size in sizes]
        if question in _GROWING:
            figures.append(growth(question, sizes, per_size[sizes[0]][0], per_size[sizes[-1]][0]))
    figures.append(
        Figure(
            f"resident with {sizes[-1]:,} documents",
            f"{resident_bytes / _MIB:.0f} MiB",
            f"{_RESIDENT_MAX / _MIB:.0f} MiB allowed, the file has {file_bytes / _MIB:.0f}",
            resident_bytes / _RESIDENT_MAX,
            at_most(1.0),
        )
    )
    return figures


def figure(question: str, size: int, ours_s: float, bare_s: float) -> Figure:
    return Figure(
        f"{question} of {size:,} documents", us(ours_s), f"{us(bare_s)} bare SQLite", ours_s / bare_s
    )


def growth(question: str, sizes: tuple[int, ...], small_s: float, large_s: float) -> Figure:
    return Figure(
        f"growth of {question} from {sizes[0]:,} to {sizes[-1]:,}",
        us(large_s),
        us(small_s),
        large_s / small_s,
        at_most(_GROWTH_MAX),
    )


def measure(
    subjects: Mapping[int, Subject], paths: Mapping[int, Path], *, rounds: int
) -> dict[str, dict[int, tuple[float, float]]]:
    """The seconds of one operation, ours and bare, for each size; all sizes in turns."""
    bare = {size: Bare(paths[size], subject, rounds) for size, subject in subjects.items()}
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for question, times in _TIMES.items():
        works: dict[str, Callable[[], float]] = {}
        for size, subject in subjects.items():
            for who, work in (
                (f"ours {size}", subject.work(question)),
                (f"bare {size}", bare[size].work(question)),
            ):
                works[who] = partial(seconds, partial(_repeat, work, times))
        for work in works.values():
            for _ in range(_WARM_UP.get(question, 0)):
                work()
        taken = in_turns(rounds, works)
        found[question] = {
            size: (median(taken[f"ours {size}"]) / times, median(taken[f"bare {size}"]) / times)
            for size in subjects
        }
    for each in bare.values():
        each.close()
    return found


def _repeat(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()


def _recorded_inserts(count: int) -> list[Commit]:
    """What `insert` writes; at times before all others, so that they get in nobody's way."""

    def fill(runtime: Runtime) -> None:
        inserted = runtime.runner.registry.of(records.insert)
        for number in range(count):
            named = runtime.runner.bind(inserted, (number,), {})
            runtime.runner.mutation(inserted, named, ANONYMOUS).unwrap()

    commits = recorded(fill, app)
    for commit in commits:
        commit.ts = -commit.ts
    return commits


class Subject:
    """A database of one size, and what is asked of it."""

    def __init__(self, database: Database, size: int) -> None:
        self.database = database
        self._size = size
        self._random = random.Random(size)
        self.ids: list[rdb.Id[records.Record]] = []
        self._cursor: str | None = None

    def fill(self) -> None:
        for first in range(0, self._size, _BATCH):
            ids = self.database.mutation(records.fill, first, min(_BATCH, self._size - first))
            self.ids += self._random.sample(ids, 1_000 * len(ids) // self._size)

    def owner(self) -> str:
        return f"owner-{self._random.randrange(self._size // records.PER_OWNER):08}"

    def work(self, question: str) -> Callable[[], object]:
        return {
            "point get": self._get,
            "range of 20": self._range,
            "fields of a range of 20": self._fields,
            "scattered range of 20": self._scattered,
            "page of 20": self._page,
            "first count": self._first_count,
            "count again": self._count,
            "insert": self._insert,
        }[question]

    def _get(self) -> object:
        return self.database.query(records.get, self._random.choice(self.ids))

    def _range(self) -> object:
        return self.database.query(records.range_of_20, self.owner())

    def _fields(self) -> object:
        return self.database.query(records.numbers_of_20, self.owner())

    def _scattered(self) -> object:
        return self.database.query(records.scattered_20, self._random.randrange(1_000_000))

    def _page(self) -> None:
        """One after another, and again from the start."""
        options = rdb.PaginationOptions(num_items=20, cursor=self._cursor)
        found = self.database.query(records.page, options)
        self._cursor = None if found.is_done else found.continue_cursor

    def _first_count(self) -> object:
        self.database.runtime.engine.counts.forget()
        return self._count()

    def _count(self) -> object:
        return self.database.query(records.count)

    def _insert(self) -> object:
        return self.database.mutation(records.insert, self._random.randrange(self._size))


class Bare:
    """The same by SQL, over connections of its own."""

    def __init__(self, path: Path, subject: Subject, rounds: int) -> None:
        table = subject.database.runtime.engine.catalog.table("records")
        self._table = table.number
        self._index = table.indexes["by_owner"].number
        self._scattered_index = table.indexes["by_scattered"].number
        self._subject = subject
        self._random = random.Random(7)
        # What apsw says of its own types is beyond Python 3.11 (see `storage/sqlite_connection.py`).
        self._connection: Any = apsw.Connection(str(path))
        self._connection.pragma("cache_size", -64 * 1024)
        self._cursor = self._connection.cursor()
        self._writer = BareSqlite(path)
        self._commits = iter(_recorded_inserts(rounds * _TIMES["insert"]))
        self._place = b""

    def work(self, question: str) -> Callable[[], object]:
        return {
            "point get": self._get,
            "range of 20": self._range,
            "fields of a range of 20": self._range,
            "scattered range of 20": self._scattered,
            "page of 20": self._page,
            "first count": self._count,
            "count again": self._count,
            "insert": self._insert,
        }[question]

    def _get(self) -> object:
        id = self._random.choice(self._subject.ids)
        return self._all("SELECT value FROM documents WHERE table_number = ? AND id = ?", (self._table, id))

    def _range(self) -> object:
        low = encode_key((self._subject.owner(),))
        return self._twenty(low, low + b"\xff")

    def _scattered(self) -> object:
        low = encode_key((float(self._random.randrange(1_000_000)),))
        return self._twenty(low, b"\xff", self._scattered_index)

    def _page(self) -> None:
        rows = self._twenty(self._place, b"\xff")
        self._place = rows[-1][0] + b"\x00" if rows else b""

    def _twenty(self, low: bytes, high: bytes, index: int | None = None) -> list[Any]:
        return self._all(
            "SELECT key, value FROM index_entries JOIN documents ON number = document_number "
            "WHERE index_number = ? AND key >= ? AND key < ? ORDER BY key LIMIT 20",
            (index or self._index, low, high),
        )

    def _count(self) -> object:
        return self._all("SELECT count(*) FROM index_entries WHERE index_number = ?", (self._index,))

    def _insert(self) -> None:
        self._writer.write([next(self._commits)])

    def _all(self, sql: str, bindings: tuple[Any, ...]) -> list[Any]:
        return self._cursor.execute(sql, bindings).fetchall()

    def close(self) -> None:
        self._writer.close()
        self._connection.close()


def resident(path: Path, size: int) -> int:
    words = [sys.executable, "-c", _RESIDENT, str(path), str(size)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
