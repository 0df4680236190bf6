"""Which benchmarks run, and what does their table say?"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from .measure import Effort, Figure

QUESTIONS = (
    "commit_rate",
    "round_trip",
    "fanout",
    "untouched_queries",
    "memory",
    "fairness",
    "slow_clients",
    "cold_start",
    "data_sizes",
    "attacks",
    "lifted_bounds",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, beside the machine.")
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, []], help="only these")
    parser.add_argument("--full", action="store_true", help="more rounds, for figures that are written down")
    chosen = parser.parse_args()
    console = Console()
    figures: list[Figure] = []
    for name in chosen.questions or QUESTIONS:
        began = time.perf_counter()
        run: Callable[[Effort], list[Figure]] = importlib.import_module(f"benchmarks.bench_{name}").run
        figures += run(Effort(full=chosen.full))
        print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    console.print(table_of(figures))
    return int(any(figure.misses_floor for figure in figures))


def table_of(figures: list[Figure]) -> Table:
    table = Table(title="reactivedb beside the machine it runs on")
    for heading in ("question", "measured", "the machine's limit", "ratio", "floor", ""):
        table.add_column(heading, justify="right" if heading == "ratio" else "left", overflow="fold")
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        verdict = "" if figure.floor is None else "BELOW" if figure.misses_floor else "ok"
        table.add_row(figure.question, figure.measured, figure.limit, ratio, str(figure.floor or ""), verdict)
    return table


if __name__ == "__main__":
    sys.exit(main())
