"""Does a view of the past show what was true then?"""

from __future__ import annotations

import random

import pytest

import reactivedb as rdb
from reactivedb.engine import Engine, begin_at
from reactivedb.functions.db import DatabaseReader

from .notes import Note, Run, stored


def at(engine: Engine, ts: int) -> list[tuple[str, float]]:
    reader = DatabaseReader(begin_at(engine, ts), engine.catalog)
    by_age = [(note.author, note.score) for note in reader.query(Note)]
    by_score = [(note.author, note.score) for note in reader.query(Note.by_score)]
    assert sorted(by_age) == sorted(by_score)
    assert [score for _, score in by_score] == sorted(score for _, score in by_score)
    assert reader.query(Note).count() == len(by_age)
    return by_age


def test_every_earlier_timestamp_shows_its_own_state(engine: Engine) -> None:
    rng = random.Random(7)
    model: dict[str, tuple[str, float]] = {}
    history: list[tuple[int, list[tuple[str, float]]]] = []
    for _ in range(40):
        run = Run(engine)
        for _ in range(rng.randrange(1, 4)):
            row = (rng.choice("ab"), float(rng.randrange(5)))
            if model and rng.random() < 0.6:
                id = rdb.Id[Note](rng.choice(list(model)))
                if rng.random() < 0.4:
                    run.db.delete(id)
                    del model[id]
                else:
                    run.db.patch(id, author=row[0], score=row[1])
                    model[id] = row
            else:
                model[run.insert(*row)] = row
        history.append((run.commit(), list(model.values())))
    for ts, expected in history:
        assert at(engine, ts) == expected, f"at {ts}"
    assert at(engine, 0) == []


def test_a_time_that_has_not_come_cannot_be_read(engine: Engine) -> None:
    stored(engine, ("ada", 1))
    for ts in (-1, engine.committer.applied_ts + 1):
        with pytest.raises(rdb.ValidationError) as caught:
            begin_at(engine, ts)
        assert caught.value.code == "TimestampOutOfRange"


def test_a_view_of_the_past_leaves_the_newest_state_alone(engine: Engine) -> None:
    [id] = stored(engine, ("ada", 1))
    then = engine.committer.applied_ts
    run = Run(engine)
    run.db.patch(id, score=2)
    run.commit()
    assert at(engine, then) == [("ada", 1)]
    assert Run(engine).scores(Note) == [2]
    engine.cache.check()
