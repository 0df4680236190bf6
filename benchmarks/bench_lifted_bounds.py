"""Does the benchmark of attacks see when a bound is taken out?

Each attack again, once with all bounds and once without each that stands against it. Then at least one of
the figures that keep their floors with all bounds misses its own; shown is by how many times the worst does.
"""

from __future__ import annotations

from reactivedb import limits

from .attacks import ATTACKS, LIFTED, Attack
from .bench_attacks import course_of, figures_of
from .measure import Effort, Figure, at_least


def run(effort: Effort) -> list[Figure]:
    return [
        figure for attack in ATTACKS if attack.stopped_by for figure in without_its_bounds(attack, effort)
    ]


def without_its_bounds(attack: Attack, effort: Effort) -> list[Figure]:
    usual = figures_of(course_of(attack, effort))
    return [without(bound, attack, usual, effort) for bound in attack.stopped_by]


def without(bound: str, attack: Attack, usual: list[Figure], effort: Effort) -> Figure:
    question = f"{attack.name} without `{bound}`"
    if not hasattr(limits.DEFAULT_LIMITS if bound.islower() else limits, bound):
        return Figure(question, "there is no such bound", "", 0.0, at_least(1))
    figures = figures_of(course_of(attack, effort, lifted={bound: LIFTED}))
    # One that is missed with the bound too says nothing about it.
    telling = [figure for before, figure in zip(usual, figures, strict=True) if not before.misses_floor]
    if not telling:
        return Figure(question, "every figure is missed with it too", "", 0.0, at_least(1))
    worst = max(telling, key=times_missed)
    return Figure(
        question, f"{worst.question}: {worst.measured}", worst.limit, times_missed(worst), at_least(1)
    )


def times_missed(figure: Figure) -> float:
    """How many times what is allowed."""
    assert figure.ratio is not None
    assert figure.floor is not None
    assert figure.floor.at_most
    return figure.ratio / figure.floor.bound
