"""Makes a recorded file: `python tests/recorded/record.py FORMAT`, with the package of the release to record.

That is `PYTHONPATH=CHECKOUT_OF_THE_RELEASE/src`. The program is killed, so that commits are left in the WAL.
What the file must answer lies beside it in the archive, as this release answered it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import reactivedb as rdb
from reactivedb.functions import ANONYMOUS, RequestKey
from reactivedb.functions.file_links import links_of
from reactivedb.testing import FakeClock
from recorded import application as notes

app = rdb.App(notes, root="recorded")
AUTHORS = ("ada", "bob", "Zoë 🦎")


def fill(folder: Path) -> None:
    clock, path = FakeClock(), folder / "data.db"
    with app.open(path, clock=clock) as database:
        for number in range(24):
            text = f"note {number} " + "é" * (number**3 % 3000)
            database.mutation(notes.add, AUTHORS[number % 3], text, float(number % 5))
        file_id = database.action(notes.store, b"the bytes of a file")
        first_ts = database.latest_ts
    clock.advance(60)
    database = app.open(path, clock=clock)
    runner = database.runtime.runner
    counting = runner.registry.of(notes.count_up)
    answer = runner.mutation(
        counting, runner.bind(counting, (), {}), ANONYMOUS, key=RequestKey("the session", 7)
    )
    database.mutation(notes.count_later, 3600.0)
    mine = database.query(notes.notes_of, "ada")
    database.mutation(notes.change, mine[0].id, "changed " + "ß" * 2500)
    database.mutation(notes.remove, mine[1].id)
    page = database.query(notes.page, rdb.PaginationOptions(num_items=7, cursor=None))
    expected: dict[str, Any] = {
        "notes": {author: as_json(database.query(notes.notes_of, author)) for author in AUTHORS},
        "before": as_json(database.at(first_ts).query(notes.notes_of, "ada")),
        "before_ts": first_ts,
        "changed": mine[0].id,
        "cursor": page.continue_cursor,
        "page": [note.id for note in page.page],
        "file": file_id,
        "address": links_of(database.runtime.engine.cursor_secret).address(file_id),
        "answer": [answer.ts, answer.value],
        "now_ns": clock.now_ns(),
    }
    (folder / "expected.json").write_text(json.dumps(expected))
    os.kill(os.getpid(), signal.SIGKILL)


def as_json(found: list[notes.Note]) -> list[Any]:
    return [[note.id, note.author, note.text, note.rank, note.data.hex(), note.big] for note in found]


def record(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        died = subprocess.run([sys.executable, __file__, "--into", folder], check=False)
        assert died.returncode == -signal.SIGKILL
        with tarfile.open(Path(__file__).parent / f"format_{name}.tar.xz", "w:xz") as archive:
            for part in ("data.db", "data.db-wal", "data.db.files", "expected.json"):
                archive.add(Path(folder) / part, part)


if __name__ == "__main__":
    if sys.argv[1] == "--into":
        fill(Path(sys.argv[2]))
    else:
        record(sys.argv[1])
