"""Does pyright refuse exactly what it should?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MARK = "# refused: "


def lines_refused() -> set[tuple[str, int]]:
    """File name and line of every error that pyright finds."""
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pyright",
            "--project",
            str(HERE),
            "--pythonpath",
            sys.executable,
            "--outputjson",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(run.stdout)["generalDiagnostics"]
    return {
        (Path(item["file"]).name, item["range"]["start"]["line"] + 1)
        for item in found
        if item["severity"] == "error"
    }


def lines_marked() -> set[tuple[str, int]]:
    return {
        (path.name, number)
        for path in sorted((HERE / "chat").glob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if MARK in line and not line.startswith('"""')
    }


@pytest.mark.slow
def test_pyright_refuses_exactly_the_marked_lines() -> None:
    marked = lines_marked()
    assert len(marked) >= 9
    assert lines_refused() == marked
