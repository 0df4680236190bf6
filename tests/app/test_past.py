"""How far back can the past be read, what does it show, and what is given up?"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.app import CallResult
from reactivedb.functions import ADMIN, ANONYMOUS, Identity
from reactivedb.testing import FakeClock

HOUR_S = 3600.0


class Note(rdb.Document, table="notes"):
    author: str
    score: float = 0

    by_author = rdb.Index("author")


@rdb.mutation
def add(ctx: rdb.MutationCtx, author: str) -> rdb.Id[Note]:
    return ctx.db.insert(Note(author=author))


@rdb.mutation
def set_score(ctx: rdb.MutationCtx, id: rdb.Id[Note], score: float) -> None:
    ctx.db.patch(id, score=score)


@rdb.mutation
def remove(ctx: rdb.MutationCtx, id: rdb.Id[Note]) -> None:
    ctx.db.delete(id)


@rdb.query
def scores(ctx: rdb.QueryCtx, author: str) -> list[float]:
    return [note.score for note in ctx.db.query(Note.by_author.eq(author))]


@rdb.query
def moment(ctx: rdb.QueryCtx) -> float:
    return ctx.now_ms


def app(**limits: float) -> rdb.App:
    bounds = rdb.Limits(**limits)  # pyright: ignore[reportArgumentType]
    return app_of(Note, add, set_score, remove, scores, moment, limits=bounds)


def test_a_view_shows_every_query_as_of_its_timestamp() -> None:
    with app().open() as db:
        id = db.mutation(add, "ada")
        first = db.latest_ts
        db.mutation(set_score, id, 2)
        second = db.latest_ts
        db.mutation(remove, id)
        with db.at(first) as then:
            assert then.ts == first
            assert then.query(scores, "ada") == [0]
            assert then.query(moment) == first / 1e6
        assert db.at(second).query(scores, "ada") == [2]
        assert db.at(0).query(scores, "ada") == []
        assert db.query(scores, "ada") == []


def test_a_view_in_an_event_loop_shows_the_same() -> None:
    async def run() -> None:
        async with app().open_async() as db:
            id = await db.mutation(add, "ada")
            then = db.latest_ts
            await db.mutation(set_score, id, 2)
            with db.at(then) as past:
                assert await past.query(scores, "ada") == [0]
            assert [version.ts for version in db.history(id)] == [db.latest_ts, then]
            assert db.retention_report().latest_ts == db.latest_ts

    asyncio.run(run())


def test_a_mutation_cannot_be_run_in_the_past() -> None:
    with app().open() as db, pytest.raises(rdb.ValidationError) as caught:
        db.at(0).query(add, "ada")  # pyright: ignore[reportArgumentType]
    assert caught.value.code == "WrongKind"


def test_a_time_that_has_not_come_is_refused_when_the_view_is_made() -> None:
    with app().open() as db, pytest.raises(rdb.ValidationError) as caught:
        db.at(db.latest_ts + 10**18)
    assert caught.value.code == "TimestampOutOfRange"


def test_the_history_of_a_document_ends_with_its_deletion() -> None:
    with app().open() as db:
        id = db.mutation(add, "ada")
        db.mutation(set_score, id, 1)
        db.mutation(set_score, id, 2)
        db.mutation(remove, id)
        versions = db.history(id)
        assert [version.is_deleted for version in versions] == [True, False, False, False]
        assert [note.score for version in versions if (note := version.document)] == [2, 1, 0]
        assert [version.ts for version in versions] == sorted((v.ts for v in versions), reverse=True)
        assert versions[0].fields is None
        fields = versions[1].fields
        assert fields is not None
        assert fields["_id"] == id
        assert len(db.history(id, limit=2)) == 2


def test_the_history_of_an_id_that_never_was_is_empty() -> None:
    with app().open() as db:
        id = db.mutation(add, "ada")
    with app().open() as db:
        db.mutation(add, "ada")
        assert db.history(id) == []


def test_what_is_older_than_it_is_kept_cannot_be_read() -> None:
    clock = FakeClock()
    with app(log_retention_s=HOUR_S).open(clock=clock) as db:
        id = db.mutation(add, "ada")
        first = db.latest_ts
        clock.advance(HOUR_S / 2)
        db.mutation(set_score, id, 1)
        second = db.latest_ts
        clock.advance(HOUR_S * 3 / 4)
        db.mutation(set_score, id, 2)
        # The first commit is too old, but still the newest one before the horizon.
        assert db.at(first).query(scores, "ada") == [0]
        clock.advance(HOUR_S)
        db.mutation(set_score, id, 3)
        with pytest.raises(rdb.ValidationError) as caught:
            db.at(first)
        assert caught.value.code == "TimestampOutOfRange"
        assert "log_retention_s" in caught.value.message
        report = db.retention_report()
        assert first < second < report.oldest_ts
        assert (report.write_count, report.forgotten_count) == (1, 2)
        assert db.at(report.oldest_ts).query(scores, "ada") == [2]
        assert [v.document and v.document.score for v in db.history(id)] == [3, 2]


def test_what_is_more_than_is_kept_cannot_be_read() -> None:
    with app(log_retention_size_bytes_max=2_000).open() as db:
        id = db.mutation(add, "ada")
        for score in range(100):
            db.mutation(set_score, id, score)
        report = db.retention_report()
        assert report.size_bytes <= 2_000 * 17 / 16
        assert 5 < report.write_count < 20
        assert report.write_count + report.forgotten_count == 100
        with db.at(report.oldest_ts) as then:
            assert then.query(scores, "ada") == [99 - report.write_count]
        assert db.runtime.engine.storage.check() == []


def test_a_view_in_use_holds_what_it_shows() -> None:
    with app(log_retention_size_bytes_max=0).open() as db:
        id = db.mutation(add, "ada")
        with db.at(db.latest_ts) as then:
            for score in range(20):
                db.mutation(set_score, id, score)
            assert then.query(scores, "ada") == [0]
            assert db.retention_report().forgotten_count == 0
        db.mutation(set_score, id, 20)
        assert db.retention_report().forgotten_count == 21
        with pytest.raises(rdb.ValidationError):
            then.query(scores, "ada")


def test_opening_gives_up_what_has_grown_too_old(tmp_path: Path) -> None:
    clock = FakeClock()
    with app().open(tmp_path / "data.db", clock=clock) as db:
        id = db.mutation(add, "ada")
        for score in range(10):
            db.mutation(set_score, id, score)
    clock.advance(25 * HOUR_S)
    with app().open(tmp_path / "data.db", clock=clock) as db:
        report = db.retention_report()
        assert report.forgotten_count == 10
        assert report.oldest_ts == report.latest_ts
        assert db.query(scores, "ada") == [9]
        assert db.runtime.engine.storage.check() == []


def test_giving_up_keeps_pace_with_any_rate_of_writing() -> None:
    with app(log_retention_size_bytes_max=10_000).open() as db:
        ids = [db.mutation(add, "ada") for _ in range(300)]
        for id in ids:
            db.mutation(set_score, id, 1)
        assert db.retention_report().size_bytes <= 10_000 * 17 / 16


def test_a_caller_over_the_wire_is_told_what_is_too_old() -> None:
    async def run() -> None:
        async with app(log_retention_size_bytes_max=0).open_async() as db:
            id = await db.mutation(add, "ada")
            then = db.latest_ts
            await db.mutation(set_score, id, 1)
            now = await db.runtime.call("query", "notes:scores", {"author": "ada"}, at_ts=db.latest_ts)
            assert (now.value, now.ts) == (b"[1]", db.latest_ts)
            refused = await db.runtime.call("query", "notes:scores", {"author": "ada"}, at_ts=then)
            assert refused.error is not None
            assert refused.error.message.startswith("TimestampOutOfRange")

    asyncio.run(run())


def test_what_was_deleted_is_soon_gone_for_callers_without_the_admin_key() -> None:
    clock = FakeClock()

    async def run() -> None:
        async with app().open_async(clock=clock) as db:
            id = await db.mutation(add, "ada")
            then = db.latest_ts

            async def seen(*, identity: Identity = ANONYMOUS) -> CallResult:
                arguments = {"author": "ada"}
                return await db.runtime.call(
                    "query", "notes:scores", arguments, identity=identity, at_ts=then
                )

            clock.advance(HOUR_S)
            assert (await seen()).value == b"[0]"  # still the newest
            await db.mutation(remove, id)
            clock.advance(60)
            assert (await seen()).value == b"[0]"
            clock.advance(1)
            refused = (await seen()).error
            assert refused is not None
            assert "was replaced 61 s ago" in refused.message
            assert (await seen(identity=ADMIN)).value == b"[0]"

    asyncio.run(run())
