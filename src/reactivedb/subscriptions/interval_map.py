"""Which subscribers does a key touch?

One `IntervalMap` stands for one index. A subscriber waits for an exact key, for all keys with an equality
prefix, or for a true range of keys. The first two are found by hash, the ranges in a treap (Seidel and
Aragon, 1996) ordered by interval, in which each node knows how far its subtree reaches; so a key far from
every range costs one short descent. Identical ranges share a node. Registering is idempotent, removing what
is not there is a `KeyError`, and a subscriber that is touched in several ways is reported once.

Cost for n ranges of which m are touched, expected: `add` and `remove` O(log n), O(1) if the range has other
subscribers; `touched` O(log n + m) if the ranges touched lie side by side, O(m log n) at worst. Prefixes and
exact keys: O(1) each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")

# low <= key < high
Interval: TypeAlias = tuple[bytes, bytes]


class IntervalMap(Generic[T]):
    """Subscribers by the keys they wait for."""

    __slots__ = ("_by_key", "_by_prefix", "_nodes", "_priorities", "_root")

    def __init__(self) -> None:
        self._by_prefix: dict[bytes, set[T]] = {}
        self._by_key: dict[bytes, set[T]] = {}
        # Holds exactly the nodes of the tree under `_root`; none has an empty set of subscribers.
        self._nodes: dict[Interval, _Node[T]] = {}
        self._root: _Node[T] | None = None
        # Seeded, so that a run can be repeated: the shape of the tree must not differ between two of them.
        self._priorities = Random(0)

    def __len__(self) -> int:
        """The number of registrations. O(different prefixes, keys and ranges)."""
        ranges = sum(len(node.subscribers) for node in self._nodes.values())
        return ranges + sum(map(len, self._by_prefix.values())) + sum(map(len, self._by_key.values()))

    def __bool__(self) -> bool:
        """Whether anybody waits for anything. O(1)."""
        return bool(self._nodes or self._by_prefix or self._by_key)

    def add(self, interval: Interval, subscriber: T) -> None:
        """Wait for `low <= key < high`; an empty interval is allowed and never touched. O(log n)."""
        node = self._nodes.get(interval)
        if node is None:
            node = _Node[T](interval, self._priorities.random())
            self._nodes[interval] = node
            self._root = _insert(self._root, node)
        node.subscribers.add(subscriber)

    def remove(self, interval: Interval, subscriber: T) -> None:
        """O(log n). Raises: `KeyError`."""
        node = self._nodes[interval]
        node.subscribers.remove(subscriber)
        if not node.subscribers:
            del self._nodes[interval]
            self._root = _delete(self._root, node)

    def add_prefix(self, prefix: bytes, subscriber: T) -> None:
        """Wait for each key that has `prefix` among its equality prefixes. O(1)."""
        self._by_prefix.setdefault(prefix, set()).add(subscriber)

    def remove_prefix(self, prefix: bytes, subscriber: T) -> None:
        """O(1). Raises: `KeyError`."""
        _discard(self._by_prefix, prefix, subscriber)

    def add_exact(self, key: bytes, subscriber: T) -> None:
        """Wait for one key. O(1)."""
        self._by_key.setdefault(key, set()).add(subscriber)

    def remove_exact(self, key: bytes, subscriber: T) -> None:
        """O(1). Raises: `KeyError`."""
        _discard(self._by_key, key, subscriber)

    def touched(self, key: bytes, prefixes: Sequence[bytes]) -> set[T]:
        """Everyone who waits for `key`; `prefixes` are its equality prefixes, from b"" to the whole key."""
        found: set[T] = set()
        if self._by_prefix:
            for prefix in prefixes:
                if (subscribers := self._by_prefix.get(prefix)) is not None:
                    found |= subscribers
        if (subscribers := self._by_key.get(key)) is not None:
            found |= subscribers
        if self._root is not None:
            _stab(self._root, key, found)
        return found

    def check(self) -> None:
        """Assert every invariant. O(n)."""
        for by_bytes in (self._by_prefix, self._by_key):
            assert all(by_bytes.values()), "an empty set of subscribers is left"
        assert all(node.subscribers for node in self._nodes.values()), "a range without subscribers is left"
        in_order = _checked_nodes(self._root)
        intervals = [node.interval for node in in_order]
        assert all(a < b for a, b in pairwise(intervals)), "intervals out of order"
        assert len(in_order) == len(self._nodes), "the tree and the nodes by interval differ in number"
        assert all(self._nodes.get(node.interval) is node for node in in_order), "a node is not known"


class _Node(Generic[T]):
    """One interval; to its left are lower ones, to its right higher ones, ordered as tuples (low, high)."""

    __slots__ = ("high", "interval", "left", "low", "priority", "reach", "right", "subscribers")

    def __init__(self, interval: Interval, priority: float) -> None:
        self.interval = interval
        self.low, self.high = interval
        self.subscribers: set[T] = set()
        # Never below a child's: random, so the expected depth is logarithmic whatever the order of insertion.
        self.priority = priority
        # The highest `high` in the subtree under this node, itself included.
        self.reach = self.high
        self.left: _Node[T] | None = None
        self.right: _Node[T] | None = None

    def measure(self) -> None:
        """Set `reach` from the node and its children."""
        reach = self.high
        if (left := self.left) is not None and left.reach > reach:
            reach = left.reach
        if (right := self.right) is not None and right.reach > reach:
            reach = right.reach
        self.reach = reach

    def replace_child(self, old: _Node[T] | None, new: _Node[T] | None, *, lower: bool) -> None:
        assert old is (self.left if lower else self.right)
        if lower:
            self.left = new
        else:
            self.right = new


def _discard(by_bytes: dict[bytes, set[T]], key: bytes, subscriber: T) -> None:
    subscribers = by_bytes[key]
    subscribers.remove(subscriber)
    if not subscribers:
        del by_bytes[key]


def _stab(root: _Node[T], key: bytes, found: set[T]) -> None:
    """Add to `found` the subscribers of each interval that holds `key`."""
    waiting: list[_Node[T]] = []
    node: _Node[T] | None = root
    while True:
        if node is None or node.reach <= key:
            if not waiting:
                return
            node = waiting.pop()
            continue
        if node.low <= key:
            if key < node.high:
                found |= node.subscribers
            if node.right is not None:
                waiting.append(node.right)
        node = node.left


def _insert(root: _Node[T] | None, new: _Node[T]) -> _Node[T]:
    """The root after adding `new`, whose interval is not there yet."""
    interval, high, priority = new.interval, new.high, new.priority
    parent: _Node[T] | None = None
    node = root
    lower = False
    while node is not None and node.priority >= priority:
        if node.reach < high:
            node.reach = high
        parent = node
        lower = interval < node.interval
        node = node.left if lower else node.right
    new.left, new.right = _split(node, interval)
    new.measure()
    if root is None or parent is None:
        return new
    parent.replace_child(node, new, lower=lower)
    return root


def _delete(root: _Node[T] | None, old: _Node[T]) -> _Node[T] | None:
    """The root after taking `old` out."""
    path: list[_Node[T]] = []
    node = root
    lower = False
    while node is not old:
        assert node is not None, "the node is not in the tree"
        path.append(node)
        lower = old.interval < node.interval
        node = node.left if lower else node.right
    rest = _merge(old.left, old.right)
    if not path:
        return rest
    path[-1].replace_child(old, rest, lower=lower)
    for ancestor in reversed(path):
        # Only a node that reached exactly as far as `old` can owe its reach to it.
        if ancestor.reach != old.high:
            break
        ancestor.measure()
    return root


def _split(node: _Node[T] | None, interval: Interval) -> tuple[_Node[T] | None, _Node[T] | None]:
    """The nodes below and above `interval`, as two trees."""
    if node is None:
        return None, None
    if node.interval < interval:
        node.right, above = _split(node.right, interval)
        node.measure()
        return node, above
    below, node.left = _split(node.left, interval)
    node.measure()
    return below, node


def _merge(below: _Node[T] | None, above: _Node[T] | None) -> _Node[T] | None:
    """One tree of two, of which the first holds the lower intervals."""
    if below is None:
        return above
    if above is None:
        return below
    if below.priority >= above.priority:
        below.right = _merge(below.right, above)
        below.measure()
        return below
    above.left = _merge(below, above.left)
    above.measure()
    return above


def _checked_nodes(node: _Node[T] | None) -> list[_Node[T]]:
    """The nodes of a subtree in order, each found to keep what it promises about its children."""
    if node is None:
        return []
    for child in (node.left, node.right):
        assert child is None or child.priority <= node.priority, "a child's priority is above its parent's"
    reaches = [child.reach for child in (node.left, node.right) if child is not None]
    assert node.reach == max([node.high, *reaches]), "a node does not know how far its subtree reaches"
    return [*_checked_nodes(node.left), node, *_checked_nodes(node.right)]
