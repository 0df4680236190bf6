"""Does the state agree with the log?

The log is the database; documents and index entries are what it adds up to. Both storages hand in what they
hold, so that one rule judges them. Reads everything once; memory O(number of documents), not of their text.
"""

from __future__ import annotations

from collections.abc import Iterable

from .contract import DocumentWrite, IndexRow, StoredVersion

PROBLEM_COUNT_MAX = 100


class Agreement:
    """Feed it the log, then the documents, then the entries; `problems` is the verdict."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        # Of each document's newest write: its ts and the hash of its text; a tombstone leaves no trace.
        self._newest: dict[tuple[int, str], tuple[int, int]] = {}
        self._documents: set[tuple[int, str]] = set()

    def read_log(self, log: Iterable[tuple[int, DocumentWrite]], *, horizon_ts: int = 0) -> None:
        """Up to the horizon, what a write replaced may be forgotten; behind it every step is there."""
        last_ts = 0
        for ts, write in log:
            document = (write.table_number, write.id)
            before = self._newest.get(document)
            if ts < last_ts:
                self._report(f"the log goes back from {last_ts} to {ts}")
            if ts > horizon_ts and write.prev_ts != (before and before[0]):
                self._report(
                    f"`{write.id}` at {ts} names {write.prev_ts} as its previous version, "
                    f"the log has {before and before[0]}"
                )
            last_ts = ts
            if write.value is None:
                self._newest.pop(document, None)
            else:
                self._newest[document] = (ts, hash(write.value))

    def read_documents(self, documents: Iterable[tuple[int, StoredVersion]]) -> None:
        for table_number, version in documents:
            document = (table_number, version.id)
            self._documents.add(document)
            match self._newest.get(document):
                case None:
                    self._report(f"document `{version.id}` is stored, but deleted or absent in the log")
                case (ts, _) if ts != version.ts:
                    self._report(f"document `{version.id}` is stored as of {version.ts}, the log has {ts}")
                case (_, text_hash) if text_hash != hash(version.value):
                    self._report(f"document `{version.id}` differs from its text in the log at {version.ts}")
                case _:
                    pass
        for table_number, document_id in self._newest.keys() - self._documents:
            self._report(f"document `{document_id}` of table {table_number} is in the log, but not stored")

    def read_entries(self, entries: Iterable[tuple[int, bytes, str]], indexes: Iterable[IndexRow]) -> None:
        table_of = {row.number: row.table_number for row in indexes}
        for index_number, key, document_id in entries:
            table_number = table_of.get(index_number)
            if table_number is None:
                self._report(f"an entry of index {index_number} is stored, but no such index")
            elif (table_number, document_id) not in self._documents:
                self._report(
                    f"key {key.hex()} of index {index_number} leads to `{document_id}`, "
                    f"which is not in table {table_number}"
                )

    def _report(self, problem: str) -> None:
        if len(self.problems) < PROBLEM_COUNT_MAX:
            self.problems.append(problem)
