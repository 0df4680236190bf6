"""What does a database do whose disk runs full? A program for `test_open_errors`; prints JSON.

Writes until it is refused, twice, makes room, goes on, and opens the file once more.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from apps.ledger import entries
from apps.ledger.app import app

import reactivedb as rdb


def main(folder: Path) -> None:
    path, filler = folder / "data.db", folder / "filler"
    filler.write_bytes(bytes(1024 * 1024))
    acknowledged: list[str] = []
    codes: list[str] = []
    with app.open(path) as database:
        while len(codes) < 2:
            name = f"{len(acknowledged)} {'x' * 5000}"
            try:
                database.mutation(entries.add, name)
            except rdb.StorageError as error:
                codes.append(error.code)
            else:
                acknowledged.append(name)
        stored_while_full = database.query(entries.names)
        filler.unlink()
        database.mutation(entries.add, "with room again")
    with app.open(path) as database:
        stored_after_reopening = database.query(entries.names)
        problems = database.runtime.engine.storage.check()
    result = {
        "codes": sorted(set(codes)),
        "acknowledged": acknowledged,
        "stored_while_full": stored_while_full,
        "stored_after_reopening": stored_after_reopening,
        "problems": problems,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
