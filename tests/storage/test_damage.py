"""Does damage on the disk ever give a wrong answer?

A database with all that a file can hold, some of it in the WAL, as a killed process leaves it. One place is
damaged; then everything is asked. What comes is a `StorageError` with a name, or what was there: after damage
to the last group of the WAL, which looks like a power cut, what was there without that group.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reactivedb.errors import StorageError
from reactivedb.storage import IndexRow, Outcome, SqliteStorage, TableRow, open_sqlite
from reactivedb.storage.page_checksums import PAGE_SIZE_BYTES

from .commits import INDEX, TABLE, commit, text_of, write

LONG = os.environ.get("REACTIVEDB_LONG") == "1"
COUNT = 1_000 if LONG else 60
OTHER = TableRow(10_002, "people")
IDS = [f"id{n:03}" for n in range(120)]
_FRAME_BYTES = 24 + PAGE_SIZE_BYTES


def fill(storage: SqliteStorage) -> None:
    """Several pages of everything, long texts, a deletion, a forgotten part of the log."""
    storage.put_table(TABLE)
    storage.put_table(OTHER)
    storage.put_index(INDEX)
    storage.put_index(IndexRow(2, OTHER.number, "by_name", ("name",), '[["name"],{}]', "ready"))
    storage.set_meta("engine.secret", "s" * 40)
    for ts, id in enumerate(IDS, start=1):
        text = text_of(id, float(ts), body="x" * (ts**3 % 9000))
        outcome = Outcome("session", ts, ts, b'"answer %d"' % ts, ("a line",))
        storage.append(commit(ts, [write(id, text)], added=[(id.encode(), id)], outcome=outcome))
    storage.append(commit(200, [write(IDS[3], prev_ts=4)], removed=[IDS[3].encode()]))
    storage.flush()
    storage.forget_log(10, size_bytes_max=10**9, limit=5)
    storage.flush()


def answers(storage: SqliteStorage) -> dict[str, Any]:
    found: dict[str, Any] = {
        "catalog": storage.catalog(),
        "extent": storage.log_extent(),
        "meta": storage.get_meta("engine.secret"),
        "table": storage.scan_table(TABLE.number, "", None, limit=999),
        "documents": storage.scan_documents(
            INDEX.number, b"", b"\xff", TABLE.number, reverse=False, limit=999
        ),
        "reverse": storage.scan(INDEX.number, b"", b"\xff", reverse=True, limit=999),
        "count": storage.count(INDEX.number, b"", b"\xff"),
        "log": storage.log(0, limit=999),
        "requests": sorted(storage.requests_after("session", 0, newest=999)),
        "deleted": storage.deleted_at(IDS[3]),
    }
    for ts, id in enumerate(IDS, start=1):
        found[id] = storage.get(TABLE.number, id)
        found[f"many {id}"] = sorted(storage.get_many(TABLE.number, [id, "missing"]))
        found[f"outcome {ts}"] = storage.outcome("session", ts)
        found[f"logged {ts}"] = storage.logged(ts, [id])
    return found


class Sound:
    """The undamaged files, and what they answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "sound"
        self.folder.mkdir()
        path = folder / "data.db"
        first = open_sqlite(path)
        fill(first)
        first.close()
        second = open_sqlite(path)
        # After each of five groups, which stay in the WAL.
        self.states: list[dict[str, Any]] = []
        for ts in range(301, 306):
            id = IDS[ts - 290]
            text = text_of(id, float(ts - 289), body="y" * (ts % 7 * 900))
            second.append(commit(ts, [write(id, text, prev_ts=ts - 289)]))
            second.flush()
            second.sync()
            self.states.append(answers(second))
        self.answers = self.states[-1]
        for name in ("data.db", "data.db-wal"):
            shutil.copy(folder / name, self.folder / name)
        second.close()

    def copy(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        for name in ("data.db", "data.db-wal"):
            shutil.copy(self.folder / name, folder / name)
        return folder / "data.db"

    def closed(self, folder: Path) -> Path:
        """A copy without a WAL."""
        path = self.copy(folder)
        open_sqlite(path).close()
        return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    return Sound(tmp_path_factory.mktemp("sound"))


def outcome_of(path: Path) -> dict[str, Any] | StorageError:
    """Everything that is asked of the file, or why it was not answered."""
    try:
        storage = open_sqlite(path)
    except StorageError as error:
        return error
    try:
        return answers(storage)
    except StorageError as error:
        return error
    finally:
        storage.close()


def flip(content: bytearray, rng: random.Random) -> str:
    place, bit = rng.randrange(len(content)), rng.randrange(8)
    content[place] ^= 1 << bit
    return f"bit {bit} of byte {place}"


def zero_sector(content: bytearray, rng: random.Random) -> str:
    # Not the first: a WAL that begins with zeros is one that was about to be emptied.
    start = rng.randrange(1, len(content) // 512) * 512
    content[start : start + 512] = bytes(512)
    return f"zeros from {start}"


def zero_page(content: bytearray, rng: random.Random) -> str:
    start = rng.randrange(len(content) // PAGE_SIZE_BYTES) * PAGE_SIZE_BYTES
    content[start : start + PAGE_SIZE_BYTES] = bytes(PAGE_SIZE_BYTES)
    return f"a page of zeros at {start}"


def garbage(content: bytearray, rng: random.Random) -> str:
    start = rng.randrange(len(content) - 64)
    content[start : start + 64] = rng.randbytes(64)
    return f"garbage from {start}"


def other_page(content: bytearray, rng: random.Random) -> str:
    pages = len(content) // PAGE_SIZE_BYTES
    one, other = (PAGE_SIZE_BYTES * rng.randrange(pages) for _ in range(2))
    if not any(content[other : other + 32]):
        # A WAL that begins with zeros looks as one that was emptied (`docs/storage_format.md`).
        one = one or PAGE_SIZE_BYTES
    content[one : one + PAGE_SIZE_BYTES] = content[other : other + PAGE_SIZE_BYTES]
    return f"the page at {other} also at {one}"


def cut_short(content: bytearray, rng: random.Random) -> str:
    size = rng.randrange(len(content))
    del content[size:]
    return f"cut to {size}"


Damage = Callable[[bytearray, random.Random], str]


def damage(path: Path, how: Damage, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    what = how(content, rng)
    path.write_bytes(content)
    return f"{path.name}: {what}"


def seeds() -> Iterator[random.Random]:
    seed = int(os.environ.get("REACTIVEDB_SEED", random.SystemRandom().randrange(2**32)))
    print(f"REACTIVEDB_SEED={seed}")
    rng = random.Random(seed)
    for _ in range(COUNT):
        yield rng


NAMED = {"DatabaseCorrupt", "ForeignDatabase", "NewerFormat"}


def check_outcome(found: dict[str, Any] | StorageError, right: list[dict[str, Any]], what: str) -> None:
    if isinstance(found, StorageError):
        assert found.code in NAMED, f"{what}: {found}"
        assert " - " in found.message
        return
    wrong = [key for key in found if all(found[key] != one[key] for one in right)]
    assert found in right, f"{what} gave wrong answers: {wrong}"


@pytest.mark.slow
@pytest.mark.parametrize("how", [flip, zero_sector, zero_page, garbage, other_page, cut_short])
def test_damage_to_the_database_file_is_named_or_harmless(sound: Sound, tmp_path: Path, how: Damage) -> None:
    closed = sound.closed(tmp_path / "closed")
    named = 0
    for rng in seeds():
        path = tmp_path / "data.db"
        shutil.copy(closed, path)
        what = damage(path, how, rng)
        found = outcome_of(path)
        named += isinstance(found, StorageError)
        check_outcome(found, [sound.answers], what)
    print(f"{named} of {COUNT} were refused by name")
    assert named > COUNT // 3


@pytest.mark.slow
@pytest.mark.parametrize(
    # One bit can take the last group. What takes the end of the group before as well takes two.
    ("how", "left"),
    [(flip, 4), (garbage, 3), (zero_sector, 3), (other_page, 2)],
)
def test_damage_to_the_wal_is_named_or_looks_like_a_power_cut_in_the_last_group(
    sound: Sound, tmp_path: Path, how: Damage, left: int
) -> None:
    named = 0
    for rng in seeds():
        path = sound.copy(tmp_path / "copy")
        what = damage(path.with_name("data.db-wal"), how, rng)
        found = outcome_of(path)
        named += isinstance(found, StorageError)
        check_outcome(found, sound.states[left - 1 :], what)
    print(f"{named} of {COUNT} were refused by name")
    assert named > COUNT // 3


@pytest.mark.slow
def test_damage_to_the_database_file_beside_a_wal_is_named_or_harmless(sound: Sound, tmp_path: Path) -> None:
    for rng in seeds():
        path = sound.copy(tmp_path / "copy")
        what = damage(path, flip, rng)
        check_outcome(outcome_of(path), [sound.answers], what)
