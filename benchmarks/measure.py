"""How is a figure taken, and when is it good enough?

What is compared runs in turns within one process and one minute, so that a slow moment of the machine falls
on both. Medians of rounds; the tail as it is.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effort:
    """How long may it take? `full` is for figures that are written down."""

    full: bool

    def pick(self, quick: int, full: int) -> int:
        return full if self.full else quick


@dataclass(frozen=True, slots=True)
class Floor:
    """What a ratio must reach."""

    bound: float
    at_most: bool

    def holds(self, ratio: float) -> bool:
        return ratio <= self.bound if self.at_most else ratio >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: what was asked, what was measured, and the machine's own limit beside it."""

    question: str
    measured: str
    limit: str
    ratio: float | None = None
    floor: Floor | None = None

    @property
    def misses_floor(self) -> bool:
        return self.floor is not None and self.ratio is not None and not self.floor.holds(self.ratio)


def at_most(bound: float) -> Floor:
    return Floor(bound, at_most=True)


def at_least(bound: float) -> Floor:
    return Floor(bound, at_most=False)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(rounds: int, works: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """The seconds that each gives, one round of all after the other; odd rounds backwards."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        order = list(works) if number % 2 == 0 else list(works)[::-1]
        for name in order:
            taken[name].append(works[name]())
    return taken


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def p99(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def us(value_s: float) -> str:
    return f"{value_s * 1e6:,.0f} µs"


def ms(value_s: float) -> str:
    return f"{value_s * 1e3:,.1f} ms"


def spread(values: Sequence[float], show: Callable[[float], str] = us) -> str:
    return f"{show(median(values))} (p99 {show(p99(values))})"
