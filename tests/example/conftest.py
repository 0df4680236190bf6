"""What do the tests of the chat run in?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import reactivedb as rdb

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

# Only the model of whoever runs the tests is kept out; a test that wants one of its own sets it.
os.environ.pop("OPENAI_BASE_URL", None)
os.environ["CHAT_MODEL_PACE_MS"] = "5"

from chat_streaming.app import app as chat_app  # noqa: E402 after the path that leads there

from . import probe  # noqa: E402 for the same reason


@pytest.fixture(scope="session")
def app() -> rdb.App:
    """The chat with a window into its tables."""
    return rdb.App(*chat_app.modules, probe, root=chat_app.root)


@pytest.fixture
def still(app: rdb.App) -> Iterator[rdb.Database]:
    """The chat with its jobs at rest: what a mutation schedules stays where it is."""
    with app.open(":memory:", jobs=False) as chat:
        yield chat


@pytest.fixture
def chat(app: rdb.App) -> Iterator[rdb.Database]:
    with app.open(":memory:") as chat:
        yield chat
