"""What does a loop over a query meet of what its own body writes?"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from inline_app import app_of

import reactivedb as rdb


class Task(rdb.Document, table="tasks"):
    title: str
    rank: float
    kind: str = "a"

    by_rank = rdb.Index("rank")
    by_kind_rank = rdb.Index("kind", "rank")


def in_mutation(body: Callable[[rdb.MutationCtx], Any], *rows: tuple[str, float]) -> Any:
    """What a mutation gives that runs over these tasks."""
    results: list[Any] = []

    @rdb.mutation
    def fill(ctx: rdb.MutationCtx) -> None:
        for title, rank in rows:
            ctx.db.insert(Task(title=title, rank=rank))

    @rdb.mutation
    def change(ctx: rdb.MutationCtx) -> None:
        results.append(body(ctx))

    with app_of(Task, fill, change).open() as db:
        db.mutation(fill)
        db.mutation(change)
    return results[0]


ROWS = [("one", 1.0), ("two", 2.0), ("three", 3.0)]

QUERIES: dict[str, Callable[[rdb.MutationCtx], Any]] = {
    "range": lambda ctx: ctx.db.query(Task.by_rank),
    "filter": lambda ctx: ctx.db.query(Task.by_rank).filter(lambda task: task.rank > 0),
    "merge": lambda ctx: ctx.db.merge(Task.by_rank.lt(2), Task.by_rank.gte(2)),
    "distinct": lambda ctx: ctx.db.query(Task.by_rank).distinct("rank"),
    "join": lambda ctx: ctx.db.query(Task.by_rank).join(lambda task: ctx.db.get(task.id)),
}


@pytest.mark.parametrize("how", QUERIES)
def test_a_loop_that_patches_its_own_order_meets_each_document_once(how: str) -> None:
    def body(ctx: rdb.MutationCtx) -> list[str]:
        met: list[str] = []
        for task in QUERIES[how](ctx):
            met.append(task.title)
            ctx.db.patch(task.id, rank=task.rank + 1.5)
        assert [task.rank for task in ctx.db.query(Task.by_rank)] == [2.5, 3.5, 4.5]
        return met

    assert in_mutation(body, *ROWS) == ["one", "two", "three"]


def test_a_loop_downwards_does_too() -> None:
    def body(ctx: rdb.MutationCtx) -> list[str]:
        met: list[str] = []
        for task in ctx.db.query(Task.by_rank).order("desc"):
            met.append(task.title)
            ctx.db.patch(task.id, rank=task.rank - 1.5)
        return met

    assert in_mutation(body, *ROWS) == ["three", "two", "one"]


@pytest.mark.parametrize("how", QUERIES)
def test_what_a_loop_moves_back_to_where_it_lay_before_the_run_is_not_met_again(how: str) -> None:
    def body(ctx: rdb.MutationCtx) -> list[str]:
        three = next(task for task in ctx.db.query(Task) if task.title == "three")
        ctx.db.patch(three.id, rank=0.5)
        met: list[str] = []
        for task in QUERIES[how](ctx):
            met.append(task.title)
            if task.title == "three":
                ctx.db.patch(task.id, rank=3)
        assert [task.rank for task in ctx.db.query(Task.by_rank)] == [1, 2, 3]
        return met

    assert in_mutation(body, *ROWS) == ["three", "one", "two"]


@pytest.mark.parametrize("how", [*QUERIES, "table"])
def test_a_loop_that_inserts_what_it_meets_ends(how: str) -> None:
    def body(ctx: rdb.MutationCtx) -> list[str]:
        met: list[str] = []
        for task in ctx.db.query(Task) if how == "table" else QUERIES[how](ctx):
            met.append(task.title)
            ctx.db.insert(Task(title=task.title + " again", rank=task.rank + 0.5))
        assert ctx.db.query(Task).count() == 6
        return met

    assert in_mutation(body, *ROWS) == ["one", "two", "three"]


def test_what_moves_ahead_is_met_where_it_went_and_what_leaves_is_not() -> None:
    def body(ctx: rdb.MutationCtx) -> list[str]:
        tasks = {task.title: task for task in ctx.db.query(Task)}
        met: list[str] = []
        for task in ctx.db.query(Task.by_kind_rank.eq("a")):
            if not met:
                ctx.db.patch(tasks["two"].id, rank=9)
                ctx.db.patch(tasks["three"].id, kind="b")
                ctx.db.delete(tasks["four"].id)
            met.append(task.title)
        return met

    assert in_mutation(body, *ROWS, ("four", 4.0), ("five", 5.0)) == ["one", "five", "two"]


def test_an_undone_write_is_met_again() -> None:
    @rdb.mutation
    def remove_and_fail(ctx: rdb.MutationCtx, id: rdb.Id[Task]) -> None:
        ctx.db.patch(id, rank=100)
        raise rdb.ApplicationError("no")

    met: list[str] = []

    @rdb.mutation
    def change(ctx: rdb.MutationCtx) -> None:
        ids = [ctx.db.insert(Task(title=title, rank=rank)) for title, rank in ROWS]
        for task in ctx.db.query(Task.by_rank):
            met.append(task.title)
            for id in ids:
                with pytest.raises(rdb.ApplicationError):
                    ctx.run_mutation(remove_and_fail, id)

    with app_of(Task, remove_and_fail, change).open() as db:
        db.mutation(change)
    assert met == ["one", "two", "three"]


@pytest.mark.parametrize("seed", range(30))
def test_random_loops_agree_with_the_rule_for_them(seed: int) -> None:
    """A plain list of ranks, looked through from each place for the next that may be met."""
    rng = random.Random(seed)
    rows = [(str(number), float(rng.randrange(100))) for number in range(rng.randrange(1, 30))]

    def body(ctx: rdb.MutationCtx) -> None:
        ids: dict[str, rdb.Id[Task]] = {}
        model: dict[str, float] = {}
        for task in ctx.db.query(Task):
            ids[task.title], model[task.title] = task.id, task.rank
        eligible, place = set(model), (-1.0, -1.0)
        created = {title: number for number, title in enumerate(model)}

        def expected() -> str | None:
            ahead = [
                (model[title], created[title], title)
                for title in eligible
                if title in model and (model[title], created[title]) > place
            ]
            return min(ahead)[2] if ahead else None

        for task in ctx.db.query(Task.by_rank):
            assert task.title == expected(), seed
            place = (task.rank, created[task.title])
            eligible.discard(task.title)
            for _ in range(rng.randrange(3)):
                title = rng.choice(list(created))
                match rng.randrange(3):
                    case 0:
                        new = f"new {len(created)}"
                        rank = float(rng.randrange(100))
                        ids[new] = ctx.db.insert(Task(title=new, rank=rank))
                        model[new], created[new] = rank, len(created)
                    case 1 if title in model:
                        model[title] = float(rng.randrange(100))
                        ctx.db.patch(ids[title], rank=model[title])
                    case 2 if title in model:
                        del model[title]
                        ctx.db.delete(ids[title])
                    case _:
                        pass
        assert expected() is None, seed

    in_mutation(body, *rows)


def test_a_loop_over_many_documents_may_double_them() -> None:
    def body(ctx: rdb.MutationCtx) -> int:
        for task in ctx.db.query(Task.by_rank):
            ctx.db.insert(Task(title="again", rank=task.rank + 0.5))
        return ctx.db.query(Task).count()

    assert in_mutation(body, *((str(number), float(number)) for number in range(300))) == 600
