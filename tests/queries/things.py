"""What do the tests of queries ask? One schemaless table with documents of mixed types, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import reactivedb as rdb
from reactivedb.engine import Engine, ReadSet, Transaction
from reactivedb.functions.db import DatabaseWriter
from reactivedb.functions.pagination import Journal
from reactivedb.storage import MemoryStorage
from reactivedb.testing import FakeClock

things = rdb.Table("things", indexes={"by_key": ["key"], "by_kind_key": ["kind", "key"], "by_kind": ["kind"]})


class Shelf:
    """An engine with the table of things, and transactions over it."""

    def __init__(self, **bounds: int) -> None:
        self.engine = Engine(MemoryStorage(), clock=FakeClock(), limits=rdb.Limits(**bounds))
        self.engine.declare([things.definition], ())
        # Of the last read.
        self.journal: str | None = None
        self.read_set = ReadSet()

    @contextmanager
    def writing(self) -> Iterator[DatabaseWriter]:
        """A transaction that is committed at the end."""
        with self.opened(None) as (db, transaction):
            yield db
            self.engine.commit(transaction)

    @contextmanager
    def reading(self, journal: str | None = None) -> Iterator[DatabaseWriter]:
        """A transaction that is dropped at the end."""
        with self.opened(journal) as (db, _):
            yield db

    @contextmanager
    def opened(self, journal: str | None) -> Iterator[tuple[DatabaseWriter, Transaction]]:
        with self.engine.lock:
            transaction = self.engine.begin()
            kept = Journal(journal)
            yield DatabaseWriter(transaction, self.engine.catalog, journal=kept), transaction
            transaction.finished = True
            self.journal = kept.text
            self.read_set = transaction.read_set

    def add(self, *documents: dict[str, Any]) -> list[str]:
        with self.writing() as db:
            return [db.insert(things, document) for document in documents]


def options(num_items: int, cursor: str | None = None, **others: Any) -> rdb.PaginationOptions:
    return rdb.PaginationOptions(num_items=num_items, cursor=cursor, **others)


def numbered(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Documents whose key is their number."""
    return [{"key": float(number), **fields} for number in range(count)]


def keys_of(documents: list[dict[str, Any]]) -> list[Any]:
    return [document["key"] for document in documents]
