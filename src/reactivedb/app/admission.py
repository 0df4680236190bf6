"""How much may one caller ask for at a time, and how much all together?

Whatever is held for callers (open sockets, followed queries, requests under way, bytes) is counted in shares:
the connection's own, its user's, its address's and the whole server's. A `Caller` draws on all of its shares
at once, or on none: over a bound it is refused with an error that names the bound. Everything drawn is given
back in one place, so that no path forgets a part of it; a share that holds nothing is forgotten.

Nobody is counted twice for being unknown: a caller without a user has no user's share, and one from this
machine has no address's share, for a reverse proxy that does not say for whom it speaks would share one.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable
from enum import Enum, IntEnum
from functools import lru_cache

from ..errors import LimitExceededError
from ..functions import Identity
from ..limits import Limits
from .load import Load

# A site has 2^64 addresses of IPv6, so they are counted together.
_IPV6_SITE_BITS = 64
# The longest address there is, and a zone. What a proxy passes on may be anything.
_ADDRESS_LENGTH_MAX = 64


class Resource(IntEnum):
    """What is counted; the value is its place in a share."""

    SOCKETS = 0
    QUERIES = 1
    REQUESTS = 2
    BYTES = 3


class Scope(Enum):
    """Whose share; the value is how `limits` names it."""

    CLIENT = "_per_client"
    IDENTITY = "_per_identity"
    ADDRESS = "_per_address"
    SERVER = ""


_NAMES = ("sockets", "queries", "requests", "held_size_bytes")
_THINGS = ("open sockets", "followed queries", "requests under way", "bytes held")


class Share:
    """What is held for one connection, user or address, or for everybody."""

    __slots__ = ("_used_at_s", "_used_s", "forget", "held", "maxima", "scope")

    def __init__(self, scope: Scope, limits: Limits, forget: Callable[[], object]) -> None:
        self.scope = scope
        self.held = [0, 0, 0, 0]
        # Without a limit of that name there is no bound: one connection is one socket.
        self.maxima: list[float] = [
            getattr(limits, limit_name(scope, kind), float("inf")) for kind in Resource
        ]
        # Called when nothing is held any more.
        self.forget = forget
        # Time of the loop that was used lately, as it stood when it was last added to.
        self._used_s = 0.0
        self._used_at_s = 0.0

    def used_s(self, now_s: float) -> float:
        """The time of the loop that was used lately: half of it is forgotten each second."""
        return self._used_s * 0.5 ** (now_s - self._used_at_s) if self._used_s else 0.0

    def use(self, used_s: float, now_s: float) -> None:
        self._used_s, self._used_at_s = self.used_s(now_s) + used_s, now_s

    def lacks(self, size_bytes: int) -> bool:
        """Whether there is no room for one update of that size, and may be some later.

        The connection's own share is not asked, so that its largest update goes out once all before is taken.
        """
        held_bytes, maximum = self.held[Resource.BYTES], self.maxima[Resource.BYTES]
        return self.scope is not Scope.CLIENT and size_bytes <= maximum < held_bytes + size_bytes


def limit_name(scope: Scope, resource: Resource) -> str:
    return f"{_NAMES[resource]}{scope.value}_max"


class Pending:
    """A request under way; it has to be ended."""

    __slots__ = ("_shares", "_size_bytes")

    def __init__(self, shares: tuple[Share, ...], size_bytes: int) -> None:
        self._shares = shares
        self._size_bytes = size_bytes

    def end(self) -> None:
        """Give back what it held; may come more than once."""
        shares, self._shares = self._shares, ()
        for share in shares:
            held = share.held
            held[Resource.REQUESTS] -= 1
            held[Resource.BYTES] -= self._size_bytes
            if not any(held):
                share.forget()


class Caller:
    """One connection, or one HTTP request, and what it holds."""

    __slots__ = ("_address", "_admission", "_held", "_own", "_shares")

    def __init__(self, admission: Admission, address: Share | None) -> None:
        self._admission = admission
        self._address = address
        # What it holds as long as it stays; requests under way are held by themselves and may outlive it.
        self._held = [0, 0, 0, 0]
        self._own = Share(Scope.CLIENT, admission.limits, _nothing)
        self._shares = self._shares_with(None)

    def _shares_with(self, user: Share | None) -> tuple[Share, ...]:
        shares = (self._own, user, self._address, self._admission.total)
        return tuple(share for share in shares if share is not None)

    def take(self, resource: Resource, *, size_bytes: int = 0) -> None:
        """Hold one more, of that size, until `give_back` or `leave`.

        Raises:
            LimitExceededError: it would be too much; nothing is taken.
        """
        self._admission.load.admit()
        self._admission.draw(self._shares, (resource, 1), (Resource.BYTES, size_bytes))
        self._held[resource] += 1
        self._held[Resource.BYTES] += size_bytes

    def take_bytes(self, size_bytes: int) -> None:
        """Hold that many bytes more. Raises: LimitExceededError."""
        self._admission.draw(self._shares, (Resource.BYTES, size_bytes))
        self._held[Resource.BYTES] += size_bytes

    def hold_answer(self, size_bytes: int) -> None:
        """Hold an answer, which is there already. Raises: LimitExceededError; too much is held before it."""
        self._admission.draw(self._shares, (Resource.BYTES, 0))
        self.hold_bytes(size_bytes)

    def hold_bytes(self, size_bytes: int) -> None:
        """Hold that many bytes more, or less, for they cannot be refused any more."""
        self._held[Resource.BYTES] += size_bytes
        for share in self._shares:
            share.held[Resource.BYTES] += size_bytes

    @property
    def too_large(self) -> str | None:
        """The limit on bytes that is passed, if one is."""
        over = (share for share in self._shares if share.held[Resource.BYTES] > share.maxima[Resource.BYTES])
        share = next(over, None)
        return None if share is None else limit_name(share.scope, Resource.BYTES)

    def has_room(self, size_bytes: int) -> bool:
        """Whether an update of that size may be made for it now; so far it has taken all that it was sent."""
        return self.share_without_room(size_bytes) is None

    def share_without_room(self, size_bytes: int) -> Share | None:
        """The smallest of its shares that has no room for an update of that size."""
        return next((share for share in self._shares if share.lacks(size_bytes)), None)

    def draws_on(self, share: Share) -> bool:
        return share in self._shares

    def give_back(self, resource: Resource, count: int = 1, *, size_bytes: int = 0) -> None:
        for held in (self._held, *(share.held for share in self._shares)):
            held[resource] -= count
            held[Resource.BYTES] -= size_bytes

    def used_s(self, now_s: float) -> float:
        """The most that its connection, its user or its address has used of the loop lately."""
        return max(share.used_s(now_s) for share in self._shares if share.scope is not Scope.SERVER)

    def use(self, used_s: float, now_s: float) -> None:
        """Count time of the loop that was used for it."""
        for share in self._shares:
            share.use(used_s, now_s)

    def begin(self, size_bytes: int) -> Pending:
        """Begin a request whose text has that size.

        Raises:
            LimitExceededError: this caller, or all together, have too much under way.
        """
        self._admission.load.admit()
        shares = self._shares
        self._admission.draw(shares, (Resource.REQUESTS, 1), (Resource.BYTES, size_bytes))
        return Pending(shares, size_bytes)

    def identify(self, identity: Identity) -> None:
        """Speak for another user from now on; requests under way stay whose they were.

        Raises:
            LimitExceededError: that user holds too much already; nothing has moved.
        """
        new = self._admission.share_of_user(identity)
        old = next((share for share in self._shares if share.scope is Scope.IDENTITY), None)
        if new is old:
            return
        if new is not None:
            try:
                self._admission.draw((new,), *zip(Resource, self._held, strict=True))
            finally:
                _forget_empty(new)
        self._shares = self._shares_with(new)
        if old is not None:
            _give_back(old, self._held)

    def leave(self) -> None:
        """Give everything back that is held; may come more than once."""
        held, self._held = self._held, [0, 0, 0, 0]
        for share in self._shares:
            _give_back(share, held)


class Admission:
    """All shares of one server. Everything happens on its loop."""

    def __init__(self, limits: Limits, load: Load) -> None:
        self.limits = limits
        self.load = load
        self.total = Share(Scope.SERVER, limits, _nothing)
        # How often each limit was the reason for a refusal, by the limit's name.
        self.refusals: Counter[str] = load.refusals
        self._by_address: dict[str, Share] = {}
        self._by_user: dict[str, Share] = {}

    def connect(self, address: str | None) -> Caller:
        """A new socket, until it `leave`s. Raises: LimitExceededError."""
        return self._admit(address, Resource.SOCKETS)

    def request(self, address: str | None) -> Caller:
        """A new HTTP request, until it `leave`s. Raises: LimitExceededError."""
        return self._admit(address, Resource.REQUESTS)

    def unknown(self) -> Caller:
        """Somebody who holds nothing yet, and has no address."""
        return Caller(self, None)

    def _admit(self, address: str | None, resource: Resource) -> Caller:
        name = None if address is None else counted_address(address)
        share = None if name is None else self._share(self._by_address, name, Scope.ADDRESS)
        caller = Caller(self, share)
        try:
            caller.take(resource)
        except LimitExceededError:
            caller.leave()
            raise
        return caller

    def share_of_user(self, identity: Identity) -> Share | None:
        # An administrator acts for many.
        if identity.user is None or identity.is_admin:
            return None
        return self._share(self._by_user, identity.user.token_identifier, Scope.IDENTITY)

    def _share(self, known: dict[str, Share], name: str, scope: Scope) -> Share:
        share = known.get(name)
        if share is None:
            share = known[name] = Share(scope, self.limits, lambda: known.pop(name, None))
        return share

    def draw(self, shares: tuple[Share, ...], *wanted: tuple[Resource, int]) -> None:
        """Count that much more in each share. Raises: LimitExceededError; nothing is counted then."""
        for number, share in enumerate(shares):
            held, maxima = share.held, share.maxima
            for resource, amount in wanted:
                if held[resource] + amount > maxima[resource]:
                    for drawn in shares[:number]:
                        for kind, count in wanted:
                            drawn.held[kind] -= count
                    raise self._refusal(share, resource, held[resource] + amount)
            for resource, amount in wanted:
                held[resource] += amount

    def _refusal(self, share: Share, resource: Resource, asked: int) -> LimitExceededError:
        name = limit_name(share.scope, resource)
        maximum = share.maxima[resource]
        self.refusals[name] += 1
        code = "TooManyConcurrentRequests"
        if resource is Resource.QUERIES:
            # The protocol's word for a server that follows all it can; its clients come back later.
            code = "SubscriptionsWorkerFullError" if share.scope is Scope.SERVER else "TooManyQueries"
        return LimitExceededError(
            f"`{name}` is {maximum:.0f} {_THINGS[resource]}, this would be {asked}",
            code=code,
            limit=name,
            maximum=maximum,
            asked=asked,
        )

    def over(self, limit: str, why: str, code: str = "TooManyConcurrentRequests") -> LimitExceededError:
        """The error for a bound of one connection that somebody else keeps; it counts as a refusal."""
        self.refusals[limit] += 1
        maximum = getattr(self.limits, limit)
        return LimitExceededError(f"`{limit}` is {maximum}, {why}", code=code, limit=limit, maximum=maximum)

    @property
    def is_empty(self) -> bool:
        """Nothing is held for anybody, and nobody is remembered."""
        return not (any(self.total.held) or self._by_address or self._by_user)

    @property
    def held(self) -> dict[str, int]:
        """What is held in total, by name."""
        return dict(zip(_NAMES, self.total.held, strict=True))


def _give_back(share: Share, amounts: list[int]) -> None:
    held = share.held
    for resource, amount in enumerate(amounts):
        held[resource] -= amount
    _forget_empty(share)


def _forget_empty(share: Share) -> None:
    if not any(share.held):
        share.forget()


def _nothing() -> None:
    """The shares of a connection and of the server are nobody's to forget."""


def counted_address(text: str) -> str | None:
    """The name that an address is counted by; None for this machine, and for what is no address."""
    return _counted_address(text) if len(text) <= _ADDRESS_LENGTH_MAX else None


@lru_cache(maxsize=10_000)
def _counted_address(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        # A Unix socket, a test client.
        return None
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is None:
            if address.is_loopback:
                return None
            return str(ipaddress.ip_network((address, _IPV6_SITE_BITS), strict=False))
        address = mapped
    return None if address.is_loopback else str(address)
