"""The table of the engine's tests, and a transaction that is easy to write down."""

from __future__ import annotations

from typing import Any

import reactivedb as rdb
from reactivedb.engine import Engine
from reactivedb.functions.db import DatabaseWriter


class Note(rdb.Document, table="notes"):
    author: str
    score: float = 0
    text: str = ""

    by_author = rdb.Index("author")
    by_score = rdb.Index("score")
    by_author_score = rdb.Index("author", "score")


class Run:
    """One transaction: `run.db` is what a mutation has, `commit` ends it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.transaction = engine.begin()
        self.db = DatabaseWriter(self.transaction, engine.catalog)

    def commit(self) -> int:
        return self.engine.commit(self.transaction)

    def insert(self, author: str, score: float = 0, text: str = "") -> rdb.Id[Note]:
        return self.db.insert(Note(author=author, score=score, text=text))

    def scores(self, source: Any, direction: Any = "asc") -> list[float]:
        return [note.score for note in self.db.query(source).order(direction)]


def stored(engine: Engine, *rows: tuple[str, float]) -> list[rdb.Id[Note]]:
    """Commit notes; gives their ids."""
    run = Run(engine)
    ids = [run.insert(author, score) for author, score in rows]
    run.commit()
    return ids
