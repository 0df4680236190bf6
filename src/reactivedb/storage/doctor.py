"""Examination of a database file: is all of it what was written, and does it fit together?

Reads everything and changes nothing; another connection, also of this process, may be writing meanwhile, for
the examination sees the state of one moment. What keeps a file from being opened is a finding like any other:
the examination goes on with what can still be read. Memory O(number of documents).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import apsw

from reactivedb.errors import StorageError

from . import sqlite_schema
from .agreement import PROBLEM_COUNT_MAX
from .entry_check import entries_that_differ
from .page_checksums import ChecksumVFS
from .sqlite_check import disagreements, structure_problems
from .sqlite_connection import SqlConnection
from .sqlite_errors import SQL_ERRORS
from .sqlite_open import damage_in_wal
from .unreadable import unreadable_rows


@dataclass(slots=True)
class Examination:
    """What was found: `facts` say how much there is, `problems` what is wrong, a sentence each."""

    facts: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])


def examine(path: str | os.PathLike[str]) -> Examination:
    """Examine a file, open or not.

    Raises: StorageError `FileMissing`.
    """
    database = Path(os.path.realpath(path))
    if not database.is_file():
        raise StorageError(
            f"expected a database file at `{database}`, got {'a folder' if database.is_dir() else 'nothing'} "
            "- name the file, such as `APP_DIR/.reactivedb/data.db`",
            code="FileMissing",
            path=str(database),
        )
    found = Examination()
    with ExitStack() as closing_all:
        faults: dict[int, str] = {}
        try:
            connection = _connect(database, closing_all, faults)
            damage = damage_in_wal(connection, database)
            if damage is not None:
                found.problems.append(f"`{database.name}-wal`: {damage}")
            if not sqlite_schema.recognise(connection, database):
                found.facts.append("the file is empty")
                return found
            connection.execute("BEGIN")
        except StorageError as error:
            found.problems.append(str(error))
            return found
        except (*SQL_ERRORS, OSError) as error:
            found.problems.append(f"the file cannot be read: {error}")
            return found
        _walk(connection, found)
        found.problems[:0] = [faults[number] for number in sorted(faults)][:PROBLEM_COUNT_MAX]
        if faults:
            # By a connection that does not take damaged pages as they are.
            strict = _connect(database, closing_all, None)
            found.problems += unreadable_rows(strict)
    return found


def _connect(database: Path, stack: ExitStack, faults: dict[int, str] | None) -> SqlConnection:
    vfs = ChecksumVFS(database, faults=faults)
    opened = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs.vfs_name)
    stack.enter_context(closing(opened))
    connection = cast(SqlConnection, opened)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.set_busy_timeout(1000)
    return connection


def _walk(connection: SqlConnection, found: Examination) -> None:
    """Each step for itself, so that damage in one place does not hide another."""

    def step(doing: str, run: Callable[[], list[str]]) -> list[str]:
        try:
            return run()
        except (*SQL_ERRORS, ValueError, TypeError, IndexError, KeyError) as error:
            found.problems.append(f"could not {doing}: {error}")
            return []

    found.facts += step("count what is stored", lambda: _facts(connection))
    found.problems += step("look at SQLite's structures", lambda: structure_problems(connection))
    found.problems += step("compare the documents with the log", lambda: disagreements(connection))
    found.problems += step("compare the index entries with the documents", lambda: _entries(connection))
    found.problems += step("read the recorded answers", lambda: _outcomes(connection))


def _facts(connection: SqlConnection) -> list[str]:
    def one(statement: str) -> Any:
        return connection.execute(statement).fetchall()[0][0]

    pages = one("PRAGMA page_count")
    checks = "with" if connection.reserve_bytes("main", -1) else "without"
    commits, last = connection.execute("SELECT count(DISTINCT ts), max(ts) FROM log").fetchall()[0]
    return [
        f"format {one('PRAGMA user_version')}, {pages} pages {checks} checksums",
        f"log: {one('SELECT count(*) FROM log')} writes of {commits} commits, the last at {last}",
        f"recorded answers: {one('SELECT count(*) FROM outcomes')}",
        f"index entries: {one('SELECT count(*) FROM index_entries')}",
        *(
            f"table `{name}`: {count} documents"
            for name, count in connection.execute(
                "SELECT name, (SELECT count(*) FROM documents WHERE table_number = number_of_table) "
                "FROM (SELECT name, number AS number_of_table FROM tables) ORDER BY name"
            )
        ),
    ]


def _outcomes(connection: SqlConnection) -> list[str]:
    return [
        f"the answer to request {request_id} of session `{session_id}` is not readable JSON"
        for session_id, request_id, result, lines in connection.execute(
            "SELECT session_id, request_id, CAST(result AS BLOB), log_lines FROM outcomes"
        )
        if not (_is_json(result) and _is_json(lines))
    ]


def _is_json(text: bytes | str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _entries(connection: SqlConnection) -> list[str]:
    return list(_first(entries_that_differ(connection)))


def _first(problems: Iterator[str]) -> Iterator[str]:
    for count, problem in enumerate(problems):
        if count == PROBLEM_COUNT_MAX:
            return
        yield problem
