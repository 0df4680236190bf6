"""Is every line of the protocol's conformance list (h.1 to h.105) some test's name, with the client it names?

A test of line 24 is called `test_h24_...`, one of two lines `test_h44_h50_...`.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parent
LINES = range(1, 106)
# Search and vectors, and the commands of Convex's CLI: parts of the product that are still to come.
LATER = {79, 80, *range(94, 104)}
NAME = re.compile(r"test((?:_h\d+)+)_[a-z]")

# By what a test asks for: a script of npm's client, one of PyPI's, or a page with Convex's React hooks.
FIXTURES = {"npm": {"js", "node"}, "pypi": {"py", "pypi"}, "react": {"hook", "show"}}
NAMED = {
    "npm": {*range(1, 9), *range(19, 35), 40, 41, 42, *range(44, 51), *range(52, 58), 59, 63},
    "pypi": {1, 4, 5, 40, 41, 51, 104, 105},
    "react": {74, 75, 76, 77},
}


def by_line() -> dict[int, list[ast.FunctionDef | ast.AsyncFunctionDef]]:
    found: dict[int, list[ast.FunctionDef | ast.AsyncFunctionDef]] = defaultdict(list)
    for path in TESTS.glob("*/test_*.py"):
        text = path.read_text()
        for node in ast.parse(text).body if "def test_h" in text else []:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (name := NAME.match(node.name)):
                for number in re.findall(r"\d+", name[1]):
                    found[int(number)].append(node)
    return found


def test_every_line_of_the_conformance_list_has_tests_of_its_name() -> None:
    found = by_line()
    assert sorted(set(LINES) - LATER - set(found)) == []
    assert sorted(set(found) & LATER) == [], "it has come: take it off `LATER`"
    assert set(found) <= set(LINES)


def test_the_lines_that_name_an_official_client_are_shown_with_it() -> None:
    found = by_line()
    missing = [
        f"h.{number}: {client}"
        for client, numbers in NAMED.items()
        for number in sorted(numbers)
        if not any(FIXTURES[client] & {arg.arg for arg in test.args.args} for test in found[number])
    ]
    assert missing == []
