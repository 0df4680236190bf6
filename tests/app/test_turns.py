"""Does long work leave the loop to others, and is its time counted for whom it is?"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from reactivedb.app import Admission, Caller, Load, Turns
from reactivedb.limits import MIB, Limits

MS = 0.001


class ManualLoop:
    """A loop that turns when it is told to, and a clock that only work moves."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.soon: list[Callable[[], None]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.turns = Turns(lambda: self, now_s=lambda: self.now_s, used_s=lambda: self.now_s)
        self.admission = Admission(Limits(), Load(Limits(), self.call_soon))
        self.done: list[str] = []
        self.steps: list[str] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        self.later.append((delay_s, callback))

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()

    def run(self) -> None:
        while self.soon or self.later:
            for delay_s, callback in self.later:
                self.now_s += delay_s
                self.soon.append(callback)
            self.later = []
            self.turn()

    def caller(self, address: str | None = None) -> Caller:
        return self.admission.connect(address)

    def start(self, caller: Caller, name: str, *steps_s: float) -> None:
        def steps() -> Generator[None, None, Any]:
            for step_s in steps_s:
                self.steps.append(name)
                self.now_s += step_s
                yield
            return name

        self.turns.start(caller, steps(), self.done.append)


def test_one_slice_is_done_in_a_turn_however_many_have_work() -> None:
    loop = ManualLoop()
    for name in "abc":
        loop.start(loop.caller(), name, *[0.6 * MS] * 10)
    before_s = loop.now_s
    loop.turn()
    assert loop.now_s - before_s <= 1.3 * MS
    assert len(loop.soon) == 1


def test_who_has_used_less_is_through_before_who_has_used_much() -> None:
    loop = ManualLoop()
    greedy, modest = loop.caller(), loop.caller()
    loop.start(greedy, "much", *[1 * MS] * 100)
    for _ in range(20):
        loop.turn()
    loop.start(modest, "little", *[1 * MS] * 10)
    loop.run()
    assert loop.done == ["little", "much"]


def test_many_connections_of_one_address_have_one_share() -> None:
    loop = ManualLoop()
    for number in range(4):
        loop.start(loop.caller("192.0.2.1"), f"many {number}", *[1 * MS] * 20)
    loop.start(loop.caller("192.0.2.2"), "one", *[1 * MS] * 20)
    loop.run()
    # While the one had its twenty steps, the four together had about as many.
    ahead = loop.steps[: len(loop.steps) - loop.steps[::-1].index("one")]
    assert len(ahead) <= 45


def test_what_was_used_long_ago_is_forgotten() -> None:
    loop = ManualLoop()
    caller = loop.caller()
    caller.use(0.5, loop.now_s)
    assert caller.used_s(loop.now_s) == 0.5
    assert caller.used_s(loop.now_s + 2) == 0.125


def test_a_long_step_is_followed_by_a_rest_while_others_are_served() -> None:
    loop = ManualLoop()
    caller = loop.caller()
    loop.turns.served("somebody else")
    loop.start(caller, "long", 10 * MS, 10 * MS)
    loop.turn()
    assert not loop.soon
    [(rest_s, _)] = loop.later
    assert rest_s >= 20 * 10 * MS


def test_who_is_alone_does_not_rest() -> None:
    loop = ManualLoop()
    caller = loop.caller()
    loop.turns.served(caller)
    loop.start(caller, "long", 10 * MS, 10 * MS)
    loop.turn()
    assert len(loop.soon) == 1
    assert not loop.later
    assert loop.turns.pause_s(caller, 0.05, size_bytes=16 * MIB) == 0.0


def test_a_connection_pauses_for_the_bytes_of_its_large_messages() -> None:
    loop = ManualLoop()
    caller = loop.caller()
    loop.turns.served("somebody else")
    assert loop.turns.pause_s(caller, 1 * MS, size_bytes=16 * MIB) == 1.0
    assert loop.turns.pause_s(caller, 20 * MS) == 3 * 20 * MS


def test_the_messages_of_one_caller_are_read_in_order() -> None:
    loop = ManualLoop()
    caller = loop.caller()
    loop.start(caller, "first", *[1 * MS] * 5)
    loop.start(caller, "second", 0.1 * MS)
    loop.run()
    assert loop.done == ["first", "second"]
    assert loop.turns.is_idle
