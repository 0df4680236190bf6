"""Do both storages erase writes and answers alike, and undo it with the open group?"""

from __future__ import annotations

from reactivedb.storage import DocumentWrite, Outcome, Storage

from .commits import INDEX, TABLE, commit, insert, text_of, write


def prepared(storage: Storage) -> None:
    """`a` in three versions, then deleted; `b` beside it; an outcome at 5."""
    storage.put_table(TABLE)
    storage.put_index(INDEX)
    storage.append(insert(1, "a", "b", creation_time=7.0))
    storage.append(commit(2, [write("a", text_of("a", 7.0, body="second"), prev_ts=1)]))
    storage.append(commit(3, [write("a", text_of("a", 7.0, body="third"), prev_ts=2)]))
    storage.append(commit(4, [write("a", prev_ts=3)], removed=[b"a"]))
    storage.append(commit(5, outcome=Outcome("session", 1, 5, b'"third"', ("a line",))))
    storage.flush()


def erase(storage: Storage) -> None:
    storage.erase_writes("a", [1, 2, 3, 4])
    storage.append(commit(6, [write("a")]))


def test_erased_writes_are_gone_and_the_rest_agrees(storage: Storage) -> None:
    prepared(storage)
    erase(storage)
    storage.flush()
    assert storage.log(0, limit=10) == [
        (1, write("b", text_of("b", 7.0, author="ada"))),
        (6, DocumentWrite(TABLE.number, "a", None, None)),
    ]
    assert storage.check() == []
    assert storage.deleted_at("a") == 6
    assert storage.catalog().last_creation_time == 7.0


def test_the_extent_of_the_log_is_without_what_was_erased(storage: Storage) -> None:
    prepared(storage)
    before = storage.log_extent()
    erase(storage)
    storage.flush()
    after = storage.log_extent()
    assert (before.write_count, after.write_count) == (5, 2)
    assert after.size_bytes == 200 + len(text_of("b", 7.0, author="ada"))
    assert after.forgotten_count == 4
    # The horizon passes the places that are empty now.
    assert storage.forget_log(6, size_bytes_max=0, limit=10) == 2
    storage.flush()
    assert storage.log_extent().write_count == 0
    assert storage.check() == []


def test_what_lies_before_the_horizon_can_be_erased(storage: Storage) -> None:
    prepared(storage)
    storage.forget_log(3, size_bytes_max=2**60, limit=10)
    storage.flush()
    count = storage.log_extent().write_count
    erase(storage)
    storage.flush()
    # The deletion at 4 was behind the horizon and went, the one at 6 came.
    assert storage.log_extent().write_count == count
    assert [ts for ts, _ in storage.log(0, limit=10)] == [1, 6]
    assert storage.check() == []


def test_an_erasure_is_undone_with_its_group(storage: Storage) -> None:
    prepared(storage)
    before, extent = storage.log(0, limit=10), storage.log_extent()
    erase(storage)
    storage.replace_outcome(5, b"null")
    storage.rollback()
    assert storage.log(0, limit=10) == before
    assert storage.log_extent() == extent
    [outcome] = storage.outcomes(0, limit=10)
    assert outcome.result == b'"third"'


def test_an_outcome_gets_another_result_and_no_log_lines(storage: Storage) -> None:
    prepared(storage)
    storage.append(commit(6, outcome=Outcome("session", 2, 6, b"2", ())))
    storage.replace_outcome(5, b"null")
    storage.flush()
    assert storage.outcome("session", 1) == Outcome("session", 1, 5, b"null", ())
    assert [found.ts for found in storage.outcomes(0, limit=1)] == [5]
    assert [found.ts for found in storage.outcomes(5, limit=10)] == [6]
