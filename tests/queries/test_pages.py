"""What is a page, where does it end, and what is a cursor good for?"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.functions import Kind
from reactivedb.functions.pagination import END
from reactivedb.functions.seal import seal, unseal
from reactivedb.schema import validator_for
from reactivedb.values import dumps, loads

from .things import Shelf, keys_of, numbered, options, things

By = Callable[[Any], Any]
ALL: By = lambda db: db.query(things.index("by_key"))  # noqa: E731


def read(shelf: Shelf, asked: rdb.PaginationOptions, by: By = ALL, journal: str | None = None) -> Any:
    with shelf.reading(journal) as db:
        return by(db).paginate(asked)


def all_pages(shelf: Shelf, size: int, by: By = ALL) -> list[Any]:
    pages = [read(shelf, options(size), by)]
    while not pages[-1].is_done:
        pages.append(read(shelf, options(size, pages[-1].continue_cursor), by))
    return pages


def test_the_options_are_the_validator_that_npm_exports() -> None:
    text = {"type": "string"}
    number = {"fieldType": {"type": "number"}, "optional": True}
    text_or_null = {"type": "union", "value": [text, {"type": "null"}]}
    assert validator_for(rdb.PaginationOptions).export() == {
        "type": "object",
        "value": {
            "numItems": {"fieldType": {"type": "number"}, "optional": False},
            "cursor": {"fieldType": text_or_null, "optional": False},
            "endCursor": {"fieldType": text_or_null, "optional": True},
            "id": number,
            "maximumRowsRead": number,
            "maximumBytesRead": number,
        },
    }


def test_the_argument_and_the_result_have_convex_names_on_the_wire() -> None:
    @rdb.query
    def page_of(ctx: rdb.QueryCtx, options: rdb.PaginationOptions) -> rdb.PaginationResult[str]:
        return ctx.db.query(things).paginate(options).map(lambda thing: thing["name"])

    definition = app_of(page_of, things).registry.find("notes:pageOf", Kind.QUERY, internal=False)
    assert list(definition.args.export()["value"]) == ["paginationOpts"]
    assert list(definition.returns.export()["value"]) == [
        "page",
        "isDone",
        "continueCursor",
        "splitCursor",
        "pageStatus",
    ]


def test_a_page_that_is_exactly_full_is_not_done_and_the_next_one_is_empty_and_done() -> None:
    shelf = Shelf()
    shelf.add(*numbered(4))
    pages = all_pages(shelf, 2)
    assert [(keys_of(page.page), page.is_done) for page in pages] == [
        ([0, 1], False),
        ([2, 3], False),
        ([], True),
    ]
    assert read(shelf, options(2, pages[-1].continue_cursor)).page == []


def test_a_page_reaches_as_far_as_its_filter_needs() -> None:
    shelf = Shelf()
    shelf.add(*numbered(9))
    pages = all_pages(shelf, 2, lambda db: ALL(db).filter(lambda thing: thing["key"] % 3 == 0))
    assert [keys_of(page.page) for page in pages] == [[0, 3], [6]]


@pytest.mark.parametrize("size", [0, -1])
def test_a_page_has_at_least_one_document(size: int) -> None:
    with pytest.raises(rdb.ValidationError) as failure:
        read(Shelf(), options(size))
    assert failure.value.code == "InvalidPageSize"


def test_a_page_of_one_and_a_half_documents_is_refused() -> None:
    with pytest.raises(rdb.ValidationError):
        validator_for(rdb.PaginationOptions).parse({"numItems": 1.5, "cursor": None}, "")


def test_a_cursor_survives_the_deletion_of_what_it_points_at() -> None:
    shelf = Shelf()
    ids = shelf.add(*numbered(5))
    first = read(shelf, options(2))
    with shelf.writing() as db:
        db.delete(rdb.Id(ids[1]))
        db.delete(rdb.Id(ids[2]))
    assert keys_of(read(shelf, options(2, first.continue_cursor)).page) == [3, 4]


OTHERS: dict[str, By] = {
    "order": lambda db: ALL(db).order("desc"),
    "index": lambda db: db.query(things.index("by_kind_key")),
    "range": lambda db: db.query(things.index("by_key").gte(0)),
    "merge": lambda db: db.merge(things.index("by_key").gte(0)),
    "distinct": lambda db: ALL(db).distinct("key"),
    "join": lambda db: ALL(db).join(lambda thing: thing["key"]),
}


@pytest.mark.parametrize("other", list(OTHERS))
def test_a_cursor_of_another_query_is_invalid(other: str) -> None:
    shelf = Shelf()
    shelf.add(*numbered(5))
    cursor = read(shelf, options(2)).continue_cursor
    for asked in (options(2, cursor), options(2, end_cursor=cursor)):
        with pytest.raises(rdb.InvalidCursorError) as failure:
            read(shelf, asked, OTHERS[other])
        assert failure.value.data == {"isConvexSystemError": True, "paginationError": "InvalidCursor"}
        assert "InvalidCursor" in failure.value.wire_text


@pytest.mark.parametrize("cursor", ["", "nonsense", "WyJ4Il0", "\ud800", "[]", "end"])
def test_what_is_no_cursor_is_invalid(cursor: str) -> None:
    with pytest.raises(rdb.InvalidCursorError):
        read(Shelf(), options(2, cursor))


def sealed(secret: bytes, text: bytes) -> str:
    return urlsafe_b64encode(seal(secret, text)).rstrip(b"=").decode()


FORGED = ["ff", "", "00", "zz", 7, None, [], ["", "", "one", ""], ["", "", 1, ""], ["x", "", "", ""]]


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("by", ["by_key", "by_id", "merge", "join", "distinct"])
def test_a_forged_cursor_shows_nothing_outside_of_the_query_and_breaks_nothing(forged: Any, by: str) -> None:
    shelf = Shelf()
    shelf.add(*numbered(3, kind="a"), *numbered(3, kind="b"))
    mine = things.index("by_kind_key").eq("a")
    asked: By = {
        "by_key": lambda db: db.query(mine),
        "by_id": lambda db: db.query(things.index("by_id")).filter(lambda thing: thing["kind"] == "a"),
        "merge": lambda db: db.merge(mine, mine.gte(1)),
        "join": lambda db: db.query(mine).join(lambda thing: thing),
        "distinct": lambda db: db.query(mine).distinct("key"),
    }[by]
    real = read(shelf, options(2), asked).continue_cursor
    secret = shelf.engine.cursor_secret
    name = loads(unseal(secret, urlsafe_b64decode(real + "=" * (-len(real) % 4))))[0]
    cursor = sealed(secret, dumps([name, forged]))
    for opts in (options(9, cursor), options(9, end_cursor=cursor)):
        try:
            page = read(shelf, opts, asked)
        except rdb.InvalidCursorError:
            continue
        assert {thing["kind"] for thing in page.page} <= {"a"}


def test_a_cursor_that_nests_without_end_is_invalid() -> None:
    shelf = Shelf()
    nested = b"[" * 5_000 + b"]" * 5_000
    with pytest.raises(rdb.InvalidCursorError):
        read(shelf, options(2, sealed(shelf.engine.cursor_secret, nested)))


def test_a_cursor_shows_nothing_of_the_document_it_stands_at() -> None:
    shelf = Shelf()
    shelf.add({"key": "hidden"}, {"key": "shown"})
    cursor = read(shelf, options(1)).continue_cursor
    assert cursor == read(shelf, options(1)).continue_cursor
    raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    assert b"hidden" not in raw
    assert b"hidden".hex().encode() not in raw


def test_a_cursor_of_another_database_or_one_that_was_changed_is_invalid() -> None:
    shelf = Shelf()
    shelf.add(*numbered(3))
    cursor = read(shelf, options(1)).continue_cursor
    changed = cursor[:-4] + ("AAAA" if cursor[-4:] != "AAAA" else "BBBB")
    for asked, where in ((cursor, Shelf()), (changed, shelf), (cursor[:8], shelf)):
        with pytest.raises(rdb.InvalidCursorError):
            read(where, options(1, asked))


def test_a_cursor_is_no_way_out_of_its_range() -> None:
    shelf = Shelf()
    shelf.add(*numbered(9))
    narrow: By = lambda db: db.query(things.index("by_key").gte(2).lt(5))  # noqa: E731
    wide = read(shelf, options(7)).continue_cursor
    with pytest.raises(rdb.InvalidCursorError):
        read(shelf, options(9, wide), narrow)
    assert [keys_of(page.page) for page in all_pages(shelf, 2, narrow)] == [[2, 3], [4]]


def test_a_page_between_two_cursors_holds_everything_between_them() -> None:
    shelf = Shelf()
    shelf.add(*numbered(6))
    first = read(shelf, options(2))
    second = read(shelf, options(2, first.continue_cursor))
    shelf.add({"key": 2.5}, {"key": 2.6}, {"key": 4.5})
    again = read(shelf, options(1, first.continue_cursor, end_cursor=second.continue_cursor))
    assert keys_of(again.page) == [2, 2.5, 2.6, 3]
    assert (again.continue_cursor, again.is_done) == (second.continue_cursor, False)


def test_a_page_that_is_run_again_with_its_journal_keeps_its_end() -> None:
    shelf = Shelf()
    ids = shelf.add(*numbered(6))
    first = read(shelf, options(3))
    journal = shelf.journal
    shelf.add({"key": 0.5})
    with shelf.writing() as db:
        db.delete(rdb.Id(ids[1]))
    again = read(shelf, options(3), journal=journal)
    assert keys_of(again.page) == [0, 0.5, 2]
    assert again.continue_cursor == first.continue_cursor
    assert shelf.journal == journal
    assert keys_of(read(shelf, options(3)).page) == [0, 0.5, 2]
    assert shelf.journal == journal
    shelf.add({"key": 1.5})
    assert keys_of(read(shelf, options(3), journal=journal).page) == [0, 0.5, 1.5, 2]
    assert keys_of(read(shelf, options(3)).page) == [0, 0.5, 1.5]


def test_the_last_page_grows() -> None:
    shelf = Shelf()
    shelf.add(*numbered(2))
    assert read(shelf, options(3)).is_done
    journal = shelf.journal
    shelf.add(*numbered(5))
    again = read(shelf, options(3), journal=journal)
    assert (len(again.page), again.is_done, again.continue_cursor) == (7, True, END)


@pytest.mark.parametrize("journal", ["", "nonsense", "{}", "[1]", '["nonsense"]', '["WyJ4Il0"]', "[]"])
def test_what_is_no_journal_of_this_query_is_as_good_as_none(journal: str) -> None:
    shelf = Shelf()
    shelf.add(*numbered(3))
    assert keys_of(read(shelf, options(2), journal=journal).page) == [0, 1]


def test_a_run_may_read_several_pages_and_its_journal_lists_them_in_order() -> None:
    shelf = Shelf()
    shelf.add(*numbered(4, kind="a"), *numbered(4, kind="b"))

    def both(journal: str | None) -> list[list[float]]:
        with shelf.reading(journal) as db:
            kinds = [db.query(things.index("by_kind_key").eq(kind)) for kind in ("a", "b")]
            return [keys_of(kinds[0].paginate(options(1)).page), keys_of(kinds[1].paginate(options(2)).page)]

    assert both(None) == [[0], [0, 1]]
    journal = shelf.journal
    shelf.add({"kind": "a", "key": -1.0}, {"kind": "b", "key": 0.5})
    assert both(journal) == [[-1, 0], [0, 0.5, 1]]
    assert shelf.journal == journal


def test_the_split_cursor_cuts_a_page_of_more_than_two_rows_in_its_middle() -> None:
    shelf = Shelf()
    shelf.add(*numbered(6))
    assert read(shelf, options(2)).split_cursor is None
    page = read(shelf, options(5))
    assert page.page_status is None
    halves = [
        read(shelf, options(5, end_cursor=page.split_cursor)),
        read(shelf, options(5, page.split_cursor, end_cursor=page.continue_cursor)),
    ]
    assert [keys_of(half.page) for half in halves] == [[0, 1, 2], [3, 4]]
    assert halves[1].continue_cursor == page.continue_cursor


def nothing(thing: dict[str, Any]) -> bool:
    return thing["key"] < 0


@pytest.mark.parametrize("bound", [{"maximum_rows_read": 4}, {"maximum_bytes_read": 400}])
def test_a_page_that_reads_too_much_is_cut_and_has_to_be_split(bound: dict[str, Any]) -> None:
    shelf = Shelf()
    shelf.add(*numbered(10))
    page = read(shelf, options(3, **bound), lambda db: ALL(db).filter(nothing))
    assert (page.page, page.is_done, page.page_status) == ([], False, "SplitRequired")
    assert page.split_cursor is not None
    rest = read(shelf, options(9, page.continue_cursor))
    assert 0 < len(rest.page) < 10
    assert keys_of(rest.page)[-1] == 9


@pytest.mark.parametrize("rows", [1, 2])
def test_a_page_that_is_cut_where_it_cannot_be_split_is_only_a_shorter_one(rows: int) -> None:
    """A hook shows nothing of a page that has to be split before its halves are there."""
    shelf = Shelf()
    shelf.add(*numbered(3))
    page = read(shelf, options(3, maximum_rows_read=rows))
    assert (len(page.page), page.is_done) == (rows, False)
    assert (page.page_status, page.split_cursor) == (None, None)
    assert keys_of(read(shelf, options(3, page.continue_cursor)).page) == list(range(rows, 3))


def test_what_a_deployment_lets_one_page_read_cuts_it_too() -> None:
    shelf = Shelf(page_rows_read_max=4)
    shelf.add(*numbered(10))
    assert [len(page.page) for page in all_pages(shelf, 9)] == [4, 4, 2]
    assert read(shelf, options(3)).page_status is None
    bounded = read(shelf, options(1, end_cursor=END))
    assert (len(bounded.page), bounded.page_status) == (10, "SplitRecommended")


def groups(db: Any) -> Any:
    return db.query(things.index("by_kind_key")).distinct("kind")


def late_ones(db: Any) -> Any:
    """A join of which most documents lead to nothing."""
    return groups(db).join(lambda one: db.query(things.index("by_kind_key").eq(one["kind"]).gte(50)))


@pytest.mark.parametrize(("by", "count"), [(groups, 60), (late_ones, 10)])
def test_a_page_of_more_ranges_than_may_be_read_is_cut(by: By, count: int) -> None:
    shelf = Shelf(ranges_read_max=20, page_ranges_read_max=10)
    shelf.add(*({"kind": f"kind {key:02}", "key": float(key)} for key in range(60)))
    pages = all_pages(shelf, 60, by)
    assert len(pages) > 3
    assert {page.page_status for page in pages[:-1]} == {"SplitRequired"}
    assert [thing["key"] for page in pages for thing in page.page] == list(range(60 - count, 60))
    middle, end = pages[0].split_cursor, pages[0].continue_cursor
    halves = [options(1, end_cursor=middle), options(1, middle, end_cursor=end)]
    assert [thing for half in halves for thing in read(shelf, half, by).page] == pages[0].page


def test_a_page_of_a_merge_is_not_cut_for_the_ranges_it_is_made_of() -> None:
    shelf = Shelf(ranges_read_max=20, page_ranges_read_max=4)
    shelf.add(*({"kind": f"kind {key:02}", "key": float(key)} for key in range(20)))

    def merged(db: Any) -> Any:
        return db.merge(*(things.index("by_kind_key").eq(f"kind {key:02}") for key in range(20)))

    page = read(shelf, options(15), merged)
    assert (keys_of(page.page), page.page_status) == (list(range(15)), None)
    assert read(shelf, options(1, end_cursor=END), merged).page_status is None


def test_what_the_function_has_read_before_counts_for_its_page() -> None:
    shelf = Shelf(documents_read_max=6)
    shelf.add(*numbered(10))
    with shelf.reading() as db:
        ALL(db).take(2)
        page = ALL(db).paginate(options(9))
    assert (len(page.page), page.page_status) == (4, "SplitRequired")


def test_a_page_can_be_mapped_and_keeps_its_place() -> None:
    shelf = Shelf()
    shelf.add(*numbered(3))
    page = read(shelf, options(2))
    mapped = page.map(lambda thing: f"{thing['key']:g}")
    assert mapped.page == ["0", "1"]
    assert (mapped.continue_cursor, mapped.is_done) == (page.continue_cursor, False)


def note_app() -> tuple[rdb.App, Any, Any]:
    @rdb.query
    def page_of(ctx: rdb.QueryCtx, options: rdb.PaginationOptions, kind: str) -> rdb.PaginationResult[Any]:
        return ctx.db.query(things.index("by_kind").eq(kind)).paginate(options)

    @rdb.mutation
    def add(ctx: rdb.MutationCtx, kind: str, count: int) -> None:
        for key in range(count):
            ctx.db.insert(things, {"kind": kind, "key": key})

    return app_of(page_of, add, things), page_of, add


def test_a_program_iterates_over_all_pages() -> None:
    app, page_of, add = note_app()
    with app.open(":memory:") as db:
        db.mutation(add, "a", 5)
        pages = list(db.pages(page_of, 2, "a"))
        assert [len(page.page) for page in pages] == [2, 2, 1]
        assert [len(page.page) for page in db.pages(page_of, 2, kind="b")] == [0]


def test_an_asynchronous_program_iterates_over_all_pages() -> None:
    import anyio

    app, page_of, add = note_app()

    async def sizes() -> list[int]:
        async with app.open_async(":memory:") as db:
            await db.mutation(add, "a", 5)
            return [len(page.page) async for page in db.pages(page_of, 2, "a")]

    assert anyio.run(sizes) == [2, 2, 1]


def test_cursors_outlive_a_restart_and_an_index_that_is_built_anew(tmp_path: Path) -> None:
    app, page_of, add = note_app()
    with app.open(tmp_path / "data.db") as db:
        db.mutation(add, "a", 5)
        first = db.query(page_of, options(2), "a")
    others = {"by_other": ["other"], "by_kind": ["kind"], "by_key": ["key"]}
    without = rdb.Table("things", indexes={"by_other": ["other"]})
    app_of(without).open(tmp_path / "data.db").close()
    app_of(rdb.Table("things", indexes=others)).open(tmp_path / "data.db").close()
    with app.open(tmp_path / "data.db") as db:
        second = db.query(page_of, options(2, first.continue_cursor), "a")
        assert keys_of(second.page) == [2, 3]
