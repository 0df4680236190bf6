"""Do live pages stay one list, without a gap and without a duplicate, whatever is written?"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.functions import ANONYMOUS, Identity
from reactivedb.values import decode

from .live_pages import Hook, World

LONG = bool(os.environ.get("REACTIVEDB_LONG"))
cards = rdb.Table("cards", indexes={"by_board": ["board", "rank"], "by_rank": ["rank"]})
BOARDS = ["a", "b", "c"]


@rdb.query
def by_rank(ctx: rdb.QueryCtx, options: rdb.PaginationOptions) -> rdb.PaginationResult[Any]:
    return ctx.db.query(cards.index("by_rank")).paginate(options)


@rdb.query
def newest(ctx: rdb.QueryCtx, options: rdb.PaginationOptions) -> rdb.PaginationResult[Any]:
    return ctx.db.query(cards).order("desc").paginate(options)


@rdb.query
def even(ctx: rdb.QueryCtx, options: rdb.PaginationOptions) -> rdb.PaginationResult[Any]:
    found = ctx.db.query(cards.index("by_rank")).order("desc")
    return found.filter(lambda card: card["rank"] % 2 == 0).paginate(options)


@rdb.query
def merged(ctx: rdb.QueryCtx, options: rdb.PaginationOptions) -> rdb.PaginationResult[Any]:
    ranges = [cards.index("by_board").eq(board) for board in BOARDS[:2]]
    return ctx.db.merge(*ranges).order("desc").paginate(options)


@rdb.query
def boards(ctx: rdb.QueryCtx, options: rdb.PaginationOptions) -> rdb.PaginationResult[Any]:
    return ctx.db.query(cards.index("by_rank")).distinct("rank").paginate(options)


@rdb.query
def joined(ctx: rdb.QueryCtx, options: rdb.PaginationOptions) -> rdb.PaginationResult[Any]:
    groups = ctx.db.query(cards.index("by_board")).distinct("board")
    rows = groups.join(lambda card: ctx.db.query(cards.index("by_board").eq(card["board"])).order("desc"))
    return rows.paginate(options)


@rdb.query
def moody(ctx: rdb.QueryCtx, options: rdb.PaginationOptions) -> rdb.PaginationResult[Any]:
    """Fails after it has read its page, while there is a negative rank."""
    page = ctx.db.query(cards.index("by_rank")).paginate(options)
    if any(card["rank"] < 0 for card in page.page):
        raise rdb.ApplicationError("negative")
    return page


@rdb.query
def both(ctx: rdb.QueryCtx) -> list[list[float]]:
    """Two pages in one function."""
    sizes = {"a": 2, "b": 1}
    pages = [
        ctx.db.query(cards.index("by_board").eq(board)).paginate(
            rdb.PaginationOptions(num_items=size, cursor=None)
        )
        for board, size in sizes.items()
    ]
    return [[card["rank"] for card in page.page] for page in pages]


app = app_of(by_rank, newest, even, merged, boards, joined, cards, name="cards")


def expected(world: World, path: str) -> list[dict[str, Any]]:
    """The whole list, from plain sorting."""

    def everything(db: Any) -> list[dict[str, Any]]:
        return db.query(cards).collect()

    rows = world.write(everything)[0]
    by_age = path == "newest"
    is_ascending = path in ("byRank", "boards")
    rows.sort(
        key=lambda card: (0 if by_age else card["rank"], card["_creationTime"]), reverse=not is_ascending
    )
    match path:
        case "even":
            return [card for card in rows if card["rank"] % 2 == 0]
        case "merged":
            return [card for card in rows if card["board"] in BOARDS[:2]]
        case "boards":
            firsts = {card["rank"]: card for card in reversed(rows)}
            return [card for card in rows if firsts[card["rank"]] is card]
        case "joined":
            return [card for board in BOARDS for card in rows if card["board"] == board]
        case _:
            return rows


def some_writes(source: random.Random, ids: list[str]) -> list[Any]:
    """Inserts, moves and deletes anywhere."""

    def insert(db: Any) -> None:
        card = {"board": source.choice(BOARDS), "rank": source.randint(0, 20)}
        ids.append(db.insert(cards, card))

    def move(db: Any) -> None:
        if ids:
            db.patch(source.choice(ids), rank=float(source.randint(0, 20)), board=source.choice(BOARDS))

    def delete(db: Any) -> None:
        if ids:
            db.delete(ids.pop(source.randrange(len(ids))))

    return source.choices([insert, move, delete], weights=[5, 3, 3], k=source.randint(1, 4))


def play(path: str, seed: int, steps: int) -> None:
    source = random.Random(seed)
    world = World(app)
    ids: list[str] = []
    for _ in range(source.randint(0, 8)):
        world.write(*some_writes(source, ids))
    hooks = [Hook(world, f"cards:{path}", source.randint(1, 4)) for _ in range(2)]
    for _ in range(steps):
        hook = source.choice(hooks)
        match source.randrange(8):
            case 0 | 1:
                hook.load_more(source.randint(1, 3))
            case 2:
                hook.reconnect()
            case _:
                for _ in range(source.randint(1, 3)):
                    world.write(*some_writes(source, ids))
        for known in hooks:
            known.update()
        whole = expected(world, path)
        for known in hooks:
            count = len(whole) if known.is_done else len(known.shown)
            assert [card["_id"] for card in known.shown] == [card["_id"] for card in whole[:count]]
            assert known.reset_count == 0
        world.cache.check()
    for hook in hooks:
        hook.close()
    world.cache.check()


@pytest.mark.slow
@pytest.mark.timeout(0 if LONG else 300)
@pytest.mark.parametrize("path", ["byRank", "newest", "even", "merged", "boards", "joined"])
def test_random_writes_give_no_gap_and_no_duplicate_in_the_sum_of_live_pages(path: str) -> None:
    first = random.randrange(2**32) if LONG else 0
    for seed in range(first, first + (2000 if LONG else 8)):
        print(f"seed {seed}")
        play(path, seed, steps=40)


def ranks(*numbers: float, board: str = "a") -> list[Any]:
    return [
        lambda db, rank=rank: db.insert(cards, {"board": board, "rank": float(rank)})  # type: ignore[misc]
        for rank in numbers
    ]


def test_a_page_that_has_grown_to_more_than_twice_its_size_is_split_and_stays_whole() -> None:
    world = World(app)
    world.write(*ranks(0, 10, 20))
    hook = Hook(world, "cards:byRank", 2)
    hook.update()
    world.write(*ranks(1, 2, 3, 4))
    hook.update()
    assert hook.sizes == [3, 3]
    world.write(*ranks(5, 6))
    hook.update()
    assert [card["rank"] for card in hook.shown] == [0, 1, 2, 3, 4, 5, 6, 10]


def test_a_client_that_asks_anew_gets_no_page_whose_end_was_fixed_for_another() -> None:
    world = World(app)
    world.write(*ranks(0, 1, 2))
    first = Hook(world, "cards:byRank", 2)
    first.update()
    world.write(*ranks(0.5))
    first.update()
    second = Hook(world, "cards:byRank", 2)
    second.update()
    first.update()
    assert [card["rank"] for card in first.shown] == [0, 0.5, 1]
    assert [card["rank"] for card in second.shown] == [0, 0.5]
    assert len(world.cache) == 2
    world.cache.check()


def test_clients_that_ask_at_the_same_state_share_one_run() -> None:
    world = World(app)
    world.write(*ranks(0, 1, 2))
    hooks = [Hook(world, "cards:byRank", 2)]
    hooks[0].update()
    hooks += [Hook(world, "cards:byRank", 2) for _ in range(5)]
    for hook in hooks:
        hook.update()
    assert (len(world.cache), len(world.runs)) == (1, 1)
    world.write(*ranks(0.5))
    for hook in hooks:
        hook.update()
    assert len(world.runs) == 2
    assert {tuple(hook.sizes) for hook in hooks} == {(3,)}


def test_entries_whose_journals_become_equal_become_one() -> None:
    world = World(app)
    world.write(*ranks(0, 1, 2))
    first = Hook(world, "cards:byRank", 2)
    first.update()
    [extra] = world.write(*ranks(0.5))
    first.update()
    world.write(lambda db: db.delete(extra))
    second = Hook(world, "cards:byRank", 2)
    second.update()
    first.update()
    assert len(world.cache) == 1
    world.cache.check()
    second.close()
    world.write(*ranks(0.7))
    first.update()
    assert first.sizes == [3]
    world.cache.check()


def test_a_journal_comes_back_after_a_reconnect() -> None:
    world = World(app)
    world.write(*ranks(0, 1, 2))
    hook = Hook(world, "cards:byRank", 2)
    hook.update()
    hook.reconnect()
    world.write(*ranks(0.5))
    hook.update()
    assert [card["rank"] for card in hook.shown] == [0, 0.5, 1]


def test_an_identity_that_comes_or_goes_leaves_the_pages_where_they_end() -> None:
    @rdb.query
    def mine(ctx: rdb.QueryCtx, options: rdb.PaginationOptions) -> rdb.PaginationResult[Any]:
        ctx.auth.get_user_identity()
        return ctx.db.query(cards.index("by_rank")).paginate(options)

    world = World(app_of(mine, cards, name="cards"))
    world.write(*ranks(0, 1, 2))
    client = world.client()
    args: Any = {"paginationOpts": {"numItems": 2.0, "cursor": None}}
    client.add(0, "cards:mine", args, ANONYMOUS)
    world.cache.refresh()
    [before] = client.take_changes()
    world.write(*ranks(0.5))
    client.identify(Identity.acting_as({"issuer": "i", "subject": "ada"}))
    world.cache.refresh()
    [after] = client.take_changes()
    assert before.result.journal == after.result.journal
    assert (after.result.json or b"").count(b'"rank"') == 3
    world.cache.check()


def test_a_result_that_nobody_holds_for_a_moment_is_still_there_for_who_asks_anew() -> None:
    world = World(app)
    world.write(*ranks(0, 1, 2))
    Hook(world, "cards:byRank", 2).close()
    first = Hook(world, "cards:byRank", 2)
    first.update()
    first.close()
    second = Hook(world, "cards:byRank", 2)
    second.update()
    assert len(world.runs) == 1
    second.close()
    world.write(*ranks(0.5))
    third = Hook(world, "cards:byRank", 2)
    third.update()
    assert [card["rank"] for card in third.shown] == [0, 0.5]
    world.cache.check()


def test_a_page_that_failed_for_a_while_comes_back_with_the_end_it_had() -> None:
    world = World(app_of(moody, cards, name="cards"))
    world.write(*ranks(0, 1, 2))
    client = world.client()
    args: Any = {"paginationOpts": {"numItems": 2.0, "cursor": None}}
    client.add(0, "cards:moody", args, ANONYMOUS)

    def result() -> Any:
        world.cache.refresh()
        return client.take_changes()[0].result

    journal = result().journal
    [bad] = world.write(*ranks(-1))
    failed = result()
    assert failed.error is not None
    assert failed.journal == journal
    world.write(lambda db: db.delete(bad), *ranks(0.5))
    assert result().json.count(b'"rank"') == 3


def test_a_live_query_of_several_pages_keeps_the_end_of_each() -> None:
    world = World(app_of(both, cards, name="cards"))
    world.write(*ranks(0, 1, 2), *ranks(0, 1, 2, board="b"))
    client = world.client()
    live = client.add(0, "cards:both", {}, ANONYMOUS)

    def found() -> Any:
        world.cache.refresh()
        live_result = client.live(0).result
        assert live_result is not None
        return decode(live_result.json or b"")

    assert found() == [[0, 1], [0]]
    world.write(*ranks(0.5), *ranks(-1, board="b"))
    assert found() == [[0, 0.5, 1], [-1, 0]]
    world.write(*ranks(0.7, board="b"))
    assert found() == [[0, 0.5, 1], [-1, 0]]
    assert live.run_count == 2
