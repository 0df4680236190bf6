"""Does a cascade leave orphans behind when its process is killed in the middle, again and again?"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from reactivedb.storage import DocumentWrite, open_sqlite
from reactivedb.values import decode

from .cascading import BATCH, KEPT

SCRIPT = Path(__file__).with_name("cascading.py")
CHILDREN = 10_000
KILLS = 6


def command(*words: object) -> list[str]:
    return [sys.executable, str(SCRIPT), *map(str, words)]


def left_when_killed(what: str, path: Path, line_count: int) -> list[int]:
    """Kill the process when it has said so often what is left; gives what it said last."""
    last = ""
    with subprocess.Popen(command(what, path), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(line_count):
            last = process.stdout.readline() or last
        process.kill()
    return [int(word) for word in last.split()]


@pytest.mark.slow
def test_a_cascade_over_10000_children_that_is_killed_leaves_no_orphan(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choices = random.Random(seed)
    path = tmp_path / "data.db"
    subprocess.run(command("seed", path, CHILDREN), check=True)
    # The first line may come before the deletion.
    left = left_when_killed("delete", path, 2)
    assert 2 * CHILDREN > sum(left) > 2 * CHILDREN - 10 * BATCH
    for _ in range(KILLS):
        following = left_when_killed("resume", path, choices.randint(1, 5))
        # Nothing that was gone is back: the file is as the one before it has said, or further.
        assert all(now <= before for now, before in zip(following, left, strict=True))
        left = following
    assert sum(left) > 2 * KEPT, "it was over before the last kill"
    subprocess.run(command("resume", path), check=True, stdout=subprocess.DEVNULL, timeout=60)
    storage = open_sqlite(path)
    try:
        assert storage.check() == []
        deletions = check_each_was_deleted_once(list(storage.log(0, limit=10**6)))
        assert deletions == 2 * CHILDREN + 1
    finally:
        storage.close()


def check_each_was_deleted_once(log: list[tuple[int, DocumentWrite]]) -> int:
    """No document is written after its deletion; gives the number of deletions."""
    kept: dict[str, dict[str, object]] = {}
    gone: set[str] = set()
    for _, write in log:
        assert write.id not in gone
        if write.value is None:
            gone.add(write.id)
            del kept[write.id]
        else:
            fields = decode(write.value)
            assert isinstance(fields, dict)
            kept[write.id] = dict(fields)
    parents = [row[field] for row in kept.values() for field in ("channelId", "messageId") if field in row]
    assert len(parents) == 2 * KEPT
    assert all(parent in kept for parent in parents)
    return len(gone)
