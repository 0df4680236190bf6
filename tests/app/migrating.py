"""The process that the test kills: `migrating.py seed FILE COUNT`, then `migrating.py migrate FILE`.

`migrate` prints how many documents are done after each batch; so does `index`, which builds an index.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import reactivedb as rdb
from reactivedb.app import migrate
from reactivedb.engine import Engine
from reactivedb.functions.db import DatabaseWriter
from reactivedb.schema import table_definition
from reactivedb.storage import open_sqlite

_SEED_BATCH = 10_000


class Note(rdb.Document, table="notes"):
    author: str
    stars: str


class IndexedNote(rdb.Document, table="notes"):
    author: str
    stars: str

    by_author = rdb.Index("author")


class NewNote(rdb.Document, table="notes"):
    writer: str
    stars: float

    by_stars = rdb.Index("stars")


@rdb.migration(NewNote)
def rename_author(old: dict[str, Any]) -> dict[str, Any]:
    return {"writer": old["author"], "stars": float(old["stars"])}


def application(**members: Any) -> rdb.App:
    module = ModuleType("notes")
    vars(module).update(members or {"NewNote": NewNote, "rename_author": rename_author})
    return rdb.App(module, root="", limits=rdb.Limits(schema_batch_documents_max=1_000))


def seed(path: Path, count: int) -> None:
    engine = Engine(open_sqlite(path, durability="relaxed"))
    engine.declare([table_definition(Note)], ())
    for start in range(0, count, _SEED_BATCH):
        transaction = engine.begin()
        db = DatabaseWriter(transaction, engine.catalog)
        for number in range(start, min(start + _SEED_BATCH, count)):
            db.insert(Note(author=f"author {number}", stars=str(number)))
        engine.commit(transaction)
        engine.flush()
    engine.close()


def show(rows: list[rdb.SchemaProgress]) -> None:
    print(*(row.done for row in rows), flush=True)


if __name__ == "__main__":
    file = Path(sys.argv[2])
    if sys.argv[1] == "seed":
        seed(file, int(sys.argv[3]))
    elif sys.argv[1] == "index":
        migrate(application(IndexedNote=IndexedNote), file, show)
    else:
        migrate(application(), file, show)
