"""How does a new index of a table that has documents come to be, while writes go on?"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline_app import FlakyStorage

import reactivedb as rdb
from reactivedb.engine import Engine, Step, schema_progress, work_step
from reactivedb.schema import table_definition
from reactivedb.storage import MemoryStorage, Storage, open_sqlite
from reactivedb.testing import FakeClock

from .notes import Run

BATCH = 3
plain = rdb.Table("docs")
indexed = rdb.Table("docs", indexes={"by_x": ["x"], "by_y_x": ["y.z", "x"]})
staged = rdb.Table("docs", indexes={"by_x": rdb.Index("x", staged=True)})
unique = rdb.Table("docs", indexes={"by_x": rdb.Index("x", unique=True)})


def declared(storage: Storage, table: rdb.Table, *, large_from: int = 5) -> Engine:
    limits = rdb.Limits(documents_indexed_at_open_max=large_from, schema_batch_documents_max=BATCH)
    engine = Engine(storage, clock=FakeClock(), limits=limits)
    engine.declare([table_definition(table)], ())
    return engine


def insert(engine: Engine, *documents: dict[str, Any]) -> list[rdb.Id[Any]]:
    run = Run(engine)
    ids = [run.db.insert(plain, fields) for fields in documents]
    run.commit()
    engine.flush()
    return ids


def with_documents(storage: Storage, count: int) -> list[rdb.Id[Any]]:
    return insert(
        declared(storage, plain), *({"x": float(n % 4), "y": {"z": float(n)}} for n in range(count))
    )


def finish(engine: Engine) -> int:
    """Do all the work; gives the number of batches."""
    batches = 0
    while work_step(engine) is not Step.NOTHING_LEFT:
        batches += 1
    return batches


def keys(engine: Engine, name: str) -> list[tuple[bytes, str]]:
    index = engine.catalog.table("docs").indexes[name]
    return engine.storage.scan(index.number, b"", b"\xff", limit=1_000_000)


def xs(engine: Engine, table: rdb.Table = indexed) -> list[float]:
    source = table.index("by_x")
    return [document["x"] for document in Run(engine).db.query(source)]


def state_of(engine: Engine, name: str = "by_x") -> str:
    [row] = [
        row for row in engine.storage.catalog().indexes if row.name == name and row.table_number > 10_000
    ]
    return row.state


def test_a_large_tables_index_is_refused_with_its_progress_until_it_is_built() -> None:
    storage = MemoryStorage()
    with_documents(storage, 8)
    engine = declared(storage, indexed)
    assert len(Run(engine).db.query(indexed).collect()) == 8  # the table itself serves at once
    for done in (0, 3, 6):
        with pytest.raises(rdb.RequestError) as caught:
            xs(engine)
        error = caught.value
        assert (error.code, error.fields["done"], error.fields["total"]) == ("IndexNotReady", done, 8)
        with pytest.raises(rdb.RequestError):
            Run(engine).db.query(indexed.index("by_x")).count()
        assert {(row.name, row.done) for row in schema_progress(engine)} == {("by_x", done), ("by_y_x", done)}
        work_step(engine)
    assert xs(engine) == sorted(float(n % 4) for n in range(8))
    assert schema_progress(engine) == []
    assert work_step(engine) is Step.NOTHING_LEFT
    assert storage.check() == []


def test_a_small_tables_index_is_there_at_open() -> None:
    storage = MemoryStorage()
    with_documents(storage, 5)
    assert len(xs(declared(storage, indexed))) == 5


Steps = st.lists(
    st.tuples(st.sampled_from(["insert", "patch", "delete", "batch", "batch"]), st.integers(0, 10**6)),
    max_size=40,
)


@pytest.mark.slow
@given(count=st.integers(6, 30), steps=Steps, reopened_at=st.integers(0, 40))
@settings(max_examples=200, deadline=None)
def test_building_under_writes_ends_like_a_fresh_build(
    count: int, steps: list[tuple[str, int]], reopened_at: int
) -> None:
    storage = MemoryStorage()
    ids = with_documents(storage, count)
    engine = declared(storage, indexed)
    for position, (step, number) in enumerate(steps):
        if position == reopened_at:
            engine.flush()
            engine = declared(storage, indexed)
        write(engine, ids, step, number)
        if step == "batch":
            work_step(engine)
    finish(engine)
    engine.flush()
    built = {name: [key for key, _ in keys(engine, name)] for name in ("by_x", "by_y_x")}
    fresh = rdb.Table("docs", indexes={"again": ["x"], "again_2": ["y.z", "x"]})
    engine = declared(storage, fresh, large_from=1_000)
    assert built == {
        "by_x": [key for key, _ in keys(engine, "again")],
        "by_y_x": [key for key, _ in keys(engine, "again_2")],
    }
    assert len(built["by_x"]) == len(ids)
    assert storage.check() == []


def write(engine: Engine, ids: list[rdb.Id[Any]], step: str, number: int) -> None:
    """One random write; `ids` follows."""
    values = random.Random(number)
    fields: dict[str, Any] = {"x": values.choice([None, 1.0, "a", True]), "y": {"z": values.random()}}
    run = Run(engine)
    if step == "insert":
        ids.append(run.db.insert(indexed, fields))
    elif step == "patch" and ids:
        run.db.patch(ids[number % len(ids)], fields)
    elif step == "delete" and ids:
        run.db.delete(ids.pop(number % len(ids)))
    run.commit()


def test_building_goes_on_where_a_crash_ended_it(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    storage = open_sqlite(path)
    with_documents(storage, 10)
    engine = declared(storage, indexed)
    work_step(engine)
    work_step(engine)
    run = Run(engine)
    run.db.insert(indexed, {"x": 9.0})
    run.commit()
    storage.close()  # forgets the open group, as a crash does
    storage = open_sqlite(path)
    engine = declared(storage, indexed)
    assert [row.done for row in schema_progress(engine)] == [6, 6]
    assert finish(engine) == 2
    assert xs(engine) == sorted(float(n % 4) for n in range(10))
    assert storage.check() == []
    storage.close()


def test_a_batch_that_fails_is_done_again() -> None:
    storage = FlakyStorage()
    with_documents(storage, 8)
    engine = declared(storage, indexed)
    run = Run(engine)
    run.db.insert(indexed, {"x": 7.0})
    run.commit()
    storage.failing_flush_count = 1
    with pytest.raises(rdb.StorageError):
        work_step(engine)  # flushes the write before, which fails
    work_step(engine)
    work_step(engine)
    storage.failing_flush_count = 1
    with pytest.raises(rdb.StorageError):
        work_step(engine)
    assert state_of(engine) == "building"
    with pytest.raises(rdb.RequestError):
        xs(engine)
    finish(engine)
    assert xs(engine) == sorted(float(n % 4) for n in range(8))
    assert storage.check() == []


def test_an_index_that_is_dropped_half_way_leaves_nothing() -> None:
    storage = MemoryStorage()
    with_documents(storage, 10)
    work_step(declared(storage, indexed))
    assert finish(declared(storage, plain)) == 0
    assert storage.check() == []
    again = declared(storage, indexed)
    assert finish(again) == 4
    assert len(xs(again)) == 10


@pytest.mark.parametrize("large_from", [5, 1_000])
def test_a_staged_index_is_built_and_opens_at_once_when_it_is_not_staged_any_more(large_from: int) -> None:
    storage = MemoryStorage()
    with_documents(storage, 10)
    engine = declared(storage, staged, large_from=large_from)
    finish(engine)
    assert state_of(engine) == "staged"
    insert(engine, {"x": 0.5})
    with pytest.raises(rdb.SchemaError) as caught:
        xs(engine, staged)
    assert caught.value.code == "IndexStaged"
    opened = rdb.Table("docs", indexes={"by_x": ["x"]})
    engine = declared(storage, opened)
    assert state_of(engine) == "ready"
    assert len(xs(engine, opened)) == 11
    assert state_of(declared(storage, staged)) == "staged"


def test_duplicates_keep_a_unique_index_from_being_declared() -> None:
    storage = MemoryStorage()
    ids = insert(declared(storage, plain), {"x": 1}, {"x": 1}, {"x": 2}, {"x": 1}, {}, {}, {"x": None})
    rows = storage.catalog()
    with pytest.raises(rdb.SchemaError) as caught:
        declared(storage, unique)
    offenders = caught.value.fields["offenders"]
    assert caught.value.code == "SchemaMismatch"
    # Documents without the field are not alike: there is nothing to compare.
    assert caught.value.fields["count"] == len(offenders) == 2
    assert {row.id: row.got for row in offenders} == dict.fromkeys(
        (ids[1], ids[3]), f"`1.0` which `{ids[0]}` has"
    )
    assert {(row.table, row.path) for row in offenders} == {("docs", ".x")}
    assert storage.catalog() == rows


def test_an_index_that_becomes_unique_is_compared_with_what_is_stored() -> None:
    storage = MemoryStorage()
    declared(storage, rdb.Table("docs", indexes={"by_x": ["x"]}))
    first, second = insert(declared(storage, plain), {"x": 1}, {"x": 1})
    with pytest.raises(rdb.SchemaError) as caught:
        declared(storage, unique)
    assert [row.id for row in caught.value.fields["offenders"]] == [second]
    run = Run(declared(storage, plain))
    run.db.delete(first)
    run.commit()
    engine = declared(storage, unique)
    assert len(xs(engine, unique)) == 1


def test_a_unique_index_of_a_large_table_holds_from_its_first_moment() -> None:
    storage = MemoryStorage()
    insert(declared(storage, plain), *({"x": float(n)} for n in range(10)))
    engine = declared(storage, unique)
    assert state_of(engine) == "ready"
    assert len(xs(engine, unique)) == 10


def test_absent_null_and_undefined_are_told_apart_in_an_index() -> None:
    """h.70"""
    engine = declared(MemoryStorage(), indexed)
    missing, null, one, text = insert(engine, {}, {"x": None}, {"x": 1}, {"x": "a"})
    by_x = indexed.index("by_x")

    def found(source: Any) -> list[str]:
        return [document["_id"] for document in Run(engine).db.query(source)]

    assert found(by_x.eq(rdb.UNSET)) == [missing]
    assert found(by_x.eq(None)) == [null]
    assert found(by_x.gt(rdb.UNSET)) == found(by_x.gte(None)) == [null, one, text]
    assert found(by_x.gt(1)) == [text]  # bounds use the order across types
    assert found(by_x.lt(1)) == [missing, null]


def test_ties_are_in_the_order_of_creation_which_may_be_bounded() -> None:
    """h.71"""
    engine = declared(MemoryStorage(), indexed)
    ids = [insert(engine, {"x": 1, "y": {"z": 5}})[0] for _ in range(4)]
    ordered = indexed.index("by_y_x").eq(5, 1)
    run = Run(engine)
    documents = run.db.query(ordered).collect()
    assert [document["_id"] for document in documents] == ids
    assert [document["_id"] for document in run.db.query(ordered).order("desc")] == ids[::-1]
    times = [document["_creationTime"] for document in documents]
    assert [d["_id"] for d in run.db.query(ordered.gt(times[0]).lte(times[2]))] == ids[1:3]
    assert [d["_id"] for d in run.db.query(indexed.index("by_y_x").eq(5, 1, times[3]))] == [ids[3]]
