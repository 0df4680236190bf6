"""How is the record of clients' mutations kept in an SQLite file?

A row for each that committed, by session and request. Within a session, later requests have later `ts`.
"""

from __future__ import annotations

import json
from typing import Any

from .contract import Outcome

PUT = "INSERT INTO outcomes VALUES (?, ?, ?, CAST(? AS TEXT), ?)"
GET = "SELECT ts, CAST(result AS BLOB), log_lines FROM outcomes WHERE session_id = ? AND request_id = ?"
# The newest requests only: the time that a client names may be a lie, and a session long.
AFTER = (
    "SELECT request_id FROM (SELECT request_id, ts FROM outcomes WHERE session_id = ?1 "
    "ORDER BY request_id DESC LIMIT ?3) WHERE ts > ?2"
)
FORGET = "DELETE FROM outcomes WHERE ts < ?"


def to_row(outcome: Outcome) -> tuple[Any, ...]:
    # Printed lines may hold lone surrogates, which only escapes can carry; so ASCII.
    lines = json.dumps(outcome.log_lines) if outcome.log_lines else "[]"
    return (outcome.ts, outcome.session_id, outcome.request_id, outcome.result, lines)


def from_row(session_id: str, request_id: int, row: tuple[Any, ...]) -> Outcome:
    ts, result, log_lines = row
    return Outcome(session_id, request_id, ts, result, tuple(json.loads(log_lines)))
