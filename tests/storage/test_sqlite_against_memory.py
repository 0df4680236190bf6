"""Do the two storages ever differ?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from reactivedb.storage import (
    Commit,
    DocumentWrite,
    IndexRow,
    MemoryStorage,
    Outcome,
    SqliteStorage,
    Storage,
    TableRow,
    open_sqlite,
)

from .commits import text_of

# An id belongs to one table, an index too.
TABLE_OF_ID = {f"{table}id{n}": table for table in (1, 2) for n in range(6)}
TABLE_OF_INDEX = {1: 1, 2: 1, 3: 2}
IDS = st.sampled_from(list(TABLE_OF_ID))
TABLES = st.sampled_from([1, 2])
INDEXES = st.sampled_from(list(TABLE_OF_INDEX))
KEYS = st.binary(max_size=3).filter(lambda key: not key.startswith(b"\xff"))
BOUNDS = st.binary(max_size=3) | st.just(b"\xff")
LIMITS = st.integers(0, 8)
CREATION_TIMES = st.floats(0, 1e14)


class SqliteAgainstMemory(RuleBasedStateMachine):
    """Every step is taken on both; every answer must be the same."""

    def __init__(self) -> None:
        super().__init__()
        # In memory where there is such a folder: nothing here needs a real disk.
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.memory = MemoryStorage()
        self.sqlite: SqliteStorage = self.open()
        self.ts = 0
        self.group_is_open = False

    def open(self) -> SqliteStorage:
        return open_sqlite(Path(self.folder.name) / "data.db", durability="relaxed", checkpoint_pages=10)

    def teardown(self) -> None:
        self.sqlite.close()
        self.folder.cleanup()

    def both(self, call: Callable[[Storage], object]) -> None:
        assert call(self.sqlite) == call(self.memory)

    def change(self, call: Callable[[Storage], object]) -> None:
        self.group_is_open = True
        self.both(call)

    @rule(
        data=st.data(),
        gap=st.integers(1, 3),
        documents=st.lists(IDS, unique=True, max_size=4),
        removed=st.lists(st.tuples(INDEXES, KEYS), max_size=3),
        added=st.lists(st.tuples(INDEXES, KEYS, IDS), max_size=3),
        with_outcome=st.booleans(),
    )
    def append(
        self,
        data: st.DataObject,
        gap: int,
        documents: list[str],
        removed: list[tuple[int, bytes]],
        added: list[tuple[int, bytes, str]],
        with_outcome: bool,
    ) -> None:
        self.ts += gap
        writes: list[DocumentWrite] = []
        for document_id in documents:
            table_number = TABLE_OF_ID[document_id]
            before = self.memory.get(table_number, document_id)
            creation_time = data.draw(st.none() | CREATION_TIMES)
            value = None if creation_time is None else text_of(document_id, creation_time)
            writes.append(DocumentWrite(table_number, document_id, before and before.ts, value))
        written = {write.id for write in writes if write.value is not None}
        added = [entry for entry in added if entry[2] in written and self.fits(entry)]
        removed = removed + [
            (index, key)
            for index in TABLE_OF_INDEX
            for key, id in self.memory.scan(index, b"", b"\xff", limit=1000)
            if id in documents and id not in written
        ]
        with_outcome = with_outcome or not writes
        outcome = (
            Outcome(f"session{self.ts % 2}", self.ts, self.ts, b"1", ("line",)) if with_outcome else None
        )
        commit = Commit(self.ts, writes, removed, added, outcome)
        self.change(lambda storage: storage.append(commit))

    def fits(self, entry: tuple[int, bytes, str]) -> bool:
        return TABLE_OF_INDEX[entry[0]] == TABLE_OF_ID[entry[2]]

    @rule(number=INDEXES, name=st.sampled_from(["by_a", "by_b"]))
    def put_index(self, number: int, name: str) -> None:
        row = IndexRow(number, TABLE_OF_INDEX[number], name, (name,), "d", "ready")
        self.change(lambda storage: storage.put_index(row))

    @rule(number=INDEXES)
    def drop_index(self, number: int) -> None:
        self.change(lambda storage: storage.drop_index(number))

    @rule(number=st.integers(1, 50))
    def put_table(self, number: int) -> None:
        if all(row.number != number for row in self.memory.catalog().tables):
            self.change(lambda storage: storage.put_table(TableRow(number, f"table{number}")))

    @rule(table=TABLES, entries=st.lists(st.tuples(INDEXES, KEYS, IDS), max_size=5))
    def fill(self, table: int, entries: list[tuple[int, bytes, str]]) -> None:
        stored = {version.id for version in self.memory.scan_table(table, "", None, limit=1000)}
        entries = [entry for entry in entries if entry[2] in stored and self.fits(entry)]
        self.change(lambda storage: storage.add_index_entries(table, iter(entries)))

    @rule(value=st.text(max_size=3).filter(lambda text: "\0" not in text))
    def set_meta(self, value: str) -> None:
        self.change(lambda storage: storage.set_meta("name", value))

    @rule(back=st.integers(0, 10))
    def forget_outcomes(self, back: int) -> None:
        self.change(lambda storage: storage.forget_outcomes(self.ts - back))

    @rule(back=st.integers(0, 30), size_bytes_max=st.sampled_from([0, 500, 10**9]), limit=st.integers(1, 5))
    def forget_log(self, back: int, size_bytes_max: int, limit: int) -> None:
        self.change(
            lambda storage: storage.forget_log(self.ts - back, size_bytes_max=size_bytes_max, limit=limit)
        )

    @rule()
    def flush(self) -> None:
        self.group_is_open = False
        self.both(lambda storage: storage.flush())

    @rule()
    def rollback(self) -> None:
        self.group_is_open = False
        self.both(lambda storage: storage.rollback())
        self.ts = self.memory.catalog().last_ts

    @precondition(lambda self: not self.group_is_open)
    @rule()
    def reopen(self) -> None:
        self.sqlite.close()
        self.sqlite = self.open()

    @rule(index=INDEXES, low=BOUNDS, high=BOUNDS, reverse=st.booleans(), limit=LIMITS)
    def scan(self, index: int, low: bytes, high: bytes, reverse: bool, limit: int) -> None:
        self.both(lambda storage: storage.scan(index, low, high, reverse=reverse, limit=limit))
        self.both(lambda storage: storage.count(index, low, high))
        table = TABLE_OF_INDEX[index]
        self.both(
            lambda storage: storage.scan_documents(index, low, high, table, reverse=reverse, limit=limit)
        )

    @rule(table=TABLES, low=IDS | st.just(""), high=IDS | st.none(), reverse=st.booleans(), limit=LIMITS)
    def scan_table(self, table: int, low: str, high: str | None, reverse: bool, limit: int) -> None:
        self.both(lambda storage: storage.scan_table(table, low, high, reverse=reverse, limit=limit))

    @rule(back=st.integers(0, 10), limit=LIMITS)
    def read_log(self, back: int, limit: int) -> None:
        self.both(lambda storage: storage.log(self.ts - back, limit=limit))

    @rule(back=st.integers(0, 10), ids=st.sets(IDS), id=IDS)
    def read_versions(self, back: int, ids: set[str], id: str) -> None:
        self.both(lambda storage: storage.logged(self.ts - back, ids))
        self.both(lambda storage: sorted(storage.get_many(1, ids)))
        self.both(lambda storage: storage.deleted_at(id))

    @invariant()
    def agrees(self) -> None:
        self.both(lambda storage: storage.catalog())
        self.both(lambda storage: storage.get_meta("name"))
        self.both(lambda storage: storage.log_extent())
        self.both(lambda storage: storage.outcome(f"session{self.ts % 2}", self.ts))
        self.both(lambda storage: sorted(storage.check()))


@pytest.mark.slow
def test_sqlite_and_memory_give_the_same_answers() -> None:
    run_state_machine_as_test(
        SqliteAgainstMemory, settings=settings(max_examples=100, stateful_step_count=30, deadline=None)
    )
