"""Shares: what is drawn is counted in each, what is given back leaves nothing, over a bound nothing moves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactivedb.app import Admission, Caller, Load, Pending, Resource
from reactivedb.app.admission import counted_address
from reactivedb.errors import LimitExceededError
from reactivedb.functions import ADMIN, ANONYMOUS, Identity
from reactivedb.limits import DEFAULT_LIMITS, Limits

SMALL = dataclasses.replace(
    DEFAULT_LIMITS,
    sockets_per_identity_max=2,
    sockets_per_address_max=3,
    sockets_max=5,
    queries_per_client_max=2,
    queries_per_identity_max=3,
    queries_per_address_max=4,
    queries_max=6,
    requests_per_identity_max=2,
    requests_per_address_max=3,
    requests_max=4,
    held_size_bytes_per_client_max=40,
    held_size_bytes_per_identity_max=60,
    held_size_bytes_per_address_max=80,
    held_size_bytes_max=100,
)
ADDRESSES = ("192.0.2.1", "192.0.2.2", "127.0.0.1", None)
USERS = (ANONYMOUS, ADMIN, *(Identity.acting_as({"tokenIdentifier": f"i|{name}"}) for name in "ab"))
# What `acting_as` makes is an administrator, who has no share of a user's.
USERS = tuple(dataclasses.replace(user, is_admin=user is ADMIN) for user in USERS)


def admission_of(limits: Limits) -> Admission:
    return Admission(limits, Load(limits, lambda turned: turned()))


# Of each holder: caller number, user, address, and how much of what.
Held = tuple[int, str | None, str | None, Resource, int]


def admitted(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except LimitExceededError:
        return False
    return True


class World:
    """Callers of an admission, and beside them the same by adding up all that is held anew each time."""

    def __init__(self) -> None:
        self.admission = admission_of(SMALL)
        self.held: list[Held] = []
        self.callers: list[tuple[Caller, int]] = []
        self.user: dict[int, str | None] = {}
        self.address: dict[int, str | None] = {}
        self.pending: list[tuple[Pending, list[Held]]] = []

    def fits(self, extra: list[Held]) -> bool:
        held = self.held + extra
        for number, user, address, _, _ in extra:
            for resource in Resource:
                name = ("sockets", "queries", "requests", "held_size_bytes")[resource]
                sums = {
                    f"{name}_per_client_max": [one for one in held if one[0] == number],
                    f"{name}_per_identity_max": [one for one in held if user and one[1] == user],
                    f"{name}_per_address_max": [one for one in held if address and one[2] == address],
                    f"{name}_max": held,
                }
                for limit, items in sums.items():
                    if sum(one[4] for one in items if one[3] is resource) > getattr(SMALL, limit, 10**9):
                        return False
        return True

    def expect(self, wanted: list[Held], ask: Callable[[], object]) -> None:
        fits = self.fits(wanted)
        assert admitted(ask) is fits
        if fits:
            self.held += wanted

    def connect(self, number: int, address: str | None) -> None:
        self.user[number] = None
        self.address[number] = None if address is None else counted_address(address)
        wanted: list[Held] = [(number, None, self.address[number], Resource.SOCKETS, 1)]
        self.expect(wanted, lambda: self.callers.append((self.admission.connect(address), number)))

    def take(self, caller: Caller, number: int, resource: Resource, size: int) -> None:
        whose = (number, self.user[number], self.address[number])
        wanted: list[Held] = [(*whose, resource, 1), (*whose, Resource.BYTES, size)]
        if resource is Resource.QUERIES:
            self.expect(wanted, lambda: caller.take(Resource.QUERIES, size_bytes=size))
        else:
            self.expect(wanted, lambda: self.pending.append((caller.begin(size), wanted)))

    def own(self, number: int) -> list[Held]:
        """What the connection holds itself, without what is under way."""
        own = [one for one in self.held if one[0] == number]
        for _, held in self.pending:
            for one in held:
                if one in own:
                    own.remove(one)
        return own

    def identify(self, caller: Caller, number: int, identity: Identity) -> None:
        user = None if identity.user is None else identity.user.token_identifier
        if user == self.user[number]:
            caller.identify(identity)
            return
        own = self.own(number)
        for one in own:
            self.held.remove(one)
        moved: list[Held] = [(number, user, *one[2:]) for one in own]
        fits = self.fits(moved)
        assert admitted(lambda: caller.identify(identity)) is fits
        self.held += moved if fits else own
        if fits:
            self.user[number] = user

    def end(self, which: int) -> None:
        ended, held = self.pending.pop(which % len(self.pending))
        ended.end()
        ended.end()
        for one in held:
            self.held.remove(one)

    def leave(self, caller: Caller, number: int) -> None:
        for one in self.own(number):
            self.held.remove(one)
        self.callers.remove((caller, number))
        caller.leave()
        caller.leave()

    def check(self) -> None:
        for resource, total in zip(Resource, self.admission.total.held, strict=True):
            assert total == sum(one[4] for one in self.held if one[3] is resource)


steps = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 7), st.integers(0, 3), st.integers(0, 50)), max_size=40
)


@given(steps)
def test_every_bound_is_kept_and_nothing_is_left_behind(steps: list[tuple[int, int, int, int]]) -> None:
    world = World()
    for step, (kind, which, choice, size) in enumerate(steps):
        if kind == 0 or not world.callers:
            world.connect(step, ADDRESSES[choice])
            continue
        caller, number = world.callers[which % len(world.callers)]
        match kind:
            case 1:
                world.take(caller, number, Resource.QUERIES, size)
            case 2 | 3:
                world.take(caller, number, Resource.REQUESTS, size)
            case 4:
                world.identify(caller, number, USERS[choice])
            case 5 if world.pending:
                world.end(which)
            case _:
                world.leave(caller, number)
        world.check()
    for caller, number in list(world.callers):
        world.leave(caller, number)
    while world.pending:
        world.end(0)
    assert world.admission.is_empty


def test_a_refusal_names_the_limit_its_value_and_what_was_asked() -> None:
    admission = admission_of(SMALL)
    for _ in range(3):
        admission.connect("192.0.2.1")
    with pytest.raises(LimitExceededError) as refused:
        admission.connect("192.0.2.1")
    assert refused.value.code == "TooManyConcurrentRequests"
    assert (refused.value.limit, refused.value.maximum, refused.value.asked) == (
        "sockets_per_address_max",
        3,
        4,
    )
    assert admission.refusals == {"sockets_per_address_max": 1}
    # It has room for others, and says so itself when it has none.
    admission.connect("192.0.2.2")
    admission.connect("192.0.2.2")
    with pytest.raises(LimitExceededError, match="`sockets_max` is 5"):
        admission.connect("192.0.2.3")


def test_requests_outlive_the_connection_that_made_them() -> None:
    admission = admission_of(SMALL)
    pending: list[Pending] = []
    for _ in range(3):
        caller = admission.connect("192.0.2.1")
        pending.append(caller.begin(10))
        caller.leave()
    with pytest.raises(LimitExceededError, match="requests_per_address_max"):
        admission.connect("192.0.2.1").begin(10)
    for one in pending:
        one.end()
    admission.connect("192.0.2.1").begin(10)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", None),
        ("127.8.8.8", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("testclient", None),
        ("", None),
    ],
)
def test_addresses_are_counted_by_host_and_those_of_ipv6_by_site(address: str, counted: str | None) -> None:
    assert counted_address(address) == counted


class Turns:
    """A loop whose turns take as long as the test says."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.soon: list[object] = []
        limits = dataclasses.replace(DEFAULT_LIMITS, turn_s_max=0.5, overload_patience_s=5.0)
        self.load = Load(limits, self.soon.append, now_s=lambda: self.now_s)

    def turn(self, request_count: int, each_s: float) -> int:
        """Requests come, each takes its time; how many of them were refused."""
        refused = 0
        for _ in range(request_count):
            if admitted(self.load.admit):
                self.now_s += each_s
            else:
                refused += 1
        for turned in self.soon:
            assert callable(turned)
            turned()
        self.soon.clear()
        return refused


def test_one_slow_turn_is_no_overload() -> None:
    turns = Turns()
    for _ in range(20):
        assert turns.turn(1, 3.0) == 0
        assert turns.turn(10, 0.001) == 0


def test_in_an_overloaded_server_each_turn_admits_what_it_has_room_for() -> None:
    turns = Turns()
    refused = [turns.turn(100, 0.01) for _ in range(50)]
    # Patient for five turns of a second each; from then on half a second of work a turn.
    assert refused[:5] == [0] * 5
    assert all(count in (48, 49, 50) for count in refused[5:])
    # As soon as less is asked for, all of it is admitted.
    assert turns.turn(20, 0.01) == 0
    assert turns.turn(100, 0.01) == 0


def test_a_quiet_time_ends_an_overload() -> None:
    turns = Turns()
    for _ in range(10):
        turns.turn(100, 0.01)
    turns.now_s += 2.0
    assert turns.turn(100, 0.01) == 0
