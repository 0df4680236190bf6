"""A database face over an engine with some tables, for tests of single writes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import reactivedb as rdb
from reactivedb.engine import Engine
from reactivedb.functions.db import DatabaseWriter
from reactivedb.schema import table_definition
from reactivedb.storage import MemoryStorage
from reactivedb.testing import FakeClock

Source = type[rdb.Document] | rdb.Table


class Face:
    """`face.db` is what a mutation has; `commit` begins another transaction."""

    def __init__(self, engine: Engine, clock: FakeClock) -> None:
        self.engine = engine
        self.clock = clock
        self._begin()

    def _begin(self) -> None:
        self.transaction = self.engine.begin()
        self.db = DatabaseWriter(self.transaction, self.engine.catalog)

    def commit(self) -> None:
        self.engine.commit(self.transaction)
        self.clock.advance(1)
        self._begin()


@pytest.fixture
def face_of() -> Callable[..., Face]:
    def make(*sources: Source, limits: rdb.Limits | None = None) -> Face:
        clock = FakeClock()
        engine = Engine(MemoryStorage(), clock=clock, limits=limits or rdb.Limits())
        engine.declare(map(table_definition, sources), ())
        return Face(engine, clock)

    return make
