"""Who waits for room, who is told that there is some, and who is cut off for it?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from reactivedb.app import Admission, Caller, Load, Relief, Unsent
from reactivedb.limits import DEFAULT_LIMITS

LIMITS = dataclasses.replace(
    DEFAULT_LIMITS, held_size_bytes_max=100, held_size_bytes_per_address_max=60, relief_s=1.0
)


class Server:
    """A relief with a clock of its own."""

    def __init__(self) -> None:
        self.admission = Admission(LIMITS, Load(LIMITS, lambda turned: turned()))
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.now_s = 0.0
        self.told: list[Caller] = []
        self.cut_off: list[Caller] = []
        self.relief = Relief(
            LIMITS.relief_s,
            self.admission.refusals,
            call_later=lambda delay_s, work: self.due.append((self.now_s + delay_s, work)),
        )

    def caller(self, address: str | None = None) -> Caller:
        return self.admission.connect(address)

    def slow(self, size_bytes: int, address: str | None = None) -> Unsent:
        caller = self.caller(address)
        unsent = self.relief.unsent(caller, lambda: self.cut_off.append(caller))
        unsent.is_now(size_bytes)
        return unsent

    def promise(self, caller: Caller, size_bytes: int) -> bool:
        return self.relief.promise(caller, size_bytes, lambda: self.told.append(caller))

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        due, self.due = self.due, []
        for at_s, work in due:
            if at_s <= self.now_s:
                work()
            else:
                self.due.append((at_s, work))

    @property
    def held_bytes(self) -> int:
        return self.admission.held["held_size_bytes"]


def test_what_is_promised_is_held_until_it_is_sent() -> None:
    server = Server()
    caller = server.caller()
    assert server.promise(caller, 70)
    assert server.held_bytes == 70
    assert not server.promise(server.caller(), 40)
    server.relief.sent(caller, 70)
    assert server.held_bytes == 0


def test_who_waits_is_told_once_there_is_room() -> None:
    server = Server()
    slow, first, second = server.slow(90), server.caller(), server.caller()
    assert not server.promise(first, 30)
    assert not server.promise(second, 5_0)
    slow.is_now(60)
    server.pass_time(0)
    assert server.told == [first]
    assert server.promise(first, 30)
    slow.is_now(0)
    server.pass_time(0)
    assert server.told == [first, second]
    assert not server.cut_off


def test_who_has_left_is_not_told() -> None:
    server = Server()
    slow, caller = server.slow(90), server.caller()
    assert not server.promise(caller, 30)
    server.relief.forget(caller)
    slow.is_now(0)
    server.pass_time(2)
    assert not server.told
    assert not server.cut_off


def test_the_longest_slow_is_cut_off_for_those_who_have_waited_and_no_more_than_needed() -> None:
    server = Server()
    longest, _, waiting = server.slow(50), server.slow(50), server.caller()
    assert not server.promise(waiting, 20)
    server.pass_time(0.5)
    assert not server.cut_off
    server.pass_time(0.5)
    assert server.cut_off == [longest.caller]
    assert server.admission.refusals == {"held_size_bytes_max": 1}
    server.pass_time(0)
    assert server.told == [waiting]
    assert server.promise(waiting, 20)


def test_room_is_made_for_each_of_those_who_wait() -> None:
    server = Server()
    slow = [server.slow(30) for _ in range(3)]
    waiting = [server.caller() for _ in range(2)]
    assert not any(server.promise(caller, 40) for caller in waiting)
    server.pass_time(1)
    assert server.cut_off == [one.caller for one in slow[:3]]
    server.pass_time(0)
    assert [server.promise(caller, 40) for caller in server.told] == [True, True]


def test_nobody_is_cut_off_for_a_share_that_is_not_theirs() -> None:
    server = Server()
    elsewhere = server.slow(40, "192.0.2.1")
    mine = server.slow(50, "192.0.2.2")
    waiting = server.caller("192.0.2.2")
    assert not server.promise(waiting, 11)
    server.pass_time(1)
    assert server.cut_off == [mine.caller]
    assert elsewhere.size_bytes == 40


def test_an_update_that_no_share_could_ever_hold_is_not_kept_waiting() -> None:
    server = Server()
    assert server.promise(server.caller(), 101)


def test_what_is_not_taken_at_once_is_looked_after() -> None:
    server = Server()
    unsent = server.slow(30)
    sizes = iter((20, 0))

    def count() -> None:
        unsent.is_now(next(sizes))
        if unsent.size_bytes:
            unsent.look_again(count)

    unsent.look_again(count)
    server.pass_time(0.3)
    assert server.held_bytes == 20
    server.pass_time(0.3)
    assert server.held_bytes == 0
    assert not server.due
