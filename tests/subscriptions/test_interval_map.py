"""Does the interval map report exactly the subscribers that a naive list would?"""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reactivedb.subscriptions.interval_map import IntervalMap

keys = st.binary(max_size=2) | st.lists(st.sampled_from([0, 1, 255]), max_size=3).map(bytes)
subscribers = st.integers(0, 4)
ways = st.sampled_from(["range", "prefix", "exact"])


def prefixes_of(key: bytes) -> list[bytes]:
    return [key[:length] for length in range(len(key) + 1)]


def holds(way: str, where: Any, key: bytes) -> bool:
    if way == "range":
        return where[0] <= key < where[1]
    return key.startswith(where) if way == "prefix" else key == where


def add(index: IntervalMap[int], way: str, where: Any, subscriber: int) -> None:
    {"range": index.add, "prefix": index.add_prefix, "exact": index.add_exact}[way](where, subscriber)


def remove(index: IntervalMap[int], way: str, where: Any, subscriber: int) -> None:
    {"range": index.remove, "prefix": index.remove_prefix, "exact": index.remove_exact}[way](
        where, subscriber
    )


class AgainstANaiveList(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.index = IntervalMap[int]()
        self.model: list[tuple[str, Any, int]] = []

    @rule(way=ways, low=keys, high=keys, subscriber=subscribers)
    def register(self, way: str, low: bytes, high: bytes, subscriber: int) -> None:
        entry = (way, (low, high) if way == "range" else low, subscriber)
        add(self.index, *entry)
        if entry not in self.model:
            self.model.append(entry)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def deregister(self, data: st.DataObject) -> None:
        entry = self.model.pop(data.draw(st.integers(0, len(self.model) - 1)))
        remove(self.index, *entry)

    @rule(way=ways, low=keys, high=keys, subscriber=subscribers)
    def deregister_what_may_not_be_there(self, way: str, low: bytes, high: bytes, subscriber: int) -> None:
        entry = (way, (low, high) if way == "range" else low, subscriber)
        if entry not in self.model:
            with pytest.raises(KeyError):
                remove(self.index, *entry)

    @rule(key=keys)
    def ask(self, key: bytes) -> None:
        expected = {subscriber for way, where, subscriber in self.model if holds(way, where, key)}
        assert self.index.touched(key, prefixes_of(key)) == expected

    @invariant()
    def is_sound(self) -> None:
        self.index.check()
        assert len(self.index) == len(self.model)


test_it_agrees_with_a_naive_list = pytest.mark.slow(AgainstANaiveList.TestCase)


@pytest.mark.parametrize("seed", range(3))
def test_thousands_of_ranges_agree_with_a_naive_list(seed: int) -> None:
    rng = random.Random(seed)
    index = IntervalMap[int]()
    model: dict[tuple[bytes, bytes], set[int]] = {}
    for step in range(1_500):
        if model and rng.random() < 0.4:
            interval = rng.choice(list(itertools.islice(model, 20)))
            subscriber = rng.choice(sorted(model[interval]))
            index.remove(interval, subscriber)
            model[interval].remove(subscriber)
            if not model[interval]:
                del model[interval]
        else:
            low = rng.randrange(5_000)
            interval = (low.to_bytes(2, "big"), (low + rng.choice([0, 1, 5, 3_000])).to_bytes(2, "big"))
            subscriber = rng.randrange(3)
            index.add(interval, subscriber)
            model.setdefault(interval, set()).add(subscriber)
        if step % 10 == 0:
            key = rng.randrange(6_000).to_bytes(2, "big")
            expected = set[int]().union(*(who for (low, high), who in model.items() if low <= key < high))
            assert index.touched(key, prefixes_of(key)) == expected
    index.check()


def test_a_range_holds_its_lower_bound_and_not_its_upper_one() -> None:
    index = IntervalMap[str]()
    index.add((b"b", b"d"), "ada")
    touched = [index.touched(key, prefixes_of(key)) for key in (b"a\xff", b"b", b"c\xff", b"d")]
    assert touched == [set(), {"ada"}, {"ada"}, set()]


def test_a_subscriber_that_is_touched_in_every_way_is_reported_once_and_leaves_one_by_one() -> None:
    index = IntervalMap[str]()
    index.add((b"a", b"c"), "ada")
    index.add((b"", b"z"), "ada")
    index.add_prefix(b"", "ada")
    index.add_prefix(b"b", "ada")
    index.add_exact(b"b", "ada")
    assert len(index) == 5
    for take_away in (
        lambda: index.remove((b"a", b"c"), "ada"),
        lambda: index.remove_prefix(b"", "ada"),
        lambda: index.remove_exact(b"b", "ada"),
        lambda: index.remove((b"", b"z"), "ada"),
        lambda: index.remove_prefix(b"b", "ada"),
    ):
        assert index.touched(b"b", [b"", b"b"]) == {"ada"}
        take_away()
        index.check()
    assert (index.touched(b"b", [b"", b"b"]), len(index)) == (set(), 0)


def test_a_prefix_counts_only_where_the_caller_says_a_value_ends() -> None:
    index = IntervalMap[str]()
    index.add_prefix(b"a", "ada")
    assert index.touched(b"ab", [b"", b"ab"]) == set()
    assert index.touched(b"ab", [b"", b"a", b"ab"]) == {"ada"}


def test_the_answer_belongs_to_the_caller() -> None:
    index = IntervalMap[str]()
    index.add_prefix(b"", "ada")
    index.touched(b"a", [b""]).clear()
    assert index.touched(b"a", [b""]) == {"ada"}


def test_ranges_added_in_ascending_order_do_not_make_a_deep_tree() -> None:
    index = IntervalMap[int]()
    for number in range(3_000):
        index.add((number.to_bytes(2, "big"), (number + 1).to_bytes(2, "big")), number)
    index.check()  # recursive: a list-like tree would not come back from here
    assert index.touched((2_999).to_bytes(2, "big"), []) == {2_999}
