"""Is everything in an SQLite file sound, and does it fit together?

Three questions, each of which reads the whole file: are SQLite's own structures in order, do documents and
index entries agree with the log, and do the numbers in entries lead where their ids do. Nothing is changed.
"""

from __future__ import annotations

from .agreement import Agreement
from .contract import DocumentWrite, IndexRow, StoredVersion
from .sqlite_connection import SqlConnection
from .sqlite_state import entries_astray

_LOG = "SELECT ts, position, table_number, id, prev_ts, CAST(value AS BLOB) FROM log ORDER BY ts, position"
_HORIZON = "SELECT value FROM meta WHERE key = 'storage.log_horizon'"


def structure_problems(connection: SqlConnection) -> list[str]:
    """What SQLite itself finds: trees, free pages, entries of its own indexes. Raises apsw.Error."""
    return [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]


def disagreements(connection: SqlConnection, *, has_numbers: bool = True) -> list[str]:
    """Where state and log differ, a sentence each. Entries of format 1 have no numbers.

    Raises: apsw.Error; ValueError, for a text that is not readable.
    """
    execute = connection.execute
    horizon = execute(_HORIZON).fetchall()
    agreement = Agreement()
    agreement.read_log(
        ((row[0], _readable(DocumentWrite(*row[2:]))) for row in execute(_LOG)),
        horizon_ts=int(horizon[0][0].split()[0]) if horizon else 0,
    )
    agreement.read_documents(
        (row[0], StoredVersion(*row[1:]))
        for row in execute("SELECT table_number, id, ts, CAST(value AS BLOB) FROM documents")
    )
    indexes = [
        IndexRow(number, table_number, "", (), "", "")
        for number, table_number in execute("SELECT number, table_number FROM indexes")
    ]
    agreement.read_entries(execute("SELECT index_number, key, id FROM index_entries"), indexes)
    return agreement.problems + (entries_astray(connection.cursor()) if has_numbers else [])


def _readable(write: DocumentWrite) -> DocumentWrite:
    """Raises: ValueError. Of earlier versions the log has the only text."""
    try:
        (write.value or b"").decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the text of `{write.id}` in the log is not readable ({error})") from error
    return write
