"""Does every storage keep the contract?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from reactivedb.errors import StorageError
from reactivedb.storage import Catalog, Commit, IndexRow, Outcome, Storage, StoredVersion, TableRow

from .commits import INDEX, TABLE, commit, insert, text_of, write

LAST = b"\xff"


def everything(storage: Storage) -> list[object]:
    """All that can be read, for comparing before with after."""
    return [
        storage.catalog(),
        storage.scan_table(TABLE.number, "", None, limit=1000),
        storage.scan(INDEX.number, b"", LAST, limit=1000),
        storage.log(0, limit=1000),
        storage.outcome("session", 1),
        storage.get_meta("name"),
    ]


def ids(found: list[StoredVersion]) -> list[str]:
    return [version.id for version in found]


# Catalog


def test_a_new_storage_is_empty(storage: Storage) -> None:
    assert storage.catalog() == Catalog(tables=[], indexes=[], last_ts=0, last_creation_time=0.0)
    assert storage.check() == []


def test_tables_and_indexes_come_back_by_number(storage: Storage) -> None:
    second = IndexRow(2, TABLE.number, "by_ü", ("a.b", "ü"), 'any "text"', "building")
    storage.put_index(second)
    storage.put_table(TableRow(10_002, "users"))
    storage.put_table(TABLE)
    storage.put_index(INDEX)
    storage.flush()
    assert storage.catalog().tables == [TABLE, TableRow(10_002, "users")]
    assert storage.catalog().indexes == [INDEX, second]


def test_an_index_row_is_replaced_and_its_entries_stay(storage: Storage) -> None:
    storage.put_index(IndexRow(INDEX.number, TABLE.number, "by_author", ("author",), "old", "building"))
    storage.append(insert(1, "a"))
    storage.put_index(INDEX)
    assert storage.catalog().indexes == [INDEX]
    assert storage.scan(INDEX.number, b"", LAST, limit=9) == [(b"a", "a")]


def test_a_dropped_index_takes_its_entries_with_it(storage: Storage) -> None:
    storage.put_index(INDEX)
    storage.append(insert(1, "a"))
    storage.add_index_entries(TABLE.number, [(2, b"other", "a")])
    storage.drop_index(INDEX.number)
    storage.drop_index(99)
    assert storage.catalog().indexes == []
    assert storage.scan(INDEX.number, b"", LAST, limit=9) == []
    assert storage.scan(2, b"", LAST, limit=9) == [(b"other", "a")]


@pytest.mark.parametrize("row", [TableRow(TABLE.number, "other"), TableRow(7, TABLE.name)])
def test_a_table_number_or_name_cannot_be_taken_twice(storage: Storage, row: TableRow) -> None:
    storage.put_table(TABLE)
    storage.flush()
    with pytest.raises(AssertionError):
        storage.put_table(row)
    assert storage.catalog().tables == [TABLE]


def test_the_catalog_knows_the_newest_ts_and_the_largest_creation_time(storage: Storage) -> None:
    storage.append(insert(5, "a", creation_time=1763912345678.1235))
    storage.append(insert(6, "b", creation_time=1763912345678.1))
    storage.append(commit(7, [write("a", prev_ts=5)], removed=[b"a"]))
    storage.flush()
    assert storage.catalog().last_ts == 7
    assert storage.catalog().last_creation_time == 1763912345678.1235
    # A mutation that wrote nothing has a ts all the same.
    storage.append(commit(9, outcome=Outcome("session", 1, 9, b"null", ())))
    assert storage.catalog().last_ts == 9


# Groups


def test_what_is_appended_is_read_at_once(storage: Storage) -> None:
    storage.append(insert(1, "a", "b"))
    assert storage.get(TABLE.number, "a") == StoredVersion("a", 1, text_of("a", author="ada"))
    storage.append(insert(2, "c"))
    assert ids(storage.scan_table(TABLE.number, "", None, limit=9)) == ["a", "b", "c"]
    assert [ts for ts, _ in storage.log(0, limit=9)] == [1, 1, 2]


def test_a_rollback_returns_to_the_last_flush(storage: Storage) -> None:
    storage.put_table(TABLE)
    storage.put_index(INDEX)
    storage.append(insert(1, "a", "b"))
    storage.set_meta("name", "before")
    storage.flush()
    before = everything(storage)

    storage.append(commit(2, [write("a", prev_ts=1)], removed=[b"a"]))
    storage.append(
        commit(
            3,
            [write("b", text_of("b", author="bob"), prev_ts=1)],
            removed=[b"b"],
            added=[(b"bob", "b")],
            outcome=Outcome("session", 1, 3, b"1", ("line",)),
        )
    )
    storage.add_index_entries(TABLE.number, [(INDEX.number, b"zzz", "b")])
    storage.set_meta("name", "after")
    storage.put_table(TableRow(10_002, "users"))
    storage.drop_index(INDEX.number)
    assert everything(storage) != before
    storage.rollback()
    assert everything(storage) == before
    storage.rollback()
    storage.append(insert(2, "c"))
    storage.flush()
    storage.rollback()
    assert ids(storage.scan_table(TABLE.number, "", None, limit=9)) == ["a", "b", "c"]
    assert storage.check() == []


def test_flush_and_sync_without_a_group_do_nothing(storage: Storage) -> None:
    storage.flush()
    storage.sync()
    storage.append(insert(1, "a"))
    storage.flush()
    storage.flush()
    storage.sync()
    assert storage.get(TABLE.number, "a") is not None


def test_a_commit_that_breaks_a_rule_takes_the_group_with_it(storage: Storage) -> None:
    storage.append(commit(1, outcome=Outcome("session", 1, 1, b"1", ())))
    storage.flush()
    before = everything(storage)
    for wrong in (
        insert(1, "too_early"),
        commit(4, added=[(b"key", "a")]),
        commit(5, [write("x", text_of("x"))], outcome=Outcome("session", 1, 5, b"2", ())),
    ):
        storage.append(insert(3, "good"))
        with pytest.raises(AssertionError):
            storage.append(wrong)
        assert everything(storage) == before


def test_entries_that_end_in_an_exception_take_the_group_with_them(storage: Storage) -> None:
    def entries() -> Iterator[tuple[int, bytes, str]]:
        yield INDEX.number, b"x", "a"
        raise RuntimeError("the scan behind it failed")

    storage.append(insert(1, "a"))
    with pytest.raises(RuntimeError):
        storage.add_index_entries(TABLE.number, entries())
    storage.flush()
    assert storage.scan(INDEX.number, b"", LAST, limit=9) == []
    assert storage.catalog().last_ts == 0


# Documents


def test_a_document_is_replaced_and_deleted_and_the_log_keeps_every_step(storage: Storage) -> None:
    storage.put_index(INDEX)
    first, second = text_of("a", author="ada"), text_of("a", author="bob")
    storage.append(commit(1, [write("a", first)], added=[(b"ada", "a")]))
    storage.append(
        commit(2, [write("a", second, prev_ts=1)], removed=[b"ada"], added=[(b"bob", "a")]),
    )
    assert storage.get(TABLE.number, "a") == StoredVersion("a", 2, second)
    storage.append(commit(3, [write("a", prev_ts=2)], removed=[b"bob"]))
    assert storage.get(TABLE.number, "a") is None
    assert storage.scan(INDEX.number, b"", LAST, limit=9) == []
    assert storage.log(0, limit=9) == [
        (1, write("a", first)),
        (2, write("a", second, prev_ts=1)),
        (3, write("a", prev_ts=2)),
    ]
    assert storage.check() == []


@pytest.mark.parametrize(
    "value",
    ["", "ü and 😀", '"quoted" \\', "nul \0", "x" * 1_000_000],
    ids=["empty", "unicode", "quotes", "nul", "long"],
)
def test_values_come_back_byte_for_byte(storage: Storage, value: str) -> None:
    text = text_of("a", body=value)
    storage.append(commit(1, [write("a", text)]))
    storage.flush()
    assert storage.get(TABLE.number, "a") == StoredVersion("a", 1, text)
    assert storage.log(0, limit=1) == [(1, write("a", text))]


def test_several_documents_are_read_at_once(storage: Storage) -> None:
    storage.append(insert(1, "a", "b", 'a "quoted" ü'))
    found = storage.get_many(TABLE.number, ["b", "missing", 'a "quoted" ü', "b"])
    assert sorted(id for id, _, _ in found) == ['a "quoted" ü', "b"]
    assert storage.get(TABLE.number, "b") in found
    assert storage.get_many(TABLE.number, []) == []


def test_documents_are_scanned_both_ways_between_ids(storage: Storage) -> None:
    storage.append(insert(1, "c", "a", "d", "b"))
    storage.append(commit(2, [write("other", text_of("other"))]))
    scan = storage.scan_table
    assert ids(scan(TABLE.number, "a", "c", limit=9)) == ["a", "b"]
    assert ids(scan(TABLE.number, "b", None, limit=2)) == ["b", "c"]
    assert ids(scan(TABLE.number, "", "other", reverse=True, limit=3)) == ["d", "c", "b"]
    assert ids(scan(TABLE.number, "", None, reverse=True, limit=1)) == ["other"]
    assert scan(TABLE.number, "c", "a", limit=9) == []
    assert scan(TABLE.number, "a", None, limit=0) == []
    assert scan(10_002, "", None, limit=9) == []


# Index entries


def test_entries_are_scanned_both_ways_between_keys(storage: Storage) -> None:
    keys = [b"\x01", b"\x01\x00", b"\x01\xff", b"\x02", b"\x80"]
    storage.add_index_entries(TABLE.number, [(INDEX.number, key, key.hex()) for key in reversed(keys)])

    def scanned(low: bytes, high: bytes, *, reverse: bool = False, limit: int = 9) -> list[bytes]:
        return [key for key, _ in storage.scan(INDEX.number, low, high, reverse=reverse, limit=limit)]

    assert scanned(b"", LAST) == keys
    assert scanned(b"", LAST, reverse=True) == keys[::-1]
    assert scanned(b"\x01", b"\x02") == keys[:3]
    assert scanned(b"\x01\x00", b"\x80", limit=2) == keys[1:3]
    assert scanned(b"", b"\x80", reverse=True, limit=2) == [b"\x02", b"\x01\xff"]
    assert scanned(b"\x02", b"\x02") == scanned(b"\x02", b"\x01") == scanned(b"", LAST, limit=0) == []
    assert storage.scan(2, b"", LAST, limit=9) == []
    assert storage.count(INDEX.number, b"\x01", b"\x02") == 3


@pytest.mark.parametrize("reverse", [False, True])
def test_documents_come_with_the_entries_that_point_at_them(storage: Storage, reverse: bool) -> None:
    storage.append(insert(1, "a", "b", "c"))
    storage.add_index_entries(TABLE.number, [(INDEX.number, b"\x02", "a"), (INDEX.number, b"\x03", "c")])

    def found(low: bytes, high: bytes, limit: int) -> list[tuple[bytes, str, int, bytes]]:
        return storage.scan_documents(INDEX.number, low, high, TABLE.number, reverse=reverse, limit=limit)

    for low, high, limit in ((b"", LAST, 9), (b"\x02", b"b", 9), (b"", LAST, 2), (b"d", LAST, 9)):
        entries = storage.scan(INDEX.number, low, high, reverse=reverse, limit=limit)
        versions = [(key, storage.get(TABLE.number, id)) for key, id in entries]
        assert found(low, high, limit) == [(key, *version) for key, version in versions if version]
    assert len(found(b"", LAST, 9)) == 5
    assert storage.scan_documents(2, b"", LAST, TABLE.number, reverse=reverse, limit=9) == []
    assert storage.count(INDEX.number, b"\x02", b"\x01") == storage.count(2, b"", LAST) == 0


def test_a_key_that_a_commit_removes_and_adds_is_there_after_it(storage: Storage) -> None:
    storage.append(insert(1, "a"))
    storage.append(commit(2, [write("a", text_of("a"), prev_ts=1)], removed=[b"a"], added=[(b"a", "a")]))
    assert storage.scan(INDEX.number, b"", LAST, limit=9) == [(b"a", "a")]


def test_entries_are_filled_in_without_a_commit_and_again(storage: Storage) -> None:
    storage.add_index_entries(TABLE.number, [(INDEX.number, b"%d" % n, "old") for n in range(3)])
    storage.add_index_entries(TABLE.number, [(INDEX.number, b"1", "new")])
    storage.flush()
    assert storage.scan(INDEX.number, b"", LAST, limit=9) == [(b"0", "old"), (b"1", "new"), (b"2", "old")]
    assert storage.catalog().last_ts == 0


# Outcomes, log, meta


def test_an_outcome_is_found_by_session_and_request_until_it_is_forgotten(storage: Storage) -> None:
    # What a function prints may hold a lone surrogate.
    first = Outcome("session", 1, 10, '{"ü":1}'.encode(), ("one", "\ud800 two"))
    second = Outcome("session", 2, 20, b"null", ())
    storage.append(commit(10, outcome=first))
    storage.append(commit(20, outcome=second))
    storage.flush()
    assert storage.outcome("session", 1) == first
    assert storage.outcome("session", 3) is storage.outcome("other", 1) is None
    assert storage.forget_outcomes(20) == 1
    storage.flush()
    assert storage.outcome("session", 1) is None
    assert storage.outcome("session", 2) == second
    assert storage.forget_outcomes(20) == 0


def test_the_requests_of_a_session_above_a_ts_are_known(storage: Storage) -> None:
    for ts, session, request in [(10, "one", 0), (20, "one", 3), (30, "other", 1), (40, "one", 4)]:
        storage.append(commit(ts, outcome=Outcome(session, request, ts, b"null", ())))
    found = [sorted(storage.requests_after("one", ts, newest=9)) for ts in (0, 10, 25, 40)]
    assert found == [[0, 3, 4], [3, 4], [4], []]
    assert sorted(storage.requests_after("one", 0, newest=2)) == [3, 4]
    assert storage.requests_after("nobody", 0, newest=9) == []
    storage.flush()
    storage.append(commit(50, outcome=Outcome("one", 5, 50, b"null", ())))
    storage.rollback()
    assert storage.requests_after("one", 20, newest=9) == [4]


def test_the_log_is_read_on_from_a_ts_and_never_splits_a_commit(storage: Storage) -> None:
    storage.append(insert(10, "a", "b", "c"))
    storage.append(insert(20, "d"))
    storage.append(insert(30, "e", "f"))

    def read(after_ts: int, limit: int) -> list[tuple[int, str]]:
        return [(ts, step.id) for ts, step in storage.log(after_ts, limit=limit)]

    assert read(0, 2) == [(10, "a"), (10, "b"), (10, "c")]
    assert read(10, 2) == [(20, "d"), (30, "e"), (30, "f")]
    assert read(15, 1) == [(20, "d")]
    assert read(30, 9) == []


def test_a_named_text_is_kept_and_replaced(storage: Storage) -> None:
    assert storage.get_meta("name") is None
    storage.set_meta("name", "one")
    storage.set_meta("name", "zwölf")
    storage.flush()
    assert storage.get_meta("name") == "zwölf"


# Check and close


@pytest.mark.parametrize(
    "wrong",
    [
        commit(2, [write("a", text_of("a"))]),
        commit(2, [write("b", text_of("b"), prev_ts=1)]),
        commit(2, [write("b", text_of("b"))], added=[(b"key", "nobody")]),
        Commit(2, [write("b", text_of("b"))], [], [(99, b"key", "a")], None),
    ],
    ids=["previous version missing", "previous version invented", "entry of nobody", "entry of no index"],
)
def test_the_check_finds_what_does_not_fit_together(storage: Storage, wrong: Commit) -> None:
    storage.put_index(INDEX)
    storage.append(insert(1, "a"))
    assert storage.check() == []
    storage.append(wrong)
    assert len(storage.check()) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda storage: storage.catalog(),
        lambda storage: storage.put_table(TABLE),
        lambda storage: storage.put_index(INDEX),
        lambda storage: storage.drop_index(1),
        lambda storage: storage.append(insert(2, "b")),
        lambda storage: storage.add_index_entries(TABLE.number, [(1, b"", "a")]),
        lambda storage: storage.flush(),
        lambda storage: storage.sync(),
        lambda storage: storage.rollback(),
        lambda storage: storage.get(TABLE.number, "a"),
        lambda storage: storage.get_many(TABLE.number, ["a"]),
        lambda storage: storage.scan(1, b"", LAST, limit=1),
        lambda storage: storage.scan_table(1, "", None, limit=1),
        lambda storage: storage.count(1, b"", LAST),
        lambda storage: storage.outcome("session", 1),
        lambda storage: storage.forget_outcomes(1),
        lambda storage: storage.log(0, limit=1),
        lambda storage: storage.logged(1, ["a"]),
        lambda storage: storage.deleted_at("a"),
        lambda storage: storage.log_extent(),
        lambda storage: storage.forget_log(1, size_bytes_max=0, limit=1),
        lambda storage: storage.set_meta("name", "text"),
        lambda storage: storage.get_meta("name"),
        lambda storage: storage.check(),
    ],
)
def test_a_closed_storage_refuses_everything(storage: Storage, call: Callable[[Storage], object]) -> None:
    storage.append(insert(1, "a"))
    storage.close()
    storage.close()
    with pytest.raises(StorageError) as raised:
        call(storage)
    assert raised.value.code == "StorageClosed"
