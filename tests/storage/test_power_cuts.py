"""Does an acknowledged commit survive a power cut?"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reactivedb.errors import StorageError
from reactivedb.storage import Commit, DocumentWrite, Outcome, SqliteStorage, open_sqlite

from .commits import INDEX, TABLE, text_of, write
from .power_cut_vfs import Disk, DiskWalSync, PowerCutVFS

CUT_COUNT = 300
CUTS_PER_DATABASE = 15

LogRows = list[tuple[int, DocumentWrite]]


class UnsyncedWal(DiskWalSync):
    def sync(self) -> None:
        pass


class Writer:
    """Writes groups of commits to one database and knows which of them must be there after a cut."""

    def __init__(self, disk: Disk, rng: random.Random) -> None:
        self.disk = disk
        self.rng = rng
        self.groups: list[LogRows] = []
        self.acknowledged_count = 0
        self.ts = 0

    def write_on(self, storage: SqliteStorage) -> None:
        """Until the power goes, a sync fails (then as after a crash), or it is enough; closes the storage."""
        group_count_max = len(self.groups) + self.rng.choice([10, 1000])
        while not self.disk.is_off and len(self.groups) < group_count_max:
            for commit in (group := [self.next_commit() for _ in range(self.rng.randint(1, 3))]):
                storage.append(commit)
            self.groups.append([(commit.ts, step) for commit in group for step in commit.writes])
            storage.flush()
            if self.rng.random() < 0.7:
                self.disk.next_sync_fails = self.rng.random() < 0.05
                try:
                    storage.sync()
                except StorageError:
                    storage.close()
                    return
                self.acknowledge_all()
        storage.close()
        self.acknowledge_all()

    def acknowledge_all(self) -> None:
        if not self.disk.is_off:
            self.acknowledged_count = len(self.groups)

    def next_commit(self) -> Commit:
        """One new document, and one that every commit counts up."""
        ts, self.ts = self.ts + 1, self.ts + 1
        new = f"new{ts:06}"
        counted = write("counter", text_of("counter", 0.0, n=ts), prev_ts=ts - 1 or None)
        created = write(new, text_of(new, float(ts), body="x" * self.rng.randint(0, 3000)))
        return Commit(
            ts=ts,
            writes=[counted, created],
            index_removed=[(INDEX.number, b"%06d" % (ts - 1))],
            index_added=[(INDEX.number, b"%06d" % ts, "counter")],
            outcome=Outcome("session", ts, ts, b"%d" % ts, ()),
        )

    def take_stock(self, storage: SqliteStorage) -> int:
        """Compare what is there with what was written; how many acknowledged groups are lost."""
        assert storage.check() == []
        found = storage.log(0, limit=1_000_000)
        group_count = 0
        expected: LogRows = []
        while len(expected) < len(found):
            expected += self.groups[group_count]
            group_count += 1
        assert found == expected, "not a whole number of groups"
        last_ts = found[-1][0] if found else 0
        assert storage.catalog().last_ts == last_ts
        assert storage.catalog().last_creation_time == float(last_ts)
        assert [key for key, _ in storage.scan(INDEX.number, b"", b"\xff", limit=9)] == [
            b"%06d" % ts for ts in [last_ts] if ts
        ]
        assert storage.outcome("session", last_ts + 1) is None
        assert not last_ts or storage.outcome("session", last_ts) is not None
        lost_count = max(0, self.acknowledged_count - group_count)
        del self.groups[group_count:]
        # What an opening has shown is there to stay, if the opening came to its end.
        if not self.disk.is_off or lost_count:
            self.acknowledged_count = group_count
        self.ts = last_ts
        return lost_count


@pytest.fixture
def folder() -> Iterator[Path]:
    # In memory where there is such a folder: nothing here needs a real disk.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        yield Path(os.path.realpath(name))


class Machine:
    """One database on one disk, started again after every cut."""

    def __init__(self, folder: Path, rng: random.Random, wal_sync: type[DiskWalSync]) -> None:
        self.rng = rng
        self.path = folder / "data.db"
        self.disk = Disk(folder)
        self.writer = Writer(self.disk, rng)
        self.wal_sync = wal_sync
        # SQLite forgets a file system whose object is gone.
        self.vfs = PowerCutVFS(f"power_cut {folder}", self.disk)
        self.is_refused = False

    def run_until_the_power_goes(self) -> int:
        """Returns how many acknowledged groups were missing when it was opened."""
        self.disk.cut_after(self.rng.randint(0, self.rng.choice([30, 300, 1000])))
        lost_count = 0
        while not self.disk.is_off:
            try:
                storage = open_sqlite(
                    self.path,
                    vfs=self.vfs.vfs_name,
                    open_wal=lambda wal: self.wal_sync(wal, self.disk),
                    checkpoint_pages=self.rng.choice([5, 20, 1000]),
                )
            except StorageError as error:
                # Groups that were acknowledged and not synced look like damage, if a later one is there.
                if self.wal_sync is not UnsyncedWal or error.code != "DatabaseCorrupt":
                    raise
                self.is_refused = True
                return lost_count + 1
            lost_count += self.writer.take_stock(storage)
            if not self.disk.is_off and not storage.catalog().tables:
                storage.put_table(TABLE)
                storage.put_index(INDEX)
                storage.flush()
            self.writer.write_on(storage)
            if self.rng.random() < 0.3:
                break
        self.disk.cut_and_restart(self.rng)
        return lost_count


def cut_many_times(folder: Path, seed: int, wal_sync: type[DiskWalSync]) -> tuple[int, int]:
    """Returns how many groups were acknowledged and how many of them were lost."""
    rng = random.Random(seed)
    acknowledged_count = lost_count = 0
    for number in range(CUT_COUNT // CUTS_PER_DATABASE):
        (place := folder / str(number)).mkdir()
        machine = Machine(place, rng, wal_sync)
        # The first run finds an empty folder, each later one what a cut has left.
        for _ in range(1 + CUTS_PER_DATABASE):
            if not machine.is_refused:
                lost_count += machine.run_until_the_power_goes()
        acknowledged_count += machine.writer.acknowledged_count
    return acknowledged_count, lost_count


@pytest.mark.slow
def test_no_acknowledged_commit_is_lost_in_300_power_cuts(folder: Path) -> None:
    seed = int(os.environ.get("REACTIVEDB_SEED", random.SystemRandom().randrange(2**32)))
    print(f"REACTIVEDB_SEED={seed}")
    acknowledged_count, lost_count = cut_many_times(folder, seed, DiskWalSync)
    print(f"{CUT_COUNT} power cuts, {acknowledged_count} groups acknowledged, {lost_count} lost")
    assert acknowledged_count > CUT_COUNT
    assert lost_count == 0


@pytest.mark.slow
def test_without_the_sync_of_the_wal_the_same_cuts_lose_commits(folder: Path) -> None:
    seed = 1
    acknowledged_count, lost_count = cut_many_times(folder, seed, UnsyncedWal)
    print(f"{CUT_COUNT} power cuts without sync, {acknowledged_count} acknowledged, {lost_count} lost")
    assert lost_count > 0
