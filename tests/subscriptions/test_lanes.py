"""Lanes of stale items: each is worked on once, and nobody waits for a long lane."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from reactivedb.subscriptions.lanes import Lanes

BUDGET_S = 0.02


class Stopwatch:
    """Time passes by work only: a millisecond each."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.done: list[str] = []
        # Done in the middle of the work on an item.
        self.meanwhile: Callable[[str], None] = lambda item: None

    def work(self, item: str) -> None:
        self.now_s += 0.001
        self.done.append(item)
        self.meanwhile(item)


def lanes_of(watch: Stopwatch) -> Lanes[str]:
    return Lanes(now_s=lambda: watch.now_s)


def test_a_short_lane_is_through_before_a_long_one_goes_on() -> None:
    watch = Stopwatch()
    lanes = lanes_of(watch)
    for number in range(500):
        lanes.add(f"long {number}", "long")
    lanes.run(watch.work, budget_s=0.001)
    lanes.add("short", "somebody else")
    before = len(watch.done)
    lanes.run(watch.work, budget_s=BUDGET_S)
    # The long one is at its turn.
    assert watch.done[before:].index("short") == 10
    lanes.run(watch.work)
    assert sorted(watch.done) == sorted(["short", *(f"long {number}" for number in range(500))])


def test_one_run_ends_near_its_budget() -> None:
    watch = Stopwatch()
    lanes = lanes_of(watch)
    for owner in range(100):
        for number in range(50):
            lanes.add(f"{owner}:{number}", owner)
    while lanes:
        began_s = watch.now_s
        lanes.run(watch.work, budget_s=BUDGET_S)
        # The last lane may begin within the budget, and then has its turn of ten.
        assert watch.now_s - began_s <= BUDGET_S + 0.011


def test_a_lane_that_fills_as_fast_as_it_runs_is_through_in_the_end() -> None:
    watch = Stopwatch()
    lanes = lanes_of(watch)
    items = [str(number) for number in range(300)]
    run_count = 0
    while lanes or not run_count:
        run_count += 1
        for item in items:  # a commit touches all of them
            lanes.add(item, "busy")
        lanes.run(watch.work, budget_s=BUDGET_S)
    assert run_count < 20


def test_a_lane_that_becomes_shorter_keeps_its_turn() -> None:
    watch = Stopwatch()
    lanes = lanes_of(watch)
    for number in range(1000):
        lanes.add(str(number), "one")
    while lanes:
        began_s = watch.now_s
        lanes.run(watch.work, budget_s=0.001)
        assert watch.now_s - began_s <= 0.011


@given(st.lists(st.tuples(st.sampled_from("adr"), st.integers(0, 30), st.integers(0, 3)), max_size=60))
def test_each_item_is_worked_on_once_for_each_time_it_was_added(steps: list[tuple[str, int, int]]) -> None:
    watch = Stopwatch()
    lanes = lanes_of(watch)
    waiting: set[str] = set()
    # Work may add and discard too, as a live query that turns out to be another one does.
    watch.meanwhile = lambda item: (lanes.discard("7"), waiting.discard("7"), waiting.discard(item), None)[-1]
    for kind, number, owner in steps:
        item = str(number)
        match kind:
            case "a":
                lanes.add(item, owner)
                waiting.add(item)
            case "d":
                lanes.discard(item)
                waiting.discard(item)
            case _:
                lanes.run(watch.work, budget_s=0.002)
        lanes.check()
        assert {item for item in map(str, range(31)) if item in lanes} == waiting
        assert len(lanes) == len(waiting)
    done = watch.done.copy()
    left = waiting.copy()
    lanes.run(watch.work)
    assert not lanes
    assert set(watch.done[len(done) :]) <= left
    assert len(watch.done[len(done) :]) == len(set(watch.done[len(done) :]))
