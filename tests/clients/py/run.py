"""Which case of PyPI's client runs? `python run.py TOPIC CASE URL PARAMS`; exit code 0 if it held.

The client's synchronous calls hold the GIL, so nothing else of the test may live in this process.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Stage:
    """What a case stands on: the server, and the conversation with the test that started it."""

    url: str
    params: dict[str, Any] = field(default_factory=dict)

    def say(self, name: str, **data: object) -> None:
        print("@" + json.dumps({"said": name, **data}), flush=True)

    def hear(self, word: str) -> None:
        got = sys.stdin.readline().strip()
        assert got == word, f"the test was to say {word!r}, got {got!r}"


def main() -> None:
    topic, case, url, params = sys.argv[1:]
    module = importlib.import_module(topic)
    getattr(module, case)(Stage(url, json.loads(params)))
    sys.stdout.flush()
    # The client's own threads may abort an interpreter that is being finalized (seen with 0.8.1).
    os._exit(0)


if __name__ == "__main__":
    main()
