"""An engine over each storage, with one table of notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import reactivedb as rdb
from reactivedb.engine import Engine
from reactivedb.schema import table_definition
from reactivedb.storage import MemoryStorage, open_sqlite
from reactivedb.testing import FakeClock

from .notes import Note, Run


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["memory", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Engine]:
    storage = MemoryStorage() if request.param == "memory" else open_sqlite(tmp_path / "data.db")
    opened = Engine(storage, clock=clock)
    opened.declare([table_definition(Note)], ())
    yield opened
    storage.close()


@pytest.fixture
def run(engine: Engine) -> Callable[[], Run]:
    """Begin a transaction with a database face over it."""
    return lambda: Run(engine)


@pytest.fixture
def limited() -> Callable[..., Engine]:
    """An engine in memory with other bounds."""

    def make(**bounds: int) -> Engine:
        opened = Engine(MemoryStorage(), clock=FakeClock(), limits=rdb.Limits(**bounds))
        opened.declare([table_definition(Note)], ())
        return opened

    return make
