"""Is each live result what a fresh run would give, and did no query run that nothing touched?

A state machine over a running database: random writes in random groups, random live queries of random
clients, failed groups, random moments of delivery. After each delivery every result a client was told is
compared with the naive model, and the number of runs of every query with the number the model calls for.

`REACTIVEDB_INVARIANT_EXAMPLES` makes it long (one for CI makes a few hundred);
`REACTIVEDB_INVARIANT_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from inline_app import FlakyStorage
from naive_values import exact

from reactivedb.engine.counts import Counts
from reactivedb.errors import StorageError
from reactivedb.functions import ANONYMOUS
from reactivedb.storage import Storage, open_sqlite
from reactivedb.subscriptions import QuerySet
from reactivedb.testing import FakeClock
from reactivedb.values import Int64, decode

from .reactive_app import ABSENT, invariant_app, label_of
from .reactive_model import Model, Read

EXAMPLES = int(os.environ.get("REACTIVEDB_INVARIANT_EXAMPLES", "0"))
CLIENT_COUNT = 3

numbers = [-0.0, 0.0, 1.0, 2.5, float("nan"), float("-inf"), Int64(1), Int64(-2)]
texts = ["", "a", "a\x00", "ab", b"", b"a"]
keys = st.sampled_from([ABSENT, None, True, False, *numbers, *texts, [], [1.0], [1.0, None], {}, {"x": 1.0}])
kinds = st.sampled_from(["a", "ab", "b"])
sizes = st.integers(0, 4).map(float)
takes = st.sampled_from([None, 1.0, 2.0, 3.0, 5.0, 0.0, 100.0])


@st.composite
def ranges(draw: st.DrawFn) -> dict[str, Any]:
    """An equality prefix of an index and bounds on its next field."""
    index = draw(st.sampled_from(["by_creation_time", "by_key", "by_kind_key"]))
    fields = {"by_creation_time": [], "by_key": [keys], "by_kind_key": [kinds, keys]}[index]
    eq = [draw(field) for field in fields[: draw(st.sampled_from([0, 0, 1, 2]))]]
    bounds: dict[str, Any] = {}
    if len(eq) < len(fields):
        for side in draw(
            st.sampled_from([[], ["gt"], ["gte"], ["lt"], ["lte"], ["gte", "lt"], ["gt", "lte"]])
        ):
            bounds[side] = draw(fields[len(eq)])
    return {"index": index, "eq": eq, "bounds": bounds, "desc": draw(st.booleans())}


range_looks = st.builds(
    lambda range_, op, take, minimum, both: {**range_, "op": op, "take": take, "min": minimum, "sizes": both},
    ranges(),
    st.sampled_from(["scan", "scan", "loop", "reading", "remembering", "count", "join", "until"]),
    takes,
    st.none() | sizes,
    st.lists(sizes, max_size=2),
)


class Client:
    """A query set and what it was told, as a session would keep it."""

    def __init__(self, machine: ReactiveInvariant) -> None:
        self._machine = machine
        self.queries: QuerySet = machine.runtime.query_set(lambda: machine.runtime.delivery.due(self))
        self.specs: dict[int, Any] = {}
        self.told: dict[int, Any] = {}
        self.news: list[int] = []
        self.ts = 0

    def prepare(self, ts: int) -> Callable[[StorageError | None], None]:
        changes = self.queries.take_changes()

        def publish(error: StorageError | None) -> None:
            assert error is None
            assert ts >= self.ts, "the time of a client went back"
            assert ts <= self._machine.runtime.engine.committer.durable_ts, "told before it was durable"
            self.ts = ts
            for change in changes:
                assert change.result.json is not None, change.result.error
                self.told[change.query_id] = decode(change.result.json)
                self.news.append(change.query_id)

        return publish


class ReactiveInvariant(RuleBasedStateMachine):
    """See the module's docstring."""

    totals: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.runs: Counter[str] = Counter()
        self.app = invariant_app(self.runs)
        self.storage = self.open_storage()
        self.runtime = self.app.runtime(self.storage, clock=FakeClock())
        # However few documents there are, counts are remembered here.
        self.runtime.engine.counts = Counts(self.storage, large_count_min=0)
        # Ids are the same whenever the same steps are taken, so that an example can be repeated.
        entropy = random.Random(0)
        self.runtime.engine.entropy = lambda: entropy.randbytes(16)
        self.model, self.flushed = Model(), Model()
        self.clients = [Client(self) for _ in range(CLIENT_COUNT)]
        self.query_count = 0
        # Every id there ever was, by table: queries ask for deleted ones as well.
        self.ids: dict[str, list[str]] = {"owners": [], "things": []}
        # What a run of each query read, for as long as nothing touched it; held by somebody or idle.
        self.reads: dict[str, list[Read]] = {}
        self.expected_runs: Counter[str] = Counter()
        self.changes: list[tuple[str, Any, Any]] = []
        self.lost = False

    def open_storage(self) -> Storage:
        return FlakyStorage()

    @initialize(data=st.data(), specs=st.lists(range_looks, min_size=4, max_size=12))
    def begin(self, data: st.DataObject, specs: list[dict[str, Any]]) -> None:
        """Some documents and queries to begin with, so that most writes touch something."""
        self.commit(data, 8)
        for number, spec in enumerate(specs):
            self.subscribe(spec, number % CLIENT_COUNT)
        self.deliver()

    # Writes

    @rule(data=st.data(), count=st.integers(1, 3))
    def commit(self, data: st.DataObject, count: int) -> None:
        """One transaction of some writes; nobody is told yet."""
        model = self.model.copy()
        steps = [self.step(data, model) for _ in range(count)]
        definition = self.app.registry.find("notes:write", None, internal=False)
        runner = self.runtime.runner
        result = runner.mutation(definition, runner.parse(definition, {"steps": steps}), ANONYMOUS)
        for step, made in zip(steps, result.unwrap(), strict=True):
            self.changes.append(self.model.apply(step, made))
            if made is not None:
                self.ids[step["table"]].append(made[0])
        self.changes = net(self.changes[: -len(steps)], self.changes[-len(steps) :])
        self.totals["commits"] += 1

    def step(self, data: st.DataObject, model: Model) -> dict[str, Any]:
        table = data.draw(st.sampled_from(["things", "things", "things", "owners"]))
        do = data.draw(st.sampled_from(["insert", "replace", "replace", "delete"]))
        rows = model.tables[table]
        if do == "insert" or not rows:
            return {"do": "insert", "table": table, "fields": self.fields(data, table)}
        id = data.draw(st.sampled_from(sorted(rows)))
        if do == "delete":
            del rows[id]
            return {"do": "delete", "table": table, "id": id}
        return {"do": "replace", "table": table, "id": id, "fields": self.fields(data, table)}

    def fields(self, data: st.DataObject, table: str) -> dict[str, Any]:
        if table == "owners":
            return {"name": data.draw(st.sampled_from(["ada", "bob"]))}
        owner = data.draw(st.sampled_from([ABSENT, *self.ids["owners"][-4:]]))
        return {"kind": data.draw(kinds), "key": data.draw(keys), "size": data.draw(sizes), "owner": owner}

    @precondition(lambda self: isinstance(self.storage, FlakyStorage))
    @rule()
    def fail_group(self) -> None:
        """The disk is full: all that was committed since the last delivery never happened."""
        engine = self.runtime.engine
        if engine.committer.applied_ts == engine.committer.flushed_ts:
            return
        self.storage.failing_flush_count = 1  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(StorageError):
            engine.flush()
        self.model, self.changes, self.lost = self.flushed.copy(), [], True
        self.totals["failed groups"] += 1

    # Queries

    @rule(spec=range_looks, who=st.integers(0, CLIENT_COUNT - 1))
    def subscribe(self, spec: dict[str, Any], who: int) -> None:
        client = self.clients[who]
        self.query_count += 1
        client.specs[self.query_count] = spec
        client.queries.add(self.query_count, "notes:look", {"spec": spec}, ANONYMOUS)
        self.totals["subscriptions"] += 1

    @precondition(lambda self: any(self.ids.values()))
    @rule(data=st.data(), who=st.integers(0, CLIENT_COUNT - 1))
    def subscribe_to_document(self, data: st.DataObject, who: int) -> None:
        table = data.draw(st.sampled_from([name for name, ids in self.ids.items() if ids]))
        self.subscribe({"op": "get", "table": table, "id": data.draw(st.sampled_from(self.ids[table]))}, who)

    @precondition(lambda self: any(client.specs for client in self.clients))
    @rule(data=st.data(), who=st.integers(0, CLIENT_COUNT - 1))
    def subscribe_to_the_same(self, data: st.DataObject, who: int) -> None:
        specs = [spec for client in self.clients for spec in client.specs.values()]
        self.subscribe(data.draw(st.sampled_from(specs)), who)

    @precondition(lambda self: any(client.specs for client in self.clients))
    @rule(data=st.data())
    def unsubscribe(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from([client for client in self.clients if client.specs]))
        query_id = data.draw(st.sampled_from(sorted(client.specs)))
        del client.specs[query_id]  # the result stays for others and, while it is true, for nobody
        client.told.pop(query_id, None)
        assert client.queries.remove(query_id)
        self.runtime.cache.check()

    # Delivery

    @rule()
    def deliver(self) -> None:
        """Make durable, run what is stale, tell the clients; then compare everything."""
        held = {label_of(spec): spec for client in self.clients for spec in client.specs.values()}
        fresh = {label: self.model.look(spec) for label, spec in held.items()}
        for label in list(self.reads):
            if self.lost or self.is_touched(self.reads[label]):
                del self.reads[label]
        for label in held:
            if label not in self.reads:
                self.expected_runs[label] += 1
                self.reads[label] = fresh[label][1]
        news = {
            (who, query_id)
            for who, client in enumerate(self.clients)
            for query_id, spec in client.specs.items()
            if query_id not in client.told or exact(client.told[query_id]) != exact(fresh[label_of(spec)][0])
        }
        self.changes, self.lost = [], False
        self.runtime.delivery.publish_now()
        self.flushed = self.model.copy()
        for client in self.clients:
            for query_id, spec in client.specs.items():
                assert exact(client.told[query_id]) == exact(fresh[label_of(spec)][0]), spec
        told = {(who, query_id) for who, client in enumerate(self.clients) for query_id in client.news}
        assert told == news, "an equal result was sent, or a changed one was not"
        assert self.runs == self.expected_runs, "a query ran that nothing touched, or did not run"
        for client in self.clients:
            client.news.clear()
        self.runtime.cache.check()
        self.runtime.engine.cache.check()
        self.runtime.engine.counts.check()
        self.totals["deliveries"] += 1
        self.totals["results compared"] += sum(len(client.specs) for client in self.clients)

    def is_touched(self, reads: list[Read]) -> bool:
        return any(read.touched_by(*change) for read in reads for change in self.changes)

    def teardown(self) -> None:
        self.deliver()
        assert self.storage.check() == []
        self.totals["runs"] += sum(self.runs.values())
        self.totals["examples"] += 1
        self.storage.close()


class ReactiveInvariantOnSqlite(ReactiveInvariant):
    """The same over a file."""

    def open_storage(self) -> Storage:
        self.folder = tempfile.TemporaryDirectory()
        return open_sqlite(Path(self.folder.name) / "data.db", durability="relaxed")

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


def net(before: list[tuple[str, Any, Any]], steps: list[tuple[str, Any, Any]]) -> list[tuple[str, Any, Any]]:
    """One change per document: what a transaction did to it on the way is seen by nobody."""
    changes: dict[str, tuple[str, Any, Any]] = {}
    for table, old, new in steps:
        id = (old or new)["_id"]
        first = changes[id][1] if id in changes else old
        changes[id] = (table, first, new)
    return before + [change for change in changes.values() if change[1] is not None or change[2] is not None]


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("machine", "example_count"), [(ReactiveInvariant, 100), (ReactiveInvariantOnSqlite, 50)]
)
def test_every_live_result_is_what_a_fresh_run_gives_and_nothing_else_ran(
    machine: type[ReactiveInvariant], example_count: int
) -> None:
    number = int(os.environ.get("REACTIVEDB_INVARIANT_SEED", random.randrange(2**32)))
    print(f"REACTIVEDB_INVARIANT_SEED={number}")
    machine.totals = Counter()
    run_state_machine_as_test(
        seed(number)(machine),
        settings=settings(
            max_examples=EXAMPLES or example_count,
            stateful_step_count=50,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(dict(machine.totals))
