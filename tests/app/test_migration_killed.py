"""Is every document migrated exactly once, whenever the process is killed?"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from reactivedb.app import check_schema
from reactivedb.engine import Engine
from reactivedb.storage import Storage, open_sqlite
from reactivedb.values import decode

from .migrating import application

SCRIPT = Path(__file__).with_name("migrating.py")
DOCUMENTS = 200_000
KILLS = 6


def command(*words: object) -> list[str]:
    return [sys.executable, str(SCRIPT), *map(str, words)]


def run_and_kill(what: str, path: Path, lines: int) -> str:
    """Kill the process when it has written so many lines; gives the last one."""
    last = ""
    with subprocess.Popen(command(what, path), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(lines):
            last = process.stdout.readline() or last
        process.kill()
    return last


@pytest.mark.slow
def test_a_migration_of_200000_documents_killed_at_random_points_does_each_once(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choices = random.Random(seed)
    path = tmp_path / "data.db"
    subprocess.run(command("seed", path, DOCUMENTS), check=True)
    killed_in_the_check = subprocess.Popen(command("migrate", path), stdout=subprocess.DEVNULL)
    try:
        killed_in_the_check.wait(choices.uniform(0.5, 2))
    except subprocess.TimeoutExpired:
        killed_in_the_check.kill()
        killed_in_the_check.wait()
    reached = 0
    for _ in range(KILLS):
        line = run_and_kill("migrate", path, choices.randint(1, 30))
        if line.strip():
            # It never falls behind what an earlier process had reported.
            assert int(line) >= reached
            reached = int(line)
    subprocess.run(command("migrate", path), check=True, stdout=subprocess.DEVNULL)
    storage = open_sqlite(path, durability="relaxed")
    try:
        check_each_was_migrated_once(storage)
    finally:
        storage.close()
    assert check_schema(application(), path).changes == ()


def check_each_was_migrated_once(storage: Storage) -> None:
    created: dict[str, tuple[str, object]] = {}
    migrated: set[str] = set()
    after_ts = 0
    while batch := storage.log(after_ts, limit=5_000):
        after_ts = batch[-1][0]
        for _, write in batch:
            assert write.value is not None
            fields = decode(write.value)
            assert isinstance(fields, dict)
            if write.prev_ts is None:
                created[write.id] = (str(fields["author"]), fields["_creationTime"])
                continue
            assert write.id not in migrated
            migrated.add(write.id)
            assert set(fields) == {"_id", "_creationTime", "writer", "stars"}
            assert (fields["writer"], fields["_creationTime"]) == created[write.id]
            assert fields["writer"] == f"author {int(float(str(fields['stars'])))}"
    assert len(created) == DOCUMENTS
    assert migrated == set(created)
    engine = Engine(storage)
    engine.declare(application().schema.tables.values(), (), application().schema.migrations)
    index = engine.catalog.table("notes").indexes["by_stars"]
    assert storage.count(index.number, b"", b"\xff") == DOCUMENTS
    assert storage.check() == []


@pytest.mark.slow
def test_the_building_of_an_index_goes_on_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    subprocess.run(command("seed", path, 20_000), check=True)
    assert int(run_and_kill("index", path, 5)) >= 4_000
    line = run_and_kill("index", path, 1)
    assert int(line) >= 4_000  # what it begins with is what was done before
    subprocess.run(command("index", path), check=True, stdout=subprocess.DEVNULL)
    storage = open_sqlite(path, durability="relaxed")
    [index] = [row for row in storage.catalog().indexes if row.name == "by_author"]
    assert index.state == "ready"
    entries = storage.scan(index.number, b"", b"\xff", limit=30_000)
    assert len({id for _, id in entries}) == len(entries) == 20_000
    assert storage.check() == []
    storage.close()
