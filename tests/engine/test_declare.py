"""What happens to what is stored when the program declares something else?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import reactivedb as rdb
from reactivedb.engine import Engine, IndexScan
from reactivedb.schema import table_definition
from reactivedb.storage import MemoryStorage, Storage, open_sqlite
from reactivedb.testing import FakeClock

from .notes import Note, Run, stored


def declared(storage: Storage, *sources: Any) -> Engine:
    engine = Engine(storage, clock=FakeClock())
    engine.declare([table_definition(source) for source in sources], ())
    return engine


def notes_with(*, fields: dict[str, Any] | None = None, **members: Any) -> Any:
    """Another version of the table `notes`; `members` are defaults and indexes."""
    annotations = fields or {"author": str, "score": float, "text": str}
    defaults: dict[str, Any] = {
        name: {"score": 0.0, "text": ""}[name] for name in annotations if name != "author"
    }
    namespace = {"__annotations__": annotations, "__module__": __name__, **defaults, **members}
    return type(rdb.Document)("Note", (rdb.Document,), namespace, table="notes")


def test_a_new_index_is_filled_from_what_is_stored() -> None:
    storage = MemoryStorage()
    plain = notes_with()
    run = Run(declared(storage, plain))
    for number in (3, 1, 2):
        run.db.insert(plain(author="ada", score=number))
    run.commit()
    indexed = notes_with(by_score=rdb.Index("score"))
    engine = declared(storage, indexed)
    assert [note.score for note in Run(engine).db.query(indexed.by_score)] == [1, 2, 3]
    assert storage.check() == []


def test_a_dropped_index_loses_its_entries_and_can_come_back() -> None:
    storage = MemoryStorage()
    stored(declared(storage, Note), ("ada", 1), ("bob", 2))
    bare = notes_with()
    engine = declared(storage, bare)
    assert [row.name for row in storage.catalog().indexes if row.table_number == 10_001] == [
        "by_creation_time",
        "by_id",
    ]
    run = Run(engine)
    run.db.insert(bare(author="cleo", score=0))
    run.commit()
    assert Run(declared(storage, Note)).scores(Note.by_score) == [0, 1, 2]
    assert storage.check() == []


def test_another_default_builds_the_index_of_older_documents_again() -> None:
    storage = MemoryStorage()
    short = notes_with(fields={"author": str})
    engine = declared(storage, short)
    run = Run(engine)
    run.db.insert(short(author="ada"))
    run.commit()
    for default in (5.0, 7.0):
        longer = notes_with(
            fields={"author": str, "score": float}, score=default, by_score=rdb.Index("score")
        )
        reader = Run(declared(storage, longer))
        [note] = reader.db.query(longer.by_score.eq(default))
        assert note.score == default
        assert storage.check() == []


def test_documents_that_do_not_fit_change_nothing_and_are_listed(tmp_path: Path) -> None:
    storage = open_sqlite(tmp_path / "data.db")
    engine = declared(storage, Note)
    ids = stored(engine, *(("ada", number) for number in range(12)))
    engine.make_durable()
    rows, version = storage.catalog().indexes, storage.get_meta("validator:10001")
    narrower = notes_with(fields={"author": int, "score": float, "text": str}, by_x=rdb.Index("author"))
    with pytest.raises(rdb.SchemaError) as caught:
        engine.declare([table_definition(narrower)], ())
    error = caught.value
    assert (error.code, error.fields["count"]) == ("SchemaMismatch", 12)
    offenders = error.fields["offenders"]
    assert len(offenders) == 10
    assert (offenders[0].table, offenders[0].path) == ("notes", ".author")
    assert offenders[0].id in ids
    assert storage.catalog().indexes == rows
    assert storage.get_meta("validator:10001") == version
    assert Run(engine).scores(Note.by_score) == list(range(12))  # the old version serves on
    stored(engine, ("bob", 99))
    storage.close()


def test_tables_keep_their_numbers_whatever_else_is_declared() -> None:
    storage = MemoryStorage()
    first, second = rdb.Table("first"), rdb.Table("second")
    before = declared(storage, first, second).catalog
    numbers = {name: before.table(name).number for name in ("first", "second")}
    after = declared(storage, rdb.Table("third"), second).catalog
    assert after.table("second").number == numbers["second"]
    assert after.table("third").number not in numbers.values()
    again = declared(storage, first, second).catalog
    assert {name: again.table(name).number for name in numbers} == numbers


def test_a_table_that_is_declared_no_more_keeps_its_documents() -> None:
    storage = MemoryStorage()
    [id] = stored(declared(storage, Note), ("ada", 1))
    without = declared(storage, rdb.Table("other"))
    assert Run(without).db.get(id) is None
    with pytest.raises(rdb.SchemaError) as caught:
        Run(without).db.query(Note)
    assert caught.value.code == "UnknownTable"
    note = Run(declared(storage, Note)).db.get(id)
    assert note is not None
    assert note.score == 1


def test_an_engine_opened_again_goes_on_above_all_earlier_times(tmp_path: Path) -> None:
    storage = open_sqlite(tmp_path / "data.db")
    engine = declared(storage, Note)
    stored(engine, ("ada", 1))
    last_ts = engine.committer.applied_ts
    [created] = [note.creation_time for note in Run(engine).db.query(Note)]
    engine.close()
    storage = open_sqlite(tmp_path / "data.db")
    engine = Engine(storage, clock=FakeClock(start_ns=1_000_000))  # a clock that was set back
    engine.declare([table_definition(Note)], ())
    stored(engine, ("ada", 2))
    assert engine.committer.applied_ts > last_ts
    assert [note.creation_time > created for note in Run(engine).db.query(Note)] == [False, True]
    engine.close()


def test_entries_of_every_index_match_the_documents(engine: Engine) -> None:
    ids = stored(engine, ("ada", 1), ("bob", 2))
    run = Run(engine)
    run.db.patch(ids[0], author="bob", score=3)
    run.db.delete(ids[1])
    run.commit()
    table = engine.catalog.table("notes")
    for index in table.stored_indexes:
        scan = IndexScan(table, index, (b"", b"\xff"), b"")
        assert [id for _, id in engine.scan_keys(scan, b"", b"\xff", 10)] == [ids[0]]
    assert engine.storage.check() == []
