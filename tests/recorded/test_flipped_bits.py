"""Is a flipped bit in a file of any format an error with a name, or harmless, to an application?

The files have no WAL: `sqlite3` has moved it into them, so that format 3 has pages without checksums as well.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import tarfile
from pathlib import Path

import pytest

import reactivedb as rdb
from reactivedb.storage.sqlite_schema import FORMAT_VERSION
from reactivedb.testing import FakeClock

from . import application as notes
from .record import app, as_json

COUNT = 400 if os.environ.get("REACTIVEDB_LONG") == "1" else 20


@pytest.mark.slow
@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
def test_a_flipped_bit_in_a_file_of_any_format_is_named_or_harmless(tmp_path: Path, version: int) -> None:
    seed = int(os.environ.get("REACTIVEDB_SEED", random.SystemRandom().randrange(2**32)))
    print(f"REACTIVEDB_SEED={seed}")
    rng = random.Random(seed)
    with tarfile.open(Path(__file__).parent / f"format_{version}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    expected = json.loads((tmp_path / "expected.json").read_text())
    with sqlite3.connect(tmp_path / "data.db") as shell:
        assert shell.execute("SELECT count(*) FROM log").fetchone()[0] > 0
    shell.close()
    whole = (tmp_path / "data.db").read_bytes()
    named = 0
    for number in range(COUNT):
        path = tmp_path / str(number) / "data.db"
        shutil.copytree(tmp_path / "data.db.files", path.with_name("data.db.files"))
        content = bytearray(whole)
        place, bit = rng.randrange(len(content)), rng.randrange(8)
        content[place] ^= 1 << bit
        path.write_bytes(content)
        try:
            database = app.open(path, clock=FakeClock(expected["now_ns"]), jobs=False)
        except rdb.StorageError as error:
            if error.code not in {"DatabaseCorrupt", "ForeignDatabase", "NewerFormat"}:
                raise
            named += 1
            continue
        with database:
            what = f"bit {bit} of byte {place}"
            for author, found in expected["notes"].items():
                assert as_json(database.query(notes.notes_of, author)) == found, what
            try:
                before = database.at(expected["before_ts"]).query(notes.notes_of, "ada")
                # Without checksums, nothing tells whether an earlier version is what it was: only the log
                # has it.
                assert version < 3 or as_json(before) == expected["before"], what
            except rdb.StorageError as error:
                if version == 3 or error.code != "DatabaseCorrupt":
                    raise
            assert database.query(notes.counted) == 1, what
    print(f"{named} of {COUNT} were refused by name")
    assert named > 0
