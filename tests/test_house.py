"""Is the tree formatted, linted and typed as `pyproject.toml` says?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_ruff_finds_nothing_to_say() -> None:
    run("ruff", "check", ".")


@pytest.mark.slow
def test_every_file_is_formatted() -> None:
    run("ruff", "format", "--check", ".")


@pytest.mark.slow
def test_pyright_strict_accepts_source_and_examples() -> None:
    run("pyright", "--pythonpath", sys.executable)
