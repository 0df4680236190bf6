"""What becomes of stored documents when the next version of a program declares another schema?"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline_app import app_of

import reactivedb as rdb
from reactivedb.app import Runtime, dry_run
from reactivedb.engine import Step, begin_at, schema_progress, work_step
from reactivedb.functions.db import DatabaseWriter
from reactivedb.functions.system_api import get_schemas
from reactivedb.storage import MemoryStorage, Storage, open_sqlite
from reactivedb.testing import FakeClock
from reactivedb.values import decode

LIMITS = rdb.Limits(schema_batch_documents_max=3)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Note(rdb.Document, table="notes"):
    author: str
    stars: str = "1"

    by_author = rdb.Index("author")


FIRST = app_of(Note)


class NewNote(rdb.Document, table="notes"):
    """As `Note`, but the author is called writer, and stars are numbers."""

    writer: str
    stars: float
    mood: str = "fine"

    by_writer = rdb.Index("writer")
    by_stars = rdb.Index("stars")


@rdb.migration(NewNote)
def rename_author(old: dict[str, Any]) -> dict[str, Any] | None:
    if old["author"] == "nobody":
        return None
    old["writer"] = old.pop("author").title()
    old["stars"] = float(old["stars"])
    return old


@rdb.query
def by_writer(ctx: rdb.QueryCtx, writer: str) -> list[NewNote]:
    return ctx.db.query(NewNote.by_writer.eq(writer)).collect()


@rdb.query
def all_notes(ctx: rdb.QueryCtx) -> list[NewNote]:
    return ctx.db.query(NewNote).collect()


@rdb.mutation
def add(ctx: rdb.MutationCtx, writer: str, stars: float) -> rdb.Id[NewNote]:
    return ctx.db.insert(NewNote(writer=writer, stars=stars))


SECOND = app_of(NewNote, rename_author, by_writer, all_notes, add, limits=LIMITS)


def opened(app: rdb.App, storage: Storage) -> Runtime:
    """A database that does its schema work when it is told to."""
    return Runtime(app, storage, clock=FakeClock())


class Run:
    def __init__(self, runtime: Runtime) -> None:
        self._engine = runtime.engine
        self._transaction = runtime.engine.begin()
        self.db = DatabaseWriter(self._transaction, runtime.engine.catalog)

    def commit(self) -> None:
        self._engine.commit(self._transaction)
        self._engine.flush()


def stored_notes(storage: Storage, *rows: tuple[str, str]) -> list[rdb.Id[Note]]:
    run = Run(opened(FIRST, storage))
    ids = [run.db.insert(Note(author=author, stars=stars)) for author, stars in rows]
    run.commit()
    return ids


def finish(runtime: Runtime) -> int:
    count = 0
    while work_step(runtime.engine) is not Step.NOTHING_LEFT:
        count += 1
    return count


def texts(runtime: Runtime) -> list[Any]:
    number = runtime.engine.catalog.table("notes").number
    return [decode(row.value) for row in runtime.engine.storage.scan_table(number, "", None, limit=10_000)]


def mismatch(app: rdb.App, storage: Storage) -> Any:
    """The fields of the error that opening gives; nothing may be changed by it."""
    before = storage.catalog()
    with pytest.raises(rdb.SchemaError) as caught:
        opened(app, storage)
    assert caught.value.code == "SchemaMismatch"
    assert storage.catalog() == before
    return caught.value.fields


# Migrations


def test_documents_read_in_the_new_form_before_any_of_them_is_rewritten() -> None:
    storage = MemoryStorage()
    ids = stored_notes(storage, ("ada", "2"), ("bob", "1"), ("ada", "3"))
    run = Run(opened(SECOND, storage))
    note = run.db.get(ids[0])
    assert isinstance(note, NewNote)
    assert (note.writer, note.stars, note.mood, note.id) == ("Ada", 2.0, "fine", ids[0])
    assert [note.writer for note in run.db.query(NewNote)] == ["Ada", "Bob", "Ada"]
    assert [note.stars for note in run.db.query(NewNote.by_writer.eq("Ada"))] == [2.0, 3.0]
    assert [note.stars for note in run.db.query(NewNote.by_stars)] == [1.0, 2.0, 3.0]
    run.db.patch(ids[1], stars=9.0)
    run.commit()
    assert [note.stars for note in Run(opened(SECOND, storage)).db.query(NewNote.by_stars)] == [2.0, 3.0, 9.0]


def test_each_document_is_rewritten_once_and_keeps_id_and_creation_time() -> None:
    storage = MemoryStorage()
    ids = stored_notes(storage, *((f"author{number}", str(number)) for number in range(10)))
    before = {row["_id"]: row["_creationTime"] for row in texts(opened(FIRST, storage))}
    runtime = opened(SECOND, storage)
    run = Run(runtime)
    run.db.patch(ids[4], mood="bad")  # a write is a migration too
    new = run.db.insert(NewNote(writer="New", stars=0))
    run.commit()
    last_ts = runtime.engine.committer.applied_ts
    assert finish(runtime) == 4
    after = {row["_id"]: row["_creationTime"] for row in texts(runtime) if row["_id"] != new}
    assert after == before
    assert all(set(row) == {"_id", "_creationTime", "writer", "stars", "mood"} for row in texts(runtime))
    rewritten = [write.id for _, write in storage.log(last_ts, limit=1_000)]
    assert sorted(rewritten) == sorted(set(ids) - {ids[4]})
    assert finish(opened(SECOND, storage)) == 0
    assert storage.check() == []


def test_what_a_migration_deletes_is_gone_at_once_from_every_way_of_reading() -> None:
    storage = MemoryStorage()
    ids = stored_notes(storage, ("nobody", "1"), ("ada", "1"), ("nobody", "1"), *[("nobody", "0")] * 5)
    runtime = opened(SECOND, storage)
    for _ in range(2):
        run = Run(runtime)
        assert run.db.get(ids[0]) is None
        for source in (NewNote, NewNote.by_id, NewNote.by_writer, NewNote.by_stars):
            assert [note.id for note in run.db.query(source)] == [ids[1]]
            assert [note.id for note in run.db.query(source).order("desc")] == [ids[1]]
            assert run.db.query(source).count() == 1
        finish(runtime)
    assert len(texts(runtime)) == 1
    assert storage.check() == []


STEPS = ("batch", "batch", "insert", "patch", "delete", "open")


@pytest.mark.slow
@given(
    authors=st.lists(st.sampled_from(["ada", "bob", "nobody"]), max_size=12),
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 99)), max_size=20),
)
@settings(max_examples=150, deadline=None)
def test_writes_during_a_migration_see_and_leave_what_they_would_after_it(
    authors: list[str], steps: list[tuple[str, int]]
) -> None:
    storage = MemoryStorage()
    ids = stored_notes(storage, *((author, str(n)) for n, author in enumerate(authors)))
    model = {
        id: (author.title(), float(n))
        for n, (id, author) in enumerate(zip(ids, authors, strict=True))
        if author != "nobody"
    }
    runtime = opened(SECOND, storage)
    for step, number in steps:
        run = Run(runtime)
        id = list(model)[number % len(model)] if model else None
        if step == "batch":
            work_step(runtime.engine)
        elif step == "open":
            runtime = opened(SECOND, storage)
        elif step == "insert":
            id = run.db.insert(NewNote(writer="Zed", stars=number))
            model[id] = ("Zed", number)
        elif id is not None and step == "patch":
            run.db.patch(id, stars=number)
            model[id] = (model[id][0], number)
        elif id is not None:
            run.db.delete(id)
            del model[id]
        run.commit()
        check_against(model, runtime)
    finish(runtime)
    check_against(model, runtime)
    assert storage.check() == []


def check_against(model: dict[Any, tuple[str, float]], runtime: Runtime) -> None:
    runtime.engine.cache.check()
    run = Run(runtime)
    for source in (NewNote, NewNote.by_id, NewNote.by_writer, NewNote.by_stars):
        assert {note.id: (note.writer, note.stars) for note in run.db.query(source)} == model
    assert [note.stars for note in run.db.query(NewNote.by_stars)] == sorted(s for _, s in model.values())


def test_a_migration_runs_once_and_is_remembered_by_name() -> None:
    storage = MemoryStorage()
    calls: list[str] = []

    def counted(old: dict[str, Any]) -> dict[str, Any]:
        calls.append(old["_id"])
        return old

    app = app_of(Note, rdb.migration(Note, name="counted")(counted))
    stored_notes(storage, ("ada", "1"))
    finish(opened(app, storage))
    count = len(calls)
    runtime = opened(app, storage)
    run = Run(runtime)
    run.db.insert(Note(author="bob"))
    run.commit()
    finish(runtime)
    assert [note.author for note in Run(opened(app, storage)).db.query(Note)] == ["ada", "bob"]
    assert len(calls) == count

    other = rdb.Table("other")
    taken = app_of(Note, other, rdb.migration(other, name="counted")(counted))
    with pytest.raises(rdb.SchemaError) as caught:
        opened(taken, storage)
    assert (caught.value.code, caught.value.fields["table"]) == ("MigrationNameTaken", "other")


def test_a_migration_is_declared_until_it_has_finished() -> None:
    storage = MemoryStorage()
    stored_notes(storage, *[("ada", "1")] * 5)
    runtime = opened(SECOND, storage)
    work_step(runtime.engine)
    with pytest.raises(rdb.SchemaError) as caught:
        opened(app_of(NewNote), storage)
    assert caught.value.code == "MigrationUnfinished"
    finish(opened(SECOND, storage))
    run = Run(opened(app_of(NewNote), storage))
    assert [note.writer for note in run.db.query(NewNote.by_writer)] == ["Ada"] * 5


def test_a_new_database_has_no_use_for_older_migrations() -> None:
    storage = MemoryStorage()
    runtime = opened(SECOND, storage)
    assert finish(runtime) == 0
    run = Run(runtime)
    run.db.insert(NewNote(writer="ada", stars=1))
    run.commit()
    assert [note.writer for note in Run(opened(SECOND, storage)).db.query(NewNote)] == ["ada"]


def test_migrations_of_one_table_apply_in_the_order_they_came() -> None:
    storage = MemoryStorage()
    stored_notes(storage, *[("ada", "1")] * 7)
    runtime = opened(SECOND, storage)
    work_step(runtime.engine)

    class Third(rdb.Document, table="notes"):
        name: str
        stars: float
        mood: str

        by_name = rdb.Index("name")

    @rdb.migration(Third)
    def rename_again(old: dict[str, Any]) -> Third:
        return Third(name=old["writer"] + "!", stars=old["stars"] + 1, mood=old.get("mood", "new"))

    # The first migration is of the table, whatever class stands for it now.
    first = rdb.migration(Third, name="rename_author")(rename_author.function)
    app = app_of(Third, first, rename_again, limits=LIMITS)
    for runtime in (opened(app, storage), opened(app, storage)):
        run = Run(runtime)
        assert [(note.name, note.stars) for note in run.db.query(Third.by_name)] == [("Ada!", 2.0)] * 7
        finish(runtime)
    assert {row["name"] for row in texts(runtime)} == {"Ada!"}
    assert [row.finished for row in schema_progress(runtime.engine)] == [True, True]


def test_a_function_that_is_edited_half_way_has_its_indexes_built_again() -> None:
    storage = MemoryStorage()
    stored_notes(storage, *[("ada", "1")] * 5)
    work_step(opened(SECOND, storage).engine)

    @rdb.migration(NewNote, name="rename_author")
    def edited(old: dict[str, Any]) -> dict[str, Any]:
        return {"writer": old["author"].upper(), "stars": 5}

    runtime = opened(app_of(NewNote, edited), storage)
    for _ in range(2):
        run = Run(runtime)
        assert sorted(note.writer for note in run.db.query(NewNote.by_writer)) == ["ADA"] * 2 + ["Ada"] * 3
        finish(runtime)
    assert storage.check() == []


def test_a_migration_that_fails_for_some_documents_changes_nothing() -> None:
    storage = MemoryStorage()
    ids = stored_notes(storage, ("ada", "1"), ("bob", "many"), ("cleo", "3"))
    fields = mismatch(SECOND, storage)
    assert fields["count"] == 1
    [offender] = fields["offenders"]
    assert offender.id == ids[1]
    assert "could not convert" in offender.got
    assert [note.author for note in Run(opened(FIRST, storage)).db.query(Note)] == ["ada", "bob", "cleo"]


def test_what_a_migration_gives_is_checked_like_any_document() -> None:
    storage = MemoryStorage()
    stored_notes(storage, ("ada", "1"))

    @rdb.migration(NewNote)
    def forgets(old: dict[str, Any]) -> dict[str, Any]:
        return {"writer": old["author"], "stars": "three"}

    [offender] = mismatch(app_of(NewNote, forgets), storage)["offenders"]
    assert (offender.path, offender.expected, offender.got) == (".stars", "v.number()", "`'three'`")


def test_ids_that_a_migration_gives_are_those_of_the_field_s_table() -> None:
    class Author(rdb.Document, table="authors"):
        name: str

    class Signed(rdb.Document, table="notes"):
        author_id: rdb.Id[Author]

    storage = MemoryStorage()
    [note_id] = stored_notes(storage, ("ada", "1"))

    @rdb.migration(Signed)
    def points_at_itself(old: dict[str, Any]) -> dict[str, Any]:
        return {"authorId": old["_id"]}

    [offender] = mismatch(app_of(Author, Signed, points_at_itself), storage)["offenders"]
    assert (offender.path, offender.expected, offender.got) == (".authorId", "authors", note_id)


def test_stored_texts_that_become_ids_are_checked_for_their_table() -> None:
    class Loose(rdb.Document, table="links"):
        to: str

    class Strict(rdb.Document, table="links"):
        to: rdb.Id[Note]

    storage = MemoryStorage()
    [note_id] = stored_notes(storage, ("ada", "1"))
    run = Run(opened(app_of(Note, Loose), storage))
    link_id = run.db.insert(Loose(to=note_id))
    run.commit()
    opened(app_of(Note, Strict), storage)
    run = Run(opened(app_of(Note, Loose), storage))
    run.db.insert(Loose(to=link_id))
    run.commit()
    [offender] = mismatch(app_of(Note, Strict), storage)["offenders"]
    assert (offender.path, offender.expected, offender.got) == (".to", "notes", link_id)


def test_what_a_migration_makes_of_a_document_has_its_limits_too() -> None:
    storage = MemoryStorage()
    stored_notes(storage, ("ada", "1"))

    @rdb.migration(Note)
    def grow(old: dict[str, Any]) -> dict[str, Any]:
        return {**old, "author": "a" * 2_000}

    small = rdb.Limits(document_size_bytes_max=2_000)
    [offender] = mismatch(app_of(Note, grow, limits=small), storage)["offenders"]
    assert (offender.expected, int(offender.got) > 2_000) == ("2000", True)


def test_a_migration_that_gives_something_else_each_time_is_refused() -> None:
    storage = MemoryStorage()
    stored_notes(storage, ("ada", "1"))
    numbers = itertools.count()

    @rdb.migration(NewNote)
    def counting(old: dict[str, Any]) -> NewNote:
        return NewNote(writer=old["author"], stars=next(numbers))

    [offender] = mismatch(app_of(NewNote, counting), storage)["offenders"]
    assert "something else each time" in offender.message


def test_views_of_the_past_show_older_versions_in_the_new_form() -> None:
    storage = MemoryStorage()
    [id] = stored_notes(storage, ("ada", "1"))
    runtime = opened(SECOND, storage)
    then = runtime.engine.committer.applied_ts
    finish(runtime)
    run = Run(runtime)
    run.db.patch(id, stars=7)
    run.commit()
    past = DatabaseWriter(begin_at(runtime.engine, then), runtime.engine.catalog)
    assert [(note.writer, note.stars) for note in past.query(NewNote.by_writer.eq("Ada"))] == [("Ada", 1.0)]


def test_rewriting_wakes_no_live_query(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    storage = open_sqlite(path)
    stored_notes(storage, *[("ada", "1")] * 20)
    storage.close()
    with SECOND.open(path) as db, db.subscribe(all_notes) as live:
        assert len(live.value) == 20
        db.run_until_idle()
        assert live.run_count == 1
        [progress] = db.schema_progress()
        assert (progress.name, progress.done, progress.total, progress.finished) == (
            "rename_author",
            20,
            20,
            True,
        )
        db.mutation(add, writer="Zed", stars=1)
        assert len(live.wait_for_change(timeout_s=5)) == 21


async def coroutine(old: dict[str, Any]) -> dict[str, Any]:
    return old


def generator(old: dict[str, Any]) -> Any:
    yield old


def five(old: dict[str, Any]) -> Any:
    return 5


def of_nothing() -> Any:
    return None


def of_two(ctx: Any, old: dict[str, Any]) -> Any:
    return old


class WithoutTable(rdb.Document):
    pass


def twice() -> None:
    module = app_of(Note).modules[0]
    vars(module).update(a=rdb.migration(Note)(five), b=rdb.migration(Note)(five))
    rdb.App(module, root="")


@pytest.mark.parametrize(
    ("declare", "code"),
    [
        (lambda: rdb.migration(Note)(coroutine), "InvalidMigration"),  # pyright: ignore[reportArgumentType]
        (lambda: rdb.migration(Note)(generator), "InvalidMigration"),
        (lambda: rdb.migration(Note)(of_nothing), "InvalidMigration"),  # pyright: ignore[reportArgumentType]
        (lambda: rdb.migration(Note)(of_two), "InvalidMigration"),  # pyright: ignore[reportArgumentType]
        (lambda: rdb.migration(five), "NotATable"),  # pyright: ignore[reportArgumentType, reportCallIssue]
        (lambda: rdb.migration("notes"), "NotATable"),  # pyright: ignore[reportArgumentType, reportCallIssue]
        (lambda: rdb.migration(WithoutTable), "NotATable"),
        (twice, "DuplicateMigration"),
        (lambda: app_of(rename_author), "UnknownTable"),
    ],
)
def test_declarations_that_cannot_work_are_refused(declare: Callable[[], object], code: str) -> None:
    with pytest.raises(rdb.SchemaError) as caught:
        declare()
    assert caught.value.code == code


def test_a_migration_gives_a_document_or_none() -> None:
    storage = MemoryStorage()
    stored_notes(storage, ("ada", "1"))
    [offender] = mismatch(app_of(Note, rdb.migration(Note)(five)), storage)["offenders"]
    assert "returns a dict, a document or None, got `int`" in offender.message


# Changes without a migration


def test_an_addition_with_a_default_needs_no_migration_and_one_with_a_factory_does() -> None:
    storage = MemoryStorage()
    stored_notes(storage, ("ada", "1"))

    class Longer(rdb.Document, table="notes"):
        author: str
        stars: str = "1"
        mood: str = "fine"
        link: str | None = None

    assert [note.mood for note in Run(opened(app_of(Longer), storage)).db.query(Longer)] == ["fine"]

    class Made(rdb.Document, table="notes"):
        author: str
        stars: str = "1"
        tags: list[str] = pydantic.Field(default_factory=list)

    [offender] = mismatch(app_of(Made), storage)["offenders"]
    assert (offender.path, offender.expected, offender.got) == (".tags", "v.array(v.string())", "nothing")


def test_a_default_that_is_dropped_and_a_rule_that_is_added_are_checked() -> None:
    storage = MemoryStorage()

    class Short(rdb.Document, table="notes"):
        author: str

    run = Run(opened(app_of(Short), storage))
    run.db.insert(Short(author="ada"))
    run.commit()
    opened(FIRST, storage)  # `stars` is filled in as it is read

    class Required(rdb.Document, table="notes"):
        author: str
        stars: str

    assert mismatch(app_of(Required), storage)["offenders"][0].path == ".stars"

    class Constrained(rdb.Document, table="notes"):
        author: str = pydantic.Field(min_length=4)
        stars: str = "1"

    assert mismatch(app_of(Constrained), storage)["offenders"][0].path == ".author"


def test_a_document_at_which_a_validator_fails_is_listed_too() -> None:
    storage = MemoryStorage()
    ids = stored_notes(storage, ("ada", "1"), ("bob", "x"))

    class Strict(rdb.Document, table="notes"):
        author: str
        stars: str = "1"

        @pydantic.field_validator("stars")
        @classmethod
        def whole(cls, stars: str) -> str:
            return {"1": "1"}[stars]

    [offender] = mismatch(app_of(Strict), storage)["offenders"]
    assert (offender.id, offender.got) == (ids[1], "KeyError: 'x'")


def test_an_offender_says_what_is_in_its_way() -> None:
    storage = MemoryStorage()
    first, second = stored_notes(storage, ("ada", "1"), ("ada", "2"))

    class OneEach(rdb.Document, table="notes"):
        author: str
        stars: str = "1"

        by_author = rdb.Index("author", unique=True)

    [offender] = mismatch(app_of(OneEach), storage)["offenders"]
    assert (offender.id, offender.got) == (second, f"`'ada'` which `{first}` has")

    def without_name(old: dict[str, Any]) -> dict[str, Any]:
        return {"author": old["name"]}

    offender = mismatch(app_of(Note, rdb.migration(Note)(without_name)), storage)["offenders"][0]
    assert offender.expected == "what migration `without_name` makes of it"
    assert offender.got == "KeyError: 'name'"


def test_a_schema_that_is_the_same_is_not_checked_again() -> None:
    storage = MemoryStorage()
    stored_notes(storage, ("ada", "1"))
    asked: list[str] = []

    def strict() -> rdb.App:
        class Strict(rdb.Document, table="notes"):
            author: str
            stars: str = "1"

            @pydantic.field_validator("author")
            @classmethod
            def remember(cls, author: str) -> str:
                asked.append(author)
                return author

        return app_of(Strict)

    opened(strict(), storage)
    assert asked == ["ada"]
    opened(strict(), storage)
    assert asked == ["ada"]


def test_a_check_lists_what_changes_and_what_breaks_beside_an_open_database(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    extra = rdb.Table("extra")
    with app_of(Note, extra).open(path) as db:
        with db.runtime.engine.lock:
            run = Run(db.runtime)
            for number in range(12):
                run.db.insert(Note(author="ada", stars=f"x{number}"))
            run.commit()
        before = path.read_bytes()
        report = app_of(Note, rdb.Table("new")).check_schema(path)
        assert [str(change) for change in report.changes] == [
            "table `new` is added",
            "table `extra` is declared no more",
        ]
        with pytest.raises(rdb.SchemaError) as caught:
            app_of(NewNote).check_schema(path)
        fields = caught.value.fields
        assert (len(fields["offenders"]), fields["count"]) == (10, 12)
        assert "index `notes.by_author` is dropped" in map(str, fields["changes"])
        assert path.read_bytes() == before
        assert sorted(file.name for file in tmp_path.iterdir() if file.is_dir()) == []


def test_a_check_of_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    path.write_bytes(b"garbage " * 100)
    with pytest.raises(rdb.StorageError) as caught:
        FIRST.check_schema(path)
    assert caught.value.code == "DatabaseCorrupt"
    assert "not an error" not in caught.value.message


def test_a_check_without_data_finds_everything_new(tmp_path: Path) -> None:
    report = FIRST.check_schema(tmp_path / "none.db")
    assert "table `notes` is added" in map(str, report.changes)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_shows_the_first_documents_before_and_after(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    storage = open_sqlite(path)
    ids = stored_notes(storage, *[("ada", "1")] * 12, ("nobody", "0"))
    storage.close()
    [preview] = dry_run(SECOND, path)
    assert (preview.total, preview.changed, preview.deleted, len(preview.examples)) == (13, 12, 1, 10)
    id, before, after = next(row for row in preview.examples if row[2] is not None)
    assert id in ids
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert (before["author"], after["writer"]) == ("ada", "Ada")
    with FIRST.open(path) as db, db.runtime.engine.lock:
        assert len(Run(db.runtime).db.query(Note).collect()) == 13


# While the database serves


plain = rdb.Table("docs")
indexed = rdb.Table("docs", indexes={"by_x": ["x"]})


@rdb.migration(indexed)
def double(old: dict[str, Any]) -> dict[str, Any]:
    return {"x": old["x"] * 2, "y": "migrated"}


@rdb.mutation
def change(ctx: rdb.MutationCtx, id: str, seed: int) -> None:
    choices = random.Random(seed)
    if ctx.db.get(id) is not None:
        if choices.random() < 0.3:
            ctx.db.delete(rdb.Id(id))
        else:
            ctx.db.patch(rdb.Id(id), x=choices.random())
    ctx.db.insert(indexed, {"x": choices.random()})


@rdb.query
def in_both_orders(ctx: rdb.QueryCtx) -> list[list[str]]:
    by_table = sorted(ctx.db.query(indexed), key=lambda row: (row["x"], row["_creationTime"]))
    return [[row["_id"] for row in rows] for rows in (by_table, ctx.db.query(indexed.index("by_x")))]


@pytest.mark.slow
@pytest.mark.parametrize("members", [(), (double,)], ids=["index", "migration"])
def test_threads_write_while_the_work_goes_on(tmp_path: Path, members: tuple[rdb.Migration, ...]) -> None:
    path = tmp_path / "data.db"
    storage = open_sqlite(path, durability="relaxed")
    run = Run(opened(app_of(plain), storage))
    ids = [run.db.insert(plain, {"x": number}) for number in range(1_000)]
    run.commit()
    storage.close()
    limits = rdb.Limits(documents_indexed_at_open_max=5, schema_batch_documents_max=10)
    app = app_of(indexed, change, in_both_orders, *members, limits=limits)
    with app.open(path, durability="relaxed") as db:

        def work(start: int) -> None:
            for number in range(start, start + 50):
                db.mutation(change, ids[number * 6], number)

        threads = [threading.Thread(target=work, args=(start,)) for start in (0, 50, 100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        db.run_until_idle(timeout_s=60)
        by_table, by_index = db.query(in_both_orders)
        assert len(by_table) == 1_000 + 150 - sum(random.Random(n).random() < 0.3 for n in range(150))
        assert by_index == by_table
        assert all(row.finished for row in db.schema_progress())
        assert db.runtime.engine.storage.check() == []


@pytest.mark.anyio
async def test_a_reload_takes_a_schema_or_leaves_the_old_one_serving() -> None:
    async with FIRST.open_async() as db:
        runtime = db.runtime
        run = Run(runtime)
        run.db.insert(Note(author="ada", stars="many"))
        run.commit()
        with pytest.raises(rdb.SchemaError):
            runtime.reload(SECOND)
        run = Run(runtime)
        [note] = run.db.query(Note.by_author)
        assert note.author == "ada"
        run.db.patch(note.id, stars="4")
        run.commit()
        runtime.reload(SECOND)
        assert [note.writer for note in await db.query(by_writer, "Ada")] == ["Ada"]
        await db.run_until_idle()
        assert [note.stars for note in await db.query(all_notes)] == [4.0]
        assert texts(runtime)[0]["writer"] == "Ada"


@pytest.mark.anyio
async def test_a_live_query_of_an_index_becomes_right_when_the_index_is_built() -> None:
    @rdb.query
    def ordered(ctx: rdb.QueryCtx) -> list[str]:
        return [note.stars for note in ctx.db.query(Starred.by_stars)]

    class Starred(rdb.Document, table="notes"):
        author: str
        stars: str = "1"

        by_stars = rdb.Index("stars")

    limits = rdb.Limits(documents_indexed_at_open_max=5, schema_batch_documents_max=3)
    async with app_of(Note, limits=limits).open_async() as db:
        run = Run(db.runtime)
        for number in range(9):
            run.db.insert(Note(author="ada", stars=str(number)))
        run.commit()
        db.runtime.reload(app_of(Starred, ordered))
        async with db.subscribe(ordered) as live:
            with pytest.raises(rdb.RequestError) as caught:
                await live.wait_for_change()
            assert caught.value.code == "IndexNotReady"
            await db.run_until_idle()
            assert await live.wait_for_change() == [str(number) for number in range(9)]


@pytest.mark.anyio
@pytest.mark.parametrize("change", ["index", "migration"])
async def test_who_follows_the_schema_sees_what_is_in_progress_and_when_it_is_done(change: str) -> None:
    class Starred(rdb.Document, table="notes"):
        author: str
        stars: str = "1"

        by_stars = rdb.Index("stars")

    limits = rdb.Limits(documents_indexed_at_open_max=5, schema_batch_documents_max=3)
    async with app_of(Note, limits=limits).open_async() as db, db.subscribe(get_schemas) as results:
        seen = aiter(results)
        first = await anext(seen)
        run = Run(db.runtime)
        for number in range(9):
            run.db.insert(Note(author="ada", stars=str(number)))
        run.commit()
        members = (Starred,) if change == "index" else (NewNote, rename_author)
        db.runtime.reload(app_of(*members, limits=limits))
        schemas = await anext(seen)
        assert set(first) == {"active"} != set(schemas)
        while "inProgress" in schemas:
            coming = schemas["inProgress"]
            if change == "index":
                assert ('"by_stars"' in schemas["active"], '"by_stars"' in coming) == (False, True)
            schemas = await anext(seen)
        assert schemas == {"active": coming}
        await db.run_until_idle()
