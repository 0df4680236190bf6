"""Does a write wake the queries that could see it, and no other?

For each kind of read: what lies just outside wakes nobody, what lies just inside wakes exactly its query.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.functions import ANONYMOUS

from .live_pages import World
from .things import things

# Ten things of kind "a" and ten of kind "b", with keys 0, 10, ... 90; a test names one as `a30`.
KEYS = [float(key) for key in range(0, 100, 10)]
Db = Any
Read = Callable[[Db], Any]


def kind(name: str) -> Any:
    return things.index("by_kind_key").eq(name)


def by_ids(db: Db, *names: str) -> list[Any]:
    wanted = [(name[0], float(name[1:])) for name in names]
    return [db.query(kind(letter).gte(key).lte(key)).first()["_id"] for letter, key in wanted]


def options(count: int, cursor: str | None = None) -> rdb.PaginationOptions:
    return rdb.PaginationOptions(num_items=count, cursor=cursor)


def second_page(db: Db) -> Any:
    first = db.query(kind("a")).paginate(options(2)).continue_cursor
    return db.query(kind("a")).paginate(options(2, first)).page


READS: dict[str, Read] = {
    "prefix": lambda db: db.query(kind("a")).collect(),
    "range": lambda db: db.query(kind("a").gte(20).lt(50)).collect(),
    "descending": lambda db: db.query(kind("a").gt(20)).order("desc").take(2),
    "filter": lambda db: db.query(kind("a")).filter(lambda thing: thing["key"] >= 50).collect(),
    "take": lambda db: db.query(kind("a")).take(3),
    "take nothing": lambda db: db.query(kind("a")).take(0),
    "first": lambda db: db.query(kind("a")).first(),
    "unique": lambda db: db.query(kind("a").gte(30).lte(30)).unique(),
    "count": lambda db: db.query(kind("a").gte(20)).count(),
    "filtered count": lambda db: db.query(kind("a")).filter(lambda thing: thing["key"] >= 50).count(),
    "page": lambda db: db.query(kind("a")).paginate(options(3)).page,
    "two pages": second_page,
    "merge": lambda db: db.merge(kind("a"), kind("b")).order("desc").take(3),
    "filtered merge": lambda db: (
        db.merge(kind("a"), kind("b")).filter(lambda thing: thing["key"] >= 50).take(3)
    ),
    "merged page": lambda db: db.merge(kind("a"), kind("b")).paginate(options(3)).page,
    "distinct": lambda db: db.query(things.index("by_kind_key")).distinct("kind").collect(),
    "join": lambda db: (
        db.query(kind("a"))
        .join(lambda thing: db.query(kind("b").gte(thing["key"]).lte(thing["key"])))
        .take(2)
    ),
}
# Each write inserts a thing of that kind and key, or removes one that is there.
OUTSIDE: dict[str, list[str]] = {
    "prefix": ["b0", "c5", "A5"],
    "range": ["a19", "a50", "a51", "b30"],
    "descending": ["a79", "a20", "b85"],
    "filter": ["a49", "-a40", "b60"],
    "take": ["a21", "-a30", "b5"],
    "take nothing": ["a0", "-a0"],
    "first": ["a1", "-a10", "b0"],
    "unique": ["a29", "a31", "b30"],
    "count": ["a19", "-a10", "b30"],
    "filtered count": ["a49", "-a40", "b60"],
    "page": ["a21", "-a30", "b5"],
    "two pages": ["a31", "-a40", "b5"],
    # 90 of both, and one 80; of the other 80 nothing was shown.
    "merge": ["a79", "b79", "-a70", "-b70", "c95"],
    "filtered merge": ["a49", "b61", "-a70", "-b40", "c60"],
    "merged page": ["a11", "b11", "-a20", "-b20", "c5"],
    "distinct": ["a5", "b5", "-a10", "-b90"],
    "join": ["a11", "-a20", "b5", "b10", "b20", "-b30"],
}
INSIDE: dict[str, list[str]] = {
    "prefix": ["a0", "a95", "-a30"],
    "range": ["a20", "a49", "-a40"],
    "descending": ["a80", "a95", "-a90"],
    "filter": ["a50", "-a60"],
    "take": ["a19", "-a0", "-a20"],
    "first": ["a-1", "-a0"],
    "unique": ["-a30"],
    "count": ["a20", "a95", "-a30"],
    "filtered count": ["a50", "-a60"],
    "page": ["a19", "-a0", "-a20"],
    "two pages": ["a29", "-a0", "-a30"],
    "merge": ["a81", "b95", "-a90", "-b80"],
    "filtered merge": ["a50", "b50", "-a50", "-a60"],
    "merged page": ["a5", "b9", "-b0", "-a10"],
    "distinct": ["a-1", "b-1", "-a0", "c0", "A0"],
    "join": ["a5", "-a10", "b0", "-b10"],
}


@rdb.query
def look(ctx: rdb.QueryCtx, read: str) -> rdb.Value:
    return READS[read](ctx.db) if read in READS else None


class Watched:
    """A world with one live query per kind of read, each known to be up to date."""

    def __init__(self) -> None:
        self.world = World(app_of(look, things))
        self.world.write(*(self._adding(f"{letter}{key:g}") for letter in "ab" for key in KEYS))
        self.client = self.world.client()
        self.lives = {
            read: self.client.add(number, "notes:look", {"read": read}, ANONYMOUS)
            for number, read in enumerate(READS)
        }
        self.world.cache.refresh()

    def _adding(self, name: str) -> Callable[[Db], Any]:
        return lambda db: db.insert(things, {"kind": name[0], "key": float(name[1:])})

    def woken_by(self, write: str) -> set[str]:
        """The reads that ran again after a write, which is committed by itself."""
        if write.startswith("-"):
            return self.woken_by_step(lambda db: db.delete(by_ids(db, write[1:])[0]))
        return self.woken_by_step(self._adding(write))

    def woken_by_step(self, step: Callable[[Db], Any]) -> set[str]:
        before = {read: live.run_count for read, live in self.lives.items()}
        self.world.write(step)
        self.world.cache.refresh()
        return {read for read, live in self.lives.items() if live.run_count != before[read]}


@pytest.mark.parametrize("read", list(READS))
def test_a_write_just_outside_of_what_was_read_wakes_nobody_for_it(read: str) -> None:
    for write in OUTSIDE[read]:
        assert read not in Watched().woken_by(write), write


@pytest.mark.parametrize("read", [read for read in READS if read in INSIDE])
def test_a_write_just_inside_wakes_its_query(read: str) -> None:
    for write in INSIDE[read]:
        assert read in Watched().woken_by(write), write


def test_a_write_wakes_exactly_the_queries_that_could_see_it() -> None:
    assert Watched().woken_by("c50") == {"distinct"}
    assert Watched().woken_by("b45") == set()
    assert Watched().woken_by("a31") == {"prefix", "range", "count"}
    assert Watched().woken_by("-a40") == {"prefix", "range", "count"}
    assert Watched().woken_by("a95") == {
        *("prefix", "descending", "filter", "count", "filtered count", "merge")
    }


def patching(name: str, **fields: Any) -> Callable[[Db], Any]:
    return lambda db: db.patch(by_ids(db, name)[0], **fields)


def test_a_count_is_woken_by_what_enters_or_leaves_its_range_alone() -> None:
    counts = {"count", "filtered count"}
    assert counts & Watched().woken_by_step(patching("a10", key=20)) == {"count"}
    assert counts & Watched().woken_by_step(patching("a20", key=19)) == {"count"}
    assert counts & Watched().woken_by_step(patching("b30", kind="a")) == {"count"}
    # In its place, or to another one within the range.
    assert counts & Watched().woken_by_step(patching("a30", color="red")) == set()
    assert counts & Watched().woken_by_step(patching("a30", key=25)) == set()


def test_a_document_that_is_changed_in_its_place_wakes_those_who_read_it() -> None:
    assert Watched().woken_by_step(patching("a40", color="red")) == {"prefix", "range"}
    assert Watched().woken_by_step(patching("b50", color="red")) == {"filtered merge"}
    assert Watched().woken_by_step(patching("b60", color="red")) == set()


def test_what_a_sub_transaction_undid_wakes_nobody() -> None:
    def undone(db: Db) -> None:
        transaction = db._transaction
        mark = transaction.mark()
        db.insert(things, {"kind": "a", "key": 25.0})
        db.patch(by_ids(db, "a40")[0], key=-1.0)
        db.delete(by_ids(db, "a0")[0])
        transaction.rollback_to(mark)
        db.insert(things, {"kind": "c", "key": 50.0})

    assert Watched().woken_by_step(undone) == {"distinct"}


def test_documents_got_by_id_wake_their_readers_alone() -> None:
    @rdb.query
    def one(ctx: rdb.QueryCtx, id: str) -> rdb.Value:
        return ctx.db.get(id)

    @rdb.query
    def several(ctx: rdb.QueryCtx, ids: list[str]) -> list[rdb.Value]:
        return ctx.db.get_many(ids)

    world = World(app_of(one, several, things))

    def adding(db: Db) -> str:
        return db.insert(things, {"key": 1})

    first, second, third, fourth = world.write(*[adding] * 4)
    world.write(lambda db: db.delete(fourth))
    client = world.client()
    args: list[tuple[str, Any]] = [
        ("notes:one", {"id": first}),
        ("notes:several", {"ids": [second, fourth]}),
    ]
    lives = [client.add(number, path, one_of, ANONYMOUS) for number, (path, one_of) in enumerate(args)]
    world.cache.refresh()

    def counts(*steps: Callable[[Db], Any]) -> list[int]:
        world.write(*steps)
        world.cache.refresh()
        return [live.run_count for live in lives]

    assert counts(lambda db: db.patch(third, key=2), adding) == [1, 1]
    assert counts(lambda db: db.patch(first, key=2)) == [2, 1]
    assert counts(lambda db: db.delete(second)) == [2, 2]


def test_a_predicate_that_reads_the_database_makes_every_write_to_its_range_count() -> None:
    @rdb.query
    def kept(ctx: rdb.QueryCtx, marker: str) -> list[rdb.Value]:
        def is_marked(thing: dict[str, Any]) -> bool:
            found = ctx.db.get(marker)
            return found is not None and found["key"] == thing["key"]

        return [thing["key"] for thing in ctx.db.query(kind("a")).filter(is_marked)]

    world = World(app_of(kept, things))
    marker, *_ = world.write(
        lambda db: db.insert(things, {"kind": "marker", "key": 1}),
        lambda db: db.insert(things, {"kind": "a", "key": 1}),
        lambda db: db.insert(things, {"kind": "a", "key": 2}),
    )
    client = world.client()
    live = client.add(0, "notes:kept", {"marker": marker}, ANONYMOUS)

    def result() -> bytes | None:
        world.cache.refresh()
        assert live.result is not None
        return live.result.json

    assert result() == b"[1]"
    world.write(lambda db: db.patch(marker, key=2))
    assert result() == b"[2]"
    world.write(lambda db: db.insert(things, {"kind": "a", "key": 7}))
    assert result() == b"[2]"
    assert live.run_count == 3
    world.write(lambda db: db.patch(marker, key=7))
    assert result() == b"[7]"


def test_a_predicate_that_cannot_answer_any_more_hides_no_write() -> None:
    @rdb.query
    def cheap(ctx: rdb.QueryCtx) -> list[rdb.Value]:
        return [thing["key"] for thing in ctx.db.query(kind("a")).filter(lambda thing: thing["price"] < 5)]

    world = World(app_of(cheap, things))
    client = world.client()
    live = client.add(0, "notes:cheap", {}, ANONYMOUS)
    world.cache.refresh()
    [broken] = world.write(lambda db: db.insert(things, {"kind": "a", "key": 1}))
    world.cache.refresh()
    assert live.result is not None
    assert live.result.error is not None
    world.write(lambda db: db.patch(broken, price=1))
    world.cache.refresh()
    assert live.result.json == b"[1]"
