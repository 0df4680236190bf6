"""Does a deletion over any graph of references end where a naive model ends, whatever the size of a batch?"""

from __future__ import annotations

from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reactivedb as rdb
from reactivedb.engine import Engine
from reactivedb.errors import RequestError
from reactivedb.functions.cascade import Continuation
from reactivedb.functions.db import DatabaseWriter, cascade_of
from reactivedb.schema import table_definition
from reactivedb.storage import MemoryStorage
from reactivedb.testing import FakeClock


class Node(rdb.Document, table="nodes"):
    goes: Annotated[rdb.Id[Node] | None, rdb.OnDelete("cascade")] = None
    goes_too: Annotated[rdb.Id[Node] | None, rdb.OnDelete("cascade")] = None
    forgets: Annotated[rdb.Id[Node] | None, rdb.OnDelete("set_null")] = None

    by_goes = rdb.Index("goes")
    by_goes_too = rdb.Index("goes_too")
    by_forgets = rdb.Index("forgets")


class Guarded(rdb.Document, table="nodes"):
    goes: Annotated[rdb.Id[Guarded] | None, rdb.OnDelete("cascade")] = None
    goes_too: Annotated[rdb.Id[Guarded] | None, rdb.OnDelete("restrict")] = None
    forgets: Annotated[rdb.Id[Guarded] | None, rdb.OnDelete("set_null")] = None

    by_goes = rdb.Index("goes")
    by_goes_too = rdb.Index("goes_too")
    by_forgets = rdb.Index("forgets")


FIELDS = ("goes", "goes_too", "forgets")
COUNT_MAX = 9
TARGETS = st.one_of(st.none(), st.integers(0, COUNT_MAX - 1))
GRAPHS = st.lists(st.tuples(TARGETS, TARGETS, TARGETS), min_size=1, max_size=COUNT_MAX)
Graph = dict[str, dict[str, str | None]]


class Deleting:
    """A graph in a database, and deletions in as many transactions as they take."""

    def __init__(self, table: type[rdb.Document], batch_max: int) -> None:
        self.table = table
        self.batch_max = batch_max
        self.engine = Engine(MemoryStorage(), clock=FakeClock())
        self.engine.declare([table_definition(table)], ())
        self.left: list[str] = []
        self.commit_count = 0
        self._begin()

    def _begin(self) -> None:
        self.transaction = self.engine.begin()
        go_on = Continuation(self.batch_max, self.left.extend)
        self.db = DatabaseWriter(self.transaction, self.engine.catalog, continuation=go_on)

    def commit(self) -> None:
        self.engine.commit(self.transaction)
        self.commit_count += 1
        self._begin()

    def build(self, edges: list[tuple[int | None, ...]]) -> list[str]:
        ids = [self.db.insert(self.table()) for _ in edges]
        for id, targets in zip(ids, edges, strict=True):
            named = zip(FIELDS, targets, strict=True)
            self.db.patch(id, {name: ids[n] for name, n in named if n is not None and n < len(ids)})
        self.commit()
        return [str(id) for id in ids]

    def delete(self, id: str) -> None:
        self.db.delete(rdb.Id(id))
        while True:
            assert len(self.transaction.write_set().changes) <= self.batch_max + 1 or not self.left
            self.commit()
            if not self.left:
                return
            waiting = self.left[:]
            self.left.clear()
            cascade_of(self.db).resume(waiting)

    def graph(self) -> Graph:
        found = self.db.query(self.table).collect()
        return {node.id: {name: getattr(node, name) for name in FIELDS} for node in found}


def after(graph: Graph, root: str, cascading: tuple[str, ...], restricting: tuple[str, ...]) -> Graph | None:
    """The naive answer; None where the deletion is refused."""
    gone = {root}
    while True:
        more = {id for id, node in graph.items() if any(node[name] in gone for name in cascading)} - gone
        if not more:
            break
        gone |= more
    kept = {id: dict(node) for id, node in graph.items() if id not in gone}
    if any(node[name] in gone for node in kept.values() for name in restricting):
        return None
    for node in kept.values():
        if node["forgets"] in gone:
            node["forgets"] = None
    return kept


@pytest.mark.slow
@given(edges=GRAPHS, order=st.lists(st.integers(0, COUNT_MAX - 1), max_size=3), batch_max=st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_cascades_in_batches_end_where_the_model_ends(
    edges: list[tuple[int | None, ...]], order: list[int], batch_max: int
) -> None:
    deleting = Deleting(Node, batch_max)
    ids = deleting.build(edges)
    model = deleting.graph()
    for which in order:
        id = ids[which % len(ids)]
        if id in model:
            expected = after(model, id, ("goes", "goes_too"), ())
            assert expected is not None
            model = expected
            deleting.delete(id)
            assert deleting.graph() == model


@pytest.mark.slow
@given(edges=GRAPHS, order=st.lists(st.integers(0, COUNT_MAX - 1), max_size=3), batch_max=st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_a_restrict_anywhere_refuses_the_whole_deletion_or_nothing(
    edges: list[tuple[int | None, ...]], order: list[int], batch_max: int
) -> None:
    deleting = Deleting(Guarded, batch_max)
    ids = deleting.build(edges)
    model = deleting.graph()
    for which in order:
        id = ids[which % len(ids)]
        if id not in model:
            continue
        expected = after(model, id, ("goes",), ("goes_too",))
        try:
            deleting.delete(id)
        except RequestError:
            assert expected is None
        else:
            assert expected is not None
            model = expected
        assert deleting.graph() == model
        assert not deleting.left
