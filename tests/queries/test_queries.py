"""What do the ways to ask a query give: order, filter, take, count, merge, distinct, join?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import reactivedb as rdb

from .things import Shelf, keys_of, numbered, options, things


def kind(name: str) -> Any:
    return things.index("by_kind_key").eq(name)


def two_kinds(count: int = 3) -> Shelf:
    """Things a0 b0.5 a1 b1.5 ..., by kind and key."""
    shelf = Shelf()
    for key in range(count):
        shelf.add({"kind": "a", "key": float(key)}, {"kind": "b", "key": key + 0.5})
    return shelf


@contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(rdb.ValidationError) as failure:
        yield
    assert failure.value.code == code


def test_many_documents_are_got_at_once_in_the_order_of_their_ids() -> None:
    shelf = Shelf()
    ids = shelf.add(*numbered(3))
    with shelf.writing() as db:
        db.delete(rdb.Id(ids[1]))
    with shelf.reading() as db:
        found = db.get_many([ids[2], ids[1], ids[0], ids[2]])
        assert [thing and thing["key"] for thing in found] == [2, None, 0, 2]
        assert db.get_many([]) == []


@pytest.mark.parametrize("again", ["collect", "first", "unique", "count", "distinct"])
def test_a_query_is_consumed_once(again: str) -> None:
    shelf = two_kinds()
    with shelf.reading() as db:
        query = db.query(kind("a"))
        query.take(1)
        with refused("QueryConsumed"):
            getattr(query, again)()
        filtered = db.query(kind("a"))
        filtered.filter(lambda thing: True)
        with refused("QueryConsumed"):
            filtered.paginate(options(1))


def test_the_order_is_said_once_and_of_the_range_itself() -> None:
    with two_kinds().reading() as db:
        ordered: Any = db.query(kind("a")).order("asc")
        distinct: Any = db.query(kind("a")).distinct("key")
        for query in (ordered, distinct):
            with refused("OrderNotFirst"):
                query.order("desc")


def test_a_filter_may_stand_before_the_order_or_behind_it() -> None:
    with two_kinds().reading() as db:
        for source in (db.query(kind("a")), db.merge(kind("a"))):
            assert keys_of(source.filter(lambda thing: thing["key"] > 0).order("desc").collect()) == [2, 1]
        behind = db.query(kind("a")).order("desc").filter(lambda thing: thing["key"] > 0)
        assert keys_of(behind.collect()) == [2, 1]


def test_a_loop_over_a_query_may_end_early_and_has_read_no_further() -> None:
    shelf = two_kinds(20)
    with shelf.opened(None) as (db, transaction):
        for thing in db.query(kind("a")):
            if thing["key"] == 3:
                break
        assert transaction.usage.documents_read == 4


def test_a_merge_gives_the_documents_of_all_ranges_in_one_order() -> None:
    with two_kinds().reading() as db:
        assert keys_of(db.merge(kind("a"), kind("b")).collect()) == [0, 0.5, 1, 1.5, 2, 2.5]
        assert keys_of(db.merge(kind("a"), kind("b")).order("desc").take(3)) == [2.5, 2, 1.5]
        assert keys_of(db.merge(kind("a").gte(1), kind("b").lt(1)).collect()) == [0.5, 1, 2]
        first = db.merge(kind("a"), kind("b")).filter(lambda thing: thing["key"] > 1).first()
        assert first is not None
        assert first["key"] == 1.5
        assert db.merge(kind("a"), kind("b")).count() == 6
        assert db.merge(kind("c"), kind("d")).first() is None


def test_a_merge_of_nothing_is_empty() -> None:
    with two_kinds().reading() as db:
        none: list[Any] = []
        assert db.merge(*none).order("desc").filter(lambda thing: True).distinct("key").collect() == []
        page = db.merge(*none).paginate(options(3))
        assert (page.page, page.is_done) == ([], True)


def test_ranges_that_overlap_give_each_document_once() -> None:
    with two_kinds().reading() as db:
        ranges = [kind("a"), kind("a").gte(1), kind("a"), kind("b").lt(1)]
        assert keys_of(db.merge(*ranges).collect()) == [0, 0.5, 1, 2]


def test_ranges_of_several_indexes_merge_where_they_have_an_order_in_common() -> None:
    with two_kinds().reading() as db:
        merged = db.merge(things.index("by_key").gte(2), kind("b").lt(1))
        assert keys_of(merged.collect()) == [0.5, 2, 2.5]


def test_ranges_without_a_common_order_are_refused() -> None:
    class Other(rdb.Document, table="others"):
        key: float

    shelf = Shelf()
    shelf.engine.declare([things.definition, rdb.Table("others").definition], ())
    with shelf.reading() as db:
        with refused("MergeOrderMismatch"):
            db.merge(kind("a"), things.index("by_kind_key"))
        with refused("MergeOrderMismatch"):
            db.merge(things.index("by_creation_time"), Other.by_creation_time)


def test_a_merge_reads_of_each_range_one_document_more_than_it_gives_of_it() -> None:
    shelf = two_kinds(50)
    with shelf.opened(None) as (db, transaction):
        db.merge(*(kind(name) for name in "abcd")).order("desc").take(10)
        assert transaction.usage.documents_read <= 12


def test_a_merge_sees_what_its_own_transaction_has_written() -> None:
    with two_kinds().reading() as db:
        [first, *_] = db.query(kind("a")).collect()
        db.delete(first["_id"])
        db.insert(things, {"kind": "b", "key": -1})
        assert keys_of(db.merge(kind("a"), kind("b")).take(3)) == [-1, 0.5, 1]


def test_distinct_gives_the_first_document_of_each_value_and_skips_the_others() -> None:
    shelf = two_kinds(100)
    with shelf.opened(None) as (db, transaction):
        by_kind = things.index("by_kind_key")
        assert keys_of(db.query(by_kind).distinct("kind").collect()) == [0, 0.5]
        assert keys_of(db.query(by_kind).order("desc").distinct("kind").collect()) == [99.5, 99]
        assert transaction.usage.documents_read == 4
        assert db.query(kind("a")).distinct("key").count() == 100


def test_a_filter_before_distinct_chooses_the_first_and_one_behind_it_among_the_first() -> None:
    with two_kinds().reading() as db:
        by_kind = things.index("by_kind_key")
        late = db.query(by_kind).filter(lambda thing: thing["key"] >= 1).distinct("kind")
        assert keys_of(late.collect()) == [1, 1.5]
        low = db.query(by_kind).distinct("kind").filter(lambda thing: thing["key"] > 0)
        assert keys_of(low.collect()) == [0.5]


def test_distinct_over_a_merge_takes_the_first_of_all_ranges() -> None:
    shelf = Shelf()
    shelf.add(*({"kind": name, "key": key, "n": name} for name in "ba" for key in (1, 2)))
    with shelf.reading() as db:
        found = db.merge(kind("a"), kind("b")).distinct("key").collect()
        assert [(thing["key"], thing["kind"]) for thing in found] == [(1, "b"), (2, "b")]


@pytest.mark.parametrize("fields", [("key",), ("kind", "_creationTime"), ()])
def test_distinct_takes_the_fields_that_the_order_begins_with(fields: tuple[str, ...]) -> None:
    with two_kinds().reading() as db, pytest.raises(rdb.ReactiveDBError):
        db.query(things.index("by_kind_key")).distinct(*fields)


def test_distinct_has_to_stand_on_a_range() -> None:
    with two_kinds().reading() as db, refused("DistinctNotInOrder"):
        db.query(kind("a")).join(lambda thing: thing).distinct("key")


def test_a_join_leads_from_each_document_to_a_range_or_a_value_or_nothing() -> None:
    with two_kinds(2).reading() as db:
        to_range = db.query(kind("a")).join(lambda thing: db.query(kind("b").gt(thing["key"])))
        assert keys_of(to_range.collect()) == [0.5, 1.5, 1.5]
        to_value = db.query(kind("a")).join(lambda thing: thing["key"] or None)
        assert to_value.collect() == [1]
        nested = db.query(kind("a")).join(lambda one: db.query(kind("b")).join(lambda two: (one, two)))
        assert [(one["key"], two["key"]) for one, two in nested] == [(0, 0.5), (0, 1.5), (1, 0.5), (1, 1.5)]
        assert db.query(kind("a")).join(lambda thing: db.query(kind("b"))).count() == 4


def test_a_join_reads_no_further_than_it_is_consumed() -> None:
    shelf = two_kinds(50)
    with shelf.opened(None) as (db, transaction):
        joined = db.query(kind("a")).join(lambda thing: db.query(kind("b").gt(thing["key"])))
        joined.filter(lambda thing: thing["key"] > 2).take(2)
        assert transaction.usage.documents_read == 5


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pages_of_a_join_within_a_join_give_all_of_it_once(size: int) -> None:
    shelf = two_kinds(3)

    def rows(db: Any) -> Any:
        outer = db.query(kind("a")).filter(lambda thing: thing["key"] != 1)
        pairs = outer.join(lambda one: db.query(kind("b")).order("desc").join(lambda two: (one, two)))
        return pairs.filter(lambda pair: pair[1]["key"] != 1.5).join(lambda pair: pair)

    with shelf.reading() as db:
        whole = [(one["key"], two["key"]) for one, two in rows(db)]
    found: list[Any] = []
    cursor = None
    while True:
        with shelf.reading() as db:
            page = rows(db).paginate(options(size, cursor))
        found += [(one["key"], two["key"]) for one, two in page.page]
        if page.is_done:
            break
        cursor = page.continue_cursor
    assert found == whole == [(0, 2.5), (0, 0.5), (2, 2.5), (2, 0.5)]


def test_a_range_is_the_same_whether_its_documents_are_in_the_cache_or_not() -> None:
    shelf = two_kinds(30)
    expected = [("a", float(key)) for key in range(20)]

    def taken() -> list[tuple[str, float]]:
        with shelf.reading() as db:
            return [(thing["kind"], thing["key"]) for thing in db.query(kind("a")).take(20)]

    # By keys and what is missing; then, as nearly all was missing, by one statement for both; then by that
    # with some and with all of it in the cache; and as nothing was missing, by keys again.
    for forget in (True, True, True, False, False, False, True):
        if forget:
            shelf.engine.cache.clear()
        assert taken() == expected
    with shelf.writing() as db:
        own = db.insert(things, {"kind": "a", "key": 0.25})
        assert [thing["key"] for thing in db.query(kind("a")).take(3)] == [0, 0.25, 1]
        db.delete(own)
        assert [thing["key"] for thing in db.query(kind("a")).order("desc").take(3)] == [29, 28, 27]
