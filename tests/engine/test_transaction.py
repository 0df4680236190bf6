"""Does a transaction see its own writes, and record exactly what it consumed?"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import reactivedb as rdb
from reactivedb.engine import Engine, RangeRead
from reactivedb.errors import ValidationError

from .notes import Note, Run, stored

Begin = Callable[[], Run]


def test_a_get_sees_what_the_transaction_wrote(engine: Engine, run: Begin) -> None:
    [old] = stored(engine, ("ada", 1))
    mine = run()
    new = mine.insert("bob", 2)
    mine.db.patch(old, score=9)
    first, second = mine.db.get(old), mine.db.get(new)
    assert first is not None
    assert second is not None
    assert (first.score, second.score) == (9, 2)
    mine.db.delete(old)
    mine.db.delete(new)
    assert (mine.db.get(old), mine.db.get(new)) == (None, None)


@pytest.mark.parametrize("is_document", [True, False])
@pytest.mark.parametrize("use", ["get", "get_many", "patch", "replace", "delete", "system"])
def test_what_is_no_text_is_refused_in_the_place_of_an_id(
    engine: Engine, run: Begin, use: str, is_document: bool
) -> None:
    mine = run()
    note = mine.db.get(mine.insert("ada", 1))
    other: Any = note if is_document else None
    doing: dict[str, Callable[[], object]] = {
        "get": lambda: mine.db.get(other),
        "get_many": lambda: mine.db.get_many([other]),
        "patch": lambda: mine.db.patch(other, score=2),
        "replace": lambda: mine.db.replace(other, {"score": 2}),
        "delete": lambda: mine.db.delete(other),
        "system": lambda: mine.db.system.get(other),
    }
    with pytest.raises(ValidationError) as caught:
        doing[use]()
    assert caught.value.code == "InvalidId"
    assert caught.value.fields["got"] == ("an object of type `Note`" if is_document else "null")


def test_a_patch_takes_fields_and_no_document(engine: Engine, run: Begin) -> None:
    [id] = stored(engine, ("ada", 1))
    mine = run()
    changes: Any
    for changes in (mine.db.get(id), "score", [("score", 2)]):
        with pytest.raises(ValidationError) as caught:
            mine.db.patch(id, changes)
        assert caught.value.code == "InvalidPatch"


@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_a_scan_merges_own_writes_into_their_places(engine: Engine, run: Begin, direction: str) -> None:
    one, three, five = stored(engine, ("ada", 1), ("ada", 3), ("ada", 5))
    mine = run()
    mine.insert("ada", 2)
    mine.db.patch(five, score=0)  # moves its key to the other end
    mine.db.delete(three)
    mine.insert("bob", 1.5)
    expected = [0, 1, 2]
    assert mine.scores(Note.by_author_score.eq("ada"), direction) == (
        expected if direction == "asc" else expected[::-1]
    )
    mine.db.patch(one, author="bob")
    assert sorted(mine.scores(Note.by_author.eq("bob"), direction)) == [1, 1.5]


def test_another_transaction_sees_nothing_before_the_commit(engine: Engine, run: Begin) -> None:
    mine = run()
    mine.insert("ada", 1)
    assert run().scores(Note) == []
    mine.commit()
    assert run().scores(Note) == [1]


@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_deleting_while_iterating_skips_what_is_gone(engine: Engine, run: Begin, direction: str) -> None:
    ids = stored(engine, *(("ada", number) for number in range(100)))
    mine = run()
    seen: list[float] = []
    for note in mine.db.query(Note.by_score).order(direction):  # pyright: ignore[reportArgumentType]
        seen.append(note.score)
        if note.score == 50:
            ahead = 51 if direction == "asc" else 49
            mine.db.delete(ids[ahead])
    assert len(seen) == 99
    assert (51 if direction == "asc" else 49) not in seen


def test_a_loop_meets_nothing_that_was_inserted_since_it_began(engine: Engine, run: Begin) -> None:
    stored(engine, ("ada", 1), ("ada", 3))
    mine = run()
    mine.insert("ada", 2)
    seen: list[float] = []
    for note in mine.db.query(Note.by_score):
        seen.append(note.score)
        mine.insert("ada", note.score + 0.5)
    assert seen == [1, 2, 3]
    # The next one does.
    assert mine.db.query(Note.by_score).count() == len(mine.db.query(Note.by_score).collect()) == 6


@pytest.mark.parametrize("seed", range(20))
def test_random_writes_and_rollbacks_look_like_a_plain_list(engine: Engine, run: Begin, seed: int) -> None:
    rng = random.Random(seed)
    rows = [(rng.choice("abc"), float(rng.randrange(6))) for _ in range(rng.randrange(40))]
    model: dict[str, tuple[str, float]] = dict(zip(stored(engine, *rows), rows, strict=True))
    order = list(model)
    mine = run()
    marks: list[tuple[int, dict[str, tuple[str, float]]]] = []
    for _ in range(60):
        match rng.randrange(6):
            case 0 | 1:
                row = (rng.choice("abc"), float(rng.randrange(6)))
                id = mine.insert(*row)
                model[id] = row
                order.append(id)
            case 2 | 3 if model:
                id, row = rng.choice(list(model)), (rng.choice("abc"), float(rng.randrange(6)))
                mine.db.patch(rdb.Id(id), author=row[0], score=row[1])
                model[id] = row
            case 4 if model:
                id = rng.choice(list(model))
                mine.db.delete(rdb.Id(id))
                del model[id]
            case _:
                if marks and rng.random() < 0.5:
                    mark, model = marks.pop(rng.randrange(len(marks)))
                    marks = [kept for kept in marks if kept[0] <= mark]
                    mine.transaction.rollback_to(mark)
                    model = dict(model)
                else:
                    marks.append((mine.transaction.mark(), dict(model)))
        expect(mine, model, order, f"seed {seed}")
    mine.commit()
    expect(run(), model, order, f"seed {seed}, committed")
    engine.cache.check()
    assert engine.storage.check() == []


def expect(mine: Run, model: dict[str, tuple[str, float]], order: list[str], label: str) -> None:
    """Every index, in both directions, and its count agree with the list."""
    age = {id: position for position, id in enumerate(order)}
    sorts = [
        (Note, lambda at: age[at]),
        (Note.by_score, lambda at: (model[at][1], age[at])),
        (Note.by_author_score, lambda at: (*model[at], age[at])),
        (Note.by_id, lambda at: at),
    ]
    for source, key in sorts:
        expected = sorted(model, key=key)
        assert [note.id for note in mine.db.query(source)] == expected, label
        assert [note.id for note in mine.db.query(source).order("desc")] == expected[::-1], label
        assert mine.db.query(source).count() == len(expected), label
    for author in "abc":
        expected = sorted(
            (id for id in model if model[id][0] == author and 1 <= model[id][1] < 4),
            key=lambda at: (model[at][1], age[at]),
        )
        source = Note.by_author_score.eq(author).gte(1).lt(4)
        assert [note.id for note in mine.db.query(source)] == expected, label
        assert mine.db.query(source).count() == len(expected), label


def test_a_rolled_back_sub_transaction_leaves_no_trace(engine: Engine, run: Begin) -> None:
    [old] = stored(engine, ("ada", 1))
    mine = run()
    mine.db.patch(old, score=2)
    mark = mine.transaction.mark()
    mine.db.delete(old)
    mine.insert("bob", 7)
    mine.transaction.rollback_to(mark)
    assert mine.scores(Note) == [2]
    mine.commit()
    assert run().scores(Note.by_score) == [2]


def test_a_document_made_and_deleted_in_one_transaction_is_no_change(engine: Engine, run: Begin) -> None:
    mine = run()
    mine.db.delete(mine.insert("ada"))
    before = engine.committer.applied_ts
    assert mine.commit() == before


# What was read


def last_read(mine: Run) -> RangeRead:
    return mine.transaction.read_set.ranges[-1]


def key_of(engine: Engine, id: str, index: str) -> bytes:
    table = engine.catalog.table("notes")
    document = engine.load(table, id)
    assert document is not None
    return document.key(table.indexes[index]).key


def test_take_reads_up_to_its_last_document_and_no_further(engine: Engine, run: Begin) -> None:
    ids = stored(engine, *(("ada", number) for number in range(10)))
    keys = [key_of(engine, id, "by_score") for id in ids]
    mine = run()
    mine.db.query(Note.by_score).take(3)
    assert [last_read(mine).contains(key) for key in keys] == [True] * 3 + [False] * 7
    mine.db.query(Note.by_score).order("desc").take(3)
    assert [last_read(mine).contains(key) for key in keys] == [False] * 7 + [True] * 3


def test_first_and_an_abandoned_loop_read_what_they_saw(engine: Engine, run: Begin) -> None:
    ids = stored(engine, *(("ada", number) for number in range(4)))
    keys = [key_of(engine, id, "by_score") for id in ids]
    mine = run()
    mine.db.query(Note.by_score).first()
    assert [last_read(mine).contains(key) for key in keys] == [True, False, False, False]
    for note in mine.db.query(Note.by_score):
        if note.score == 1:
            break
    assert [last_read(mine).contains(key) for key in keys] == [True, True, False, False]
    assert not last_read(mine).exhausted


def test_an_exhausted_or_empty_range_is_read_to_its_end(engine: Engine, run: Begin) -> None:
    stored(engine, ("ada", 1))
    mine = run()
    assert mine.db.query(Note.by_author.eq("bob")).collect() == []
    assert last_read(mine).exhausted
    [bob] = stored(engine, ("bob", 1))
    assert last_read(mine).contains(key_of(engine, bob, "by_author"))
    mine = run()
    mine.db.query(Note.by_author.eq("ada")).take(5)
    assert last_read(mine).exhausted
    assert not last_read(mine).contains(key_of(engine, bob, "by_author"))


def test_taking_nothing_reads_nothing(engine: Engine, run: Begin) -> None:
    mine = run()
    assert mine.db.query(Note).take(0) == []
    assert len(mine.transaction.read_set) == 0


def test_a_get_of_a_missing_document_is_a_read(engine: Engine, run: Begin) -> None:
    mine = run()
    gone = mine.insert("ada")
    reader = run()
    assert reader.db.get(gone) is None
    mine.commit()
    with pytest.raises(rdb.ConflictError):
        reader.commit()


def test_reading_the_same_document_again_is_one_read(engine: Engine, run: Begin) -> None:
    [id] = stored(engine, ("ada", 1))
    mine = run()
    for _ in range(3):
        mine.db.get(id)
    assert len(mine.transaction.read_set) == 1


def test_a_finished_transaction_cannot_be_read(engine: Engine, run: Begin) -> None:
    [id] = stored(engine, ("ada", 1))
    mine = run()
    left = iter(mine.db.query(Note))
    mine.commit()
    for use in (lambda: mine.db.get(id), lambda: next(left), lambda: mine.insert("bob")):
        with pytest.raises(rdb.ReactiveDBError) as caught:
            use()
        assert caught.value.code == "TransactionFinished"


# Bounds


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        ({"documents_read_max": 3}, "TooManyDocumentsRead"),
        ({"read_size_bytes_max": 300}, "TooManyBytesRead"),
        ({"ranges_read_max": 0}, "TooManyReads"),
    ],
)
def test_a_run_that_reads_too_much_is_stopped(
    limited: Callable[..., Engine], bounds: dict[str, int], code: str
) -> None:
    engine = limited(**bounds)
    stored(engine, *(("ada", number) for number in range(9)))
    with pytest.raises(rdb.LimitExceededError) as caught:
        Run(engine).db.query(Note).collect()
    assert (caught.value.code, caught.value.limit) == (code, next(iter(bounds)))


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        ({"documents_written_max": 2}, "TooManyDocumentsWritten"),
        ({"written_size_bytes_max": 200}, "TooManyBytesWritten"),
        ({"document_size_bytes_max": 30}, "DocumentTooLarge"),
    ],
)
def test_a_run_that_writes_too_much_is_stopped(
    limited: Callable[..., Engine], bounds: dict[str, int], code: str
) -> None:
    engine = limited(**bounds)
    run = Run(engine)
    with pytest.raises(rdb.LimitExceededError) as caught:
        insert_some(run)
    assert caught.value.code == code


def insert_some(run: Run) -> None:
    for _ in range(3):
        run.insert("ada")


# Ids and creation times


def test_ids_are_their_tables_and_never_repeat(engine: Engine, run: Begin) -> None:
    mine = run()
    ids = [mine.insert("ada") for _ in range(100)]
    assert len(set(ids)) == 100
    assert all(mine.db.normalize_id(Note, id) == id for id in ids)


def test_creation_times_rise_within_and_across_transactions_of_one_instant(
    engine: Engine, run: Begin
) -> None:
    for _ in range(3):
        mine = run()
        for _ in range(3):
            mine.insert("ada")
        mine.commit()
    times = [note.creation_time for note in run().db.query(Note)]
    assert times == sorted(set(times))
    assert len(times) == 9


def test_the_same_seed_gives_the_same_ids_and_random_numbers(engine: Engine) -> None:
    def draw() -> tuple[str, float]:
        engine.entropy = lambda: b"seed"
        mine = Run(engine)
        return mine.insert("ada"), mine.transaction.random.random()

    assert draw() == draw()
