"""Which queries are alive, and what is the newest result of each?

A live query is run once for everybody who holds it; its key is the function, the arguments and, if the
function looked at it, the identity. A commit that touches what it read makes it stale; `refresh` runs the
stale ones again at the newest state and tells the holders whose result has changed. Several commits
between two refreshes cost one run.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ..engine import DocumentChange, Engine
from ..errors import RequestError
from ..functions import CallError, Identity, Kind, Runner, RunResult, encoded_result
from ..protocol import normalize_path
from ..values import Value, encode
from .tracker import Tracker, Watch

# Path, encoded arguments, and whether internal functions may answer.
QueryKey: TypeAlias = tuple[str, bytes, bool]


@dataclass(frozen=True, slots=True)
class Result:
    """One result of a live query, shared by all its holders. `json` or `error` is what counts."""

    json: bytes | None
    error: CallError | None
    log_lines: tuple[str, ...]
    # The run itself, for holders in this process: they want the objects, not the text.
    run: RunResult | None

    def same_as(self, other: Result | None) -> bool:
        return (
            other is not None
            and self.json == other.json
            and self.error == other.error
            and self.log_lines == other.log_lines
        )


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a live query ran again."""

    change: DocumentChange
    ts: int


class Holder(Protocol):
    """One place in one client's query set."""

    identity: Identity

    def changed(self, live: LiveQuery) -> None:
        """The live query that this place holds (from now on) has a new result."""
        ...


class LiveQuery:
    """One query that somebody holds."""

    __slots__ = (
        "args",
        "cause",
        "holders",
        "identity",
        "identity_bound",
        "key",
        "result",
        "run_count",
        "stale",
        "watches",
    )

    def __init__(self, key: QueryKey, args: Value, identity: Identity) -> None:
        self.key = key
        self.args = args
        self.identity = identity
        # Set by the first run that looked at the identity; from then on the result is that identity's own.
        self.identity_bound = False
        self.result: Result | None = None
        self.stale = True
        self.run_count = 0
        self.cause: Cause | None = None
        self.holders: dict[Holder, None] = {}
        self.watches: list[Watch[LiveQuery]] = []

    @property
    def path(self) -> str:
        return self.key[0]


class QueryCache:
    """All live queries of one open database. The engine's lock guards it."""

    def __init__(
        self,
        engine: Engine,
        runner: Runner,
        *,
        describe: Callable[[BaseException], CallError],
        on_run: Callable[[LiveQuery, RunResult, float], None],
    ) -> None:
        self._engine = engine
        self._runner = runner
        self._describe = describe
        self._on_run = on_run
        self._tracker: Tracker[LiveQuery] = Tracker(engine.reader())
        # A shared entry lies under ""; those of functions that look at the identity under its key.
        self._live: dict[QueryKey, dict[str, LiveQuery]] = {}
        self._stale: dict[LiveQuery, None] = {}
        # Nobody holds these any more, but they are still true: kept in case somebody asks again.
        self._idle: OrderedDict[LiveQuery, int] = OrderedDict()
        self._idle_size_bytes = 0

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._live.values())

    def __bool__(self) -> bool:
        return bool(self._live)

    @property
    def tracker(self) -> Tracker[LiveQuery]:
        return self._tracker

    def hold(self, path: str, args: Value, holder: Holder) -> LiveQuery:
        """Find or make the live query for a holder. It may be stale: `refresh` runs it.

        Path and arguments need not fit any function: the result then says what is wrong, and changes when
        a reload of the application brings the function.

        Raises:
            ValidationError: `InvalidFunctionPath`.
        """
        return self._hold((normalize_path(path), encode(args), holder.identity.is_admin), args, holder)

    def _hold(self, key: QueryKey, args: Value, holder: Holder) -> LiveQuery:
        live = self._find(key, holder.identity)
        if live is None:
            live = LiveQuery(key, args, holder.identity)
            self._live.setdefault(key, {})[holder.identity.cache_key] = live
            self._stale[live] = None
        if live in self._idle:
            self._idle_size_bytes -= self._idle.pop(live)
        live.holders[holder] = None
        return live

    def _find(self, key: QueryKey, identity: Identity) -> LiveQuery | None:
        entries = self._live.get(key)
        if not entries:
            return None
        own = entries.get(identity.cache_key)
        if own is not None:
            return own
        # A result that no identity went into serves everybody.
        return next((live for live in entries.values() if not live.identity_bound and live.run_count), None)

    def release(self, live: LiveQuery, holder: Holder) -> None:
        """The holder lets go; the last one turns a true result into an idle one."""
        live.holders.pop(holder, None)
        if live.holders:
            return
        if live.stale or live.result is None:
            self._drop(live)
            return
        size = len(live.result.json or b"") + 1024
        self._idle[live] = size
        self._idle_size_bytes += size
        while self._idle and self._idle_size_bytes > self._engine.limits.idle_result_size_bytes_max:
            oldest, size = self._idle.popitem(last=False)
            self._idle_size_bytes -= size
            self._drop(oldest)

    def _drop(self, live: LiveQuery) -> None:
        if live in self._idle:
            self._idle_size_bytes -= self._idle.pop(live)
        # One commit may touch it in several ways; what was dropped is not marked once more.
        live.stale = True
        self._tracker.forget(live.watches)
        live.watches = []
        self._stale.pop(live, None)
        entries = self._live[live.key]
        entries.pop(live.identity.cache_key)
        if not entries:
            del self._live[live.key]

    def invalidate(self) -> None:
        """Mark what new commits touch."""
        if self._tracker.has_lost:
            self.invalidate_all()
        for live, change, ts in self._tracker.pull():
            if not live.stale:
                live.cause = Cause(change, ts)
                self._mark_stale(live)

    def invalidate_all(self) -> None:
        """Mark everything: nothing that was computed can be trusted any more."""
        for entries in list(self._live.values()):
            for live in list(entries.values()):
                self._mark_stale(live)

    def _mark_stale(self, live: LiveQuery) -> None:
        if not live.holders:
            self._drop(live)
            return
        live.stale = True
        self._stale[live] = None

    def refresh(self) -> None:
        """Run everything stale at the newest state, and tell those who hold what has changed."""
        self.invalidate()
        while self._stale:
            live, _ = self._stale.popitem()
            self._run(live)

    def _run(self, live: LiveQuery) -> None:
        live.stale = False
        live.run_count += 1
        began = time.perf_counter()
        run = self._run_function(live)
        self._on_run(live, run, time.perf_counter() - began)
        if run.saw_identity and not live.identity_bound:
            live.identity_bound = True
            self._part(live)
        result = self._result_of(run)
        assert run.read_set is not None
        live.watches = self._tracker.watch(live, run.read_set, live.watches)
        if not result.same_as(live.result):
            live.result = result
            for holder in list(live.holders):
                holder.changed(live)
        if not live.holders:
            self._drop(live)

    def _run_function(self, live: LiveQuery) -> RunResult:
        path, _, internal = live.key
        try:
            definition = self._runner.registry.find(path, Kind.QUERY, internal=internal)
            named = self._runner.parse(definition, live.args)
        except RequestError as error:
            transaction = self._engine.begin()
            transaction.finished = True
            return RunResult(transaction.base_ts, error=error, read_set=transaction.read_set)
        return self._runner.query(definition, named, live.identity)

    def _result_of(self, run: RunResult) -> Result:
        lines = tuple(run.log_lines)
        if run.error is None:
            try:
                return Result(encoded_result(run, self._engine.limits), None, lines, run)
            except RequestError as error:  # a result that cannot be sent fails like any other run
                run.error = error
        return Result(None, self._describe(run.error), lines, run)

    def _part(self, live: LiveQuery) -> None:
        """The function looked at the identity for the first time: holders of others need their own."""
        for holder in list(live.holders):
            if holder.identity.cache_key != live.identity.cache_key:
                live.holders.pop(holder)
                holder.changed(self._hold(live.key, live.args, holder))

    def reload(self, runner: Runner) -> None:
        """The application has changed: everything runs again, by path."""
        self._runner = runner
        self.invalidate_all()

    def check(self) -> None:
        """Assert the invariants that hold between calls."""
        self._tracker.check()
        watched = 0
        for key, entries in self._live.items():
            assert entries
            for live in entries.values():
                assert live.key == key
                assert live.holders or live in self._idle
                assert live.stale == (live in self._stale)
                watched += len(live.watches)
        assert watched == len(self._tracker)
        assert self._idle_size_bytes == sum(self._idle.values())
