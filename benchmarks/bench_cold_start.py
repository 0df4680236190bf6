"""How long does `import reactivedb` take, beside importing what it stands on?

Fresh interpreters in turns, the modules' byte code compiled beforehand on both sides, as an installation
leaves them. Only the import itself counts, not the interpreter's start. `pydantic` without its `BaseModel`
is a nearly empty module, so the probe imports that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from .measure import Effort, Figure, at_most, in_turns, median, ms

OURS = "import reactivedb"
# Names are imported when they are first asked for; these need all but the server.
DECLARING = "import reactivedb as rdb; rdb.App; rdb.Document; rdb.query"
LIMIT = "import msgspec, apsw, asyncio; from pydantic import BaseModel"


def run(effort: Effort) -> list[Figure]:
    with tempfile.TemporaryDirectory() as compiled:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPYCACHEPREFIX": compiled}
        works = {
            "ours": lambda: import_seconds(OURS, environment),
            "declaring": lambda: import_seconds(DECLARING, environment),
            "limit": lambda: import_seconds(LIMIT, environment),
        }
        in_turns(2, works)
        taken = in_turns(effort.pick(15, 41), works)
    return [
        Figure(
            "import reactivedb",
            ms(median(taken["ours"])),
            f"{ms(median(taken['limit']))} pydantic, msgspec, apsw, asyncio",
            median(taken["ours"]) / median(taken["limit"]),
            at_most(1.5),
        ),
        Figure(
            "import what an application declares with",
            ms(median(taken["declaring"])),
            f"{ms(median(taken['limit']))} pydantic, msgspec, apsw, asyncio",
            median(taken["declaring"]) / median(taken["limit"]),
        ),
    ]


def import_seconds(statement: str, environment: dict[str, str]) -> float:
    program = f"import time\nbegan = time.perf_counter()\n{statement}\nprint(time.perf_counter() - began)"
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment, cwd="/")
    return float(done.stdout)
