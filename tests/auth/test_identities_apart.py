"""Does anybody ever see a result that was made for somebody else?

Random functions look at the identity directly, in a helper, in a nested query, in a filter, or only when
the data say so; random people follow them from random connections, sign in and out, and write. After each
delivery everybody's results are what a fresh run for just them would give.

`REACTIVEDB_IDENTITIES_EXAMPLES` makes it long; hypothesis prints what repeats a failure.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from inline_app import FlakyStorage, app_of

import reactivedb as rdb
from reactivedb.app import Runtime
from reactivedb.functions import ANONYMOUS, Identity, UserIdentity, encoded_result
from reactivedb.subscriptions import QuerySet
from reactivedb.testing import FakeClock
from reactivedb.values import encode, normalize

EXAMPLES = int(os.environ.get("REACTIVEDB_IDENTITIES_EXAMPLES", "0"))


class Fact(rdb.Document, table="facts"):
    key: str
    value: float

    by_key = rdb.Index("key")


def name_of(ctx: Any) -> rdb.Value:
    """The helper: everything of the user that a function can see."""
    user = ctx.auth.get_user_identity()
    return None if user is None else [user.token_identifier, user.subject, user.issuer, dict(user.claims)]


def value_of(ctx: Any, key: str) -> float:
    fact = ctx.db.query(Fact.by_key.eq(key)).first()
    return fact.value if fact is not None else 0.0


@rdb.query
def look(ctx: rdb.QueryCtx, steps: list[rdb.Value]) -> list[rdb.Value]:
    """Take these steps one after another."""
    return [take(ctx, step) for step in steps]


def take(ctx: Any, step: Any) -> rdb.Value:
    match step["do"]:
        case "read":
            return value_of(ctx, step["key"])
        case "directly":
            user = ctx.auth.get_user_identity()
            return user.subject if user is not None else None
        case "claim":
            user = ctx.auth.get_user_identity()
            return user.get("role") if user is not None else None
        case "in a helper":
            return name_of(ctx)
        case "and forget":
            ctx.auth.get_user_identity()
            return None
        case "nested":
            return ctx.run_query(look, step["steps"])
        case "if":
            return take(ctx, step["then"]) if value_of(ctx, step["key"]) > step["above"] else None
        case "in a filter":
            return [
                fact.value
                for fact in ctx.db.query(Fact).filter(lambda fact: str(name_of(ctx)) > "" and fact.value > 1)
            ]
        case "and fail":
            raise rdb.ApplicationError({"for": name_of(ctx)})
        case other:
            raise AssertionError(other)


@rdb.mutation
def put(ctx: rdb.MutationCtx, key: str, value: float) -> None:
    fact = ctx.db.query(Fact.by_key.eq(key)).first()
    if fact is None:
        ctx.db.insert(Fact(key=key, value=value))
    else:
        ctx.db.patch(fact.id, value=value)


keys = st.sampled_from(["a", "b"])
levels = st.integers(0, 2).map(float)
plain = st.sampled_from(["directly", "claim", "in a helper", "and forget", "in a filter", "and fail"])
leaves = st.builds(lambda do: {"do": do}, plain) | st.builds(lambda key: {"do": "read", "key": key}, keys)
steps = st.recursive(
    leaves,
    lambda inner: (
        st.builds(lambda found: {"do": "nested", "steps": found}, st.lists(inner, min_size=1, max_size=2))
        | st.builds(
            lambda key, above, then: {"do": "if", "key": key, "above": above, "then": then},
            keys,
            levels,
            inner,
        )
    ),
    max_leaves=3,
)
looks = st.lists(steps, min_size=1, max_size=2)
# Looked at by everybody before the data say that the identity matters.
late_looks = st.builds(
    lambda key, then: [{"do": "if", "key": key, "above": 0.0, "then": {"do": then}}],
    keys,
    st.sampled_from(["directly", "claim", "in a helper"]),
)


def user_of(subject: str, issuer: str, claims: dict[str, Any]) -> Identity:
    # A new one each time: equal identities are told by what they hold, not by which object they are.
    return Identity(user=UserIdentity(subject, issuer, f"{issuer}|{subject}", claims))


# Some that are easily taken for one another.
PEOPLE: list[tuple[str, str, dict[str, Any]]] = [
    ("ada", "i", {}),
    ("bob", "i", {}),
    ("ada|x", "i", {}),
    ("x", "i|ada", {}),
    ("ada", "i", {"role": "admin"}),
    ("ada", "i", {"role": 1}),
    ("ada", "i", {"role": True}),
]
people = st.just(ANONYMOUS) | st.sampled_from(PEOPLE).map(lambda person: user_of(*person))


class Client:
    def __init__(self, runtime: Runtime, identity: Identity) -> None:
        self.identity = identity
        self.queries = QuerySet(runtime.cache, on_change=lambda: None)
        self.asked: dict[int, Any] = {}
        self.told: dict[int, Any] = {}


class IdentitiesApart(RuleBasedStateMachine):
    @initialize(
        count=st.integers(2, 4), spec=looks | late_looks, found=st.lists(people, min_size=4, max_size=4)
    )
    def open(self, count: int, spec: Any, found: list[Identity]) -> None:
        self.runtime = app_of(Fact, look, put).runtime(FlakyStorage(), clock=FakeClock())
        # All begin with the same question: sharing is what could go wrong.
        self.specs = [spec]
        self.clients = [Client(self.runtime, identity) for identity in found[:count]]
        for client in self.clients:
            self._follow(client, spec)
        self.deliver()

    def _follow(self, client: Client, spec: Any) -> None:
        query_id = len(client.asked)
        client.asked[query_id] = spec
        client.queries.add(query_id, "notes:look", {"steps": spec}, client.identity)

    @rule(who=st.integers(0, 9), spec=looks, old=st.booleans())
    def follow(self, who: int, spec: Any, old: bool) -> None:
        if not old:
            self.specs.append(spec)
        self._follow(
            self.clients[who % len(self.clients)], self.specs[who % len(self.specs)] if old else spec
        )

    @rule(who=st.integers(0, 9), identity=people)
    def sign_in(self, who: int, identity: Identity) -> None:
        client = self.clients[who % len(self.clients)]
        client.identity = identity
        client.queries.identify(identity)

    @rule(who=st.integers(0, 9))
    def leave(self, who: int) -> None:
        client = self.clients[who % len(self.clients)]
        client.queries.clear()
        client.asked.clear()
        client.told.clear()

    @rule(key=keys, value=levels)
    def write(self, key: str, value: float) -> None:
        runner = self.runtime.runner
        definition = runner.registry.of(put)
        runner.mutation(definition, runner.bind(definition, (key, value), {}), ANONYMOUS).unwrap()

    @rule()
    def deliver(self) -> None:
        self.runtime.cache.refresh()
        self.runtime.cache.check()
        for client in self.clients:
            for change in client.queries.take_changes():
                client.told[change.query_id] = shown(change.result.json, change.result.error)
            assert client.told == {
                query_id: self._fresh(spec, client.identity) for query_id, spec in client.asked.items()
            }

    def _fresh(self, spec: Any, identity: Identity) -> Any:
        """What a run for this identity alone gives; nothing of it is kept."""
        runner = self.runtime.runner
        definition = runner.registry.of(look)
        result = runner.query(definition, runner.parse(definition, {"steps": spec}), identity)
        if isinstance(result.error, rdb.ApplicationError):
            return ("failed", encode(normalize(result.error.data)))
        result.unwrap()
        return ("value", encoded_result(result, self.runtime.limits))

    @invariant()
    def the_cache_is_sound(self) -> None:
        if hasattr(self, "runtime"):
            self.runtime.cache.check()

    def teardown(self) -> None:
        if hasattr(self, "runtime"):
            self.deliver()


def shown(json: bytes | None, error: Any) -> Any:
    # As bytes, for 1 and True are equal to Python.
    return ("value", json) if json is not None else ("failed", error.data)


@pytest.mark.slow
def test_no_result_crosses_from_one_identity_to_another() -> None:
    run_state_machine_as_test(
        IdentitiesApart,
        settings=settings(
            max_examples=EXAMPLES or 150,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
