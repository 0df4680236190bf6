"""Which queries are alive, and what is the newest result of each?

A live query is run once for everybody who holds it; its key is the function, the arguments and, if the
function looked at it, the identity. A commit that touches what it read makes it stale; `refresh` runs the
stale ones again at the newest state and tells the holders whose result has changed. Several commits
between two refreshes cost one run.

A query that reads pages is also of its journal, the ends of its pages: a run is given the journal of the
run before, so an entry moves to another place when its journal changes, and two that come to the same
place become one. Who asks without a journal shares only a result that such a run gives at this moment.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ..engine import DocumentChange, Engine, ReadSet
from ..errors import LimitExceededError
from ..functions import CallError, Identity, Kind, Runner, RunResult, encoded_result
from ..protocol import normalize_path
from ..user_code import contained
from ..values import Value, decode, decoded_size_bytes, encode
from .lanes import Lanes
from .result import Result
from .second_tries import SecondTries
from .tracker import Tracker, Watch

# What an entry with a few reads takes beside its result (measured, `benchmarks/bench_slow_clients.py`).
_ENTRY_SIZE_BYTES = 3 * 1024

# Path, encoded arguments, whether internal functions may answer, and whether its holders want decoded values.
QueryKey: TypeAlias = tuple[str, bytes, bool, bool]
# Where an entry is found: its query, its journal, and whose it is: None if no identity went into it.
Place: TypeAlias = tuple[QueryKey, str | None, str | None]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a live query ran again."""

    change: DocumentChange
    ts: int


class Holder(Protocol):
    """One place in one client's query set."""

    identity: Identity

    @property
    def owner(self) -> Hashable:
        """Whose place it is: one client waits for all that it holds."""
        ...

    def changed(self, live: LiveQuery) -> None:
        """The live query that this place holds (from now on) has a new result."""
        ...


class LiveQuery:
    """One query that somebody holds."""

    __slots__ = (
        "began_anew",
        "cause",
        "holders",
        "identity",
        "identity_bound",
        "journal",
        "key",
        "reads_size_bytes",
        "result",
        "run_count",
        "stale",
        "watches",
    )

    def __init__(self, key: QueryKey, identity: Identity, journal: str | None) -> None:
        self.key = key
        self.identity = identity
        # Given to the next run.
        self.journal = journal
        # The last run was given no journal: while nothing changes, another one like it gives the same.
        self.began_anew = False
        # Set by the first run that looked at the identity; from then on the result is that identity's own.
        self.identity_bound = False
        self.result: Result | None = None
        self.stale = True
        self.run_count = 0
        self.cause: Cause | None = None
        self.holders: dict[Holder, None] = {}
        # No list, for a new one is put where one of the function's was, and there keeps a whole arena.
        self.watches: tuple[Watch[LiveQuery], ...] = ()
        # What these take in memory.
        self.reads_size_bytes = 0

    @property
    def path(self) -> str:
        return self.key[0]

    @property
    def args_size_bytes(self) -> int:
        return len(self.key[1])

    @property
    def keeps_value(self) -> bool:
        """Its holders are in this process, and want the objects."""
        return self.key[3]

    @property
    def size_bytes(self) -> int:
        """What it keeps beside its arguments and what any entry takes."""
        return 0 if self.result is None else _kept_size_bytes(self.result, self.reads_size_bytes)

    @property
    def place(self) -> Place:
        """Until its first run has shown otherwise, an entry is its identity's own."""
        is_shared = self.run_count > 0 and not self.identity_bound
        return self.key, self.journal, None if is_shared else self.identity.cache_key

    def places(self) -> list[Place]:
        """Its own, and that of a first asking as long as its result is what that would give."""
        key, journal, whose = self.place
        is_first = self.began_anew and not self.stale and journal is not None
        return [(key, journal, whose), (key, None, whose)] if is_first else [(key, journal, whose)]


class QueryCache:
    """All live queries of one open database. The engine's lock guards it."""

    def __init__(
        self,
        engine: Engine,
        runner: Runner,
        *,
        describe: Callable[[str, BaseException], CallError],
        on_run: Callable[[LiveQuery, RunResult, float], None],
    ) -> None:
        self._engine = engine
        self._runner = runner
        self._describe = describe
        self._on_run = on_run
        self._tracker: Tracker[LiveQuery] = Tracker(engine.reader())
        self._made_names = engine.made_names
        self._live: dict[LiveQuery, tuple[Place, ...]] = {}
        self._at: dict[Place, LiveQuery] = {}
        self._stale: Lanes[LiveQuery] = Lanes()
        self.tries: SecondTries[LiveQuery] = SecondTries(engine.limits, engine.clock.elapsed_ns)
        # Nobody holds these any more, but they are still true: kept in case somebody asks again.
        self._idle: OrderedDict[LiveQuery, int] = OrderedDict()
        self._idle_size_bytes = 0
        # Of all results and what they rest on, held or idle.
        self._results_size_bytes = 0
        # Runs after the first one of a live query, and how many of these gave what their holders had.
        self.rerun_count = 0
        self.unchanged_count = 0

    def __len__(self) -> int:
        return len(self._live)

    def __bool__(self) -> bool:
        return bool(self._live)

    @property
    def idle_size_bytes(self) -> int:
        """The results that nobody holds."""
        return self._idle_size_bytes

    @property
    def tracker(self) -> Tracker[LiveQuery]:
        return self._tracker

    def hold(
        self,
        path: str,
        args: Value,
        holder: Holder,
        *,
        journal: str | None = None,
        keeps_value: bool = False,
    ) -> LiveQuery:
        """Find or make the live query for a holder. It may be stale: `refresh` runs it.

        With the journal of an earlier result its pages end where they did then. With `keeps_value` its result
        has the function's own value beside the text.

        Path and arguments need not fit any function: the result then says what is wrong, and changes when
        a reload of the application brings the function.

        Raises:
            ValidationError: `InvalidFunctionPath`.
        """
        key = normalize_path(path), encode(args), holder.identity.is_admin, keeps_value
        # A result that a commit has touched in between is not what a first asking would be given.
        self.invalidate()
        return self._hold(key, holder, journal)

    def hold_as(self, live: LiveQuery, holder: Holder) -> LiveQuery:
        """The same query, for a holder whose identity has changed."""
        path, args, _, keeps_value = live.key
        self.invalidate()
        return self._hold((path, args, holder.identity.is_admin, keeps_value), holder, live.journal)

    def _hold(self, key: QueryKey, holder: Holder, journal: str | None) -> LiveQuery:
        live = self._at.get((key, journal, holder.identity.cache_key)) or self._at.get((key, journal, None))
        if live is None:
            live = LiveQuery(key, holder.identity, journal)
            self._stale.add(live, holder.owner)
            self._put(live)
        self._give(live, holder)
        return live

    def _give(self, live: LiveQuery, holder: Holder) -> None:
        if live in self._idle:
            self._idle_size_bytes -= self._idle.pop(live)
        live.holders[holder] = None

    def _put(self, live: LiveQuery) -> None:
        """Let the entry be found at its places, unless another one is found there."""
        self._hide(live)
        self._live[live] = places = tuple(place for place in live.places() if place not in self._at)
        for place in places:
            self._at[place] = live

    def _hide(self, live: LiveQuery) -> None:
        for place in self._live.get(live, ()):
            del self._at[place]
        self._live[live] = ()

    def release(self, live: LiveQuery, holder: Holder) -> None:
        """The holder lets go; the last one turns a true result into an idle one."""
        live.holders.pop(holder, None)
        if live.holders:
            return
        # One that was stopped for its time may be right when somebody asks again.
        if live.stale or live.result is None or live in self.tries:
            self._drop(live)
            return
        size = live.size_bytes + live.args_size_bytes + _ENTRY_SIZE_BYTES
        self._idle[live] = size
        self._idle_size_bytes += size
        while self._idle and self._idle_size_bytes > self._engine.limits.idle_result_size_bytes_max:
            oldest, size = self._idle.popitem(last=False)
            self._idle_size_bytes -= size
            self._drop(oldest)

    def _drop(self, live: LiveQuery) -> None:
        if live in self._idle:
            self._idle_size_bytes -= self._idle.pop(live)
        self._put_result(live, None, reads_size_bytes=0)
        # One commit may touch it in several ways; what was dropped is not marked once more.
        live.stale = True
        self._tracker.forget(live.watches)
        live.watches = ()
        self._stale.discard(live)
        self.tries.forget(live)
        for place in self._live.pop(live):
            del self._at[place]

    def _put_result(self, live: LiveQuery, result: Result | None, *, reads_size_bytes: int) -> None:
        self._results_size_bytes -= live.size_bytes
        live.result = result
        live.reads_size_bytes = reads_size_bytes
        self._results_size_bytes += live.size_bytes

    def invalidate(self) -> None:
        """Mark what new commits touch."""
        # A query of a table that was not there has read nothing.
        if self._tracker.has_lost or self._made_names is not self._engine.made_names:
            self._made_names = self._engine.made_names
            self.invalidate_all()
        for live, change, ts in self._tracker.pull():
            if not live.stale:
                live.cause = Cause(change, ts)
                self._mark_stale(live)

    def invalidate_all(self) -> None:
        """Mark everything: nothing that was computed can be trusted any more."""
        for live in list(self._live):
            self._mark_stale(live)

    def invalidate_function(self, path: str) -> None:
        """Mark the queries of one function, which looks at what is no document."""
        for live in [live for live in self._live if live.path == path]:
            self._mark_stale(live)

    def _mark_stale(self, live: LiveQuery) -> None:
        if not live.holders:
            self._drop(live)
            return
        live.stale = True
        self._stale.add(live, next(iter(live.holders)).owner)
        if live.began_anew:
            self._put(live)

    def try_again(self) -> bool:
        """Mark what was stopped for its time and is due; True if there was any."""
        due = self.tries.take_due()
        for live in due:
            if not live.stale:
                self._mark_stale(live)
        return bool(due)

    def refresh(self, *, budget_s: float = math.inf) -> None:
        """Run what is stale at the newest state, and tell those who hold what has changed.

        With a budget some of it may be left; a result that is not stale is true now in any case.
        """
        self.invalidate()
        self._stale.run(self._run, budget_s=budget_s)

    @property
    def is_fresh(self) -> bool:
        """Nothing is left to run."""
        return not self._stale

    def _run(self, live: LiveQuery) -> None:
        if live.run_count == 0 and self._joins_shared(live):
            return
        live.stale = False
        live.run_count += 1
        self.rerun_count += live.run_count > 1
        began = time.perf_counter()
        run = self._run_function(live)
        duration_s = time.perf_counter() - began
        result, read_set = self._result_of(live, run)
        self._on_run(live, run, duration_s)
        self.tries.ran(live, run.error)
        if run.saw_identity and not live.identity_bound:
            live.identity_bound = True
            self._hide(live)
            self._part(live)
        live.watches = tuple(self._tracker.watch(live, read_set, live.watches))
        live.began_anew = live.journal is None
        live.journal = result.journal
        reads_size_bytes = _size_of_reads(live, read_set)
        is_new = not result.same_as(live.result)
        # The value may be another one though its text is the same.
        kept = result if is_new or live.keeps_value else live.result
        self._put_result(live, kept, reads_size_bytes=reads_size_bytes)
        if is_new:
            for holder in list(live.holders):
                holder.changed(live)
        else:
            self.unchanged_count += 1
        self._settle(live)
        if live in self._live and not live.holders:
            self._drop(live)

    def _joins_shared(self, live: LiveQuery) -> bool:
        """Whether the first run of another identity's entry has shown meanwhile that it is everybody's."""
        shared = self._at.get((live.key, live.journal, None))
        if shared is None or shared.stale:
            return False
        self._hand_over(live, shared)
        return True

    def _hand_over(self, gone: LiveQuery, stays: LiveQuery) -> None:
        for holder in list(gone.holders):
            gone.holders.pop(holder)
            self._give(stays, holder)
            holder.changed(stays)
        self._drop(gone)

    def _settle(self, live: LiveQuery) -> None:
        """Move an entry that has just run to its place; one that stands there already is the same query."""
        other = self._at.get(live.place)
        if other is None or other is live:
            self._put(live)
            return
        gone, stays = (other, live) if other.stale else (live, other)
        self._hand_over(gone, stays)
        self._put(stays)

    def _run_function(self, live: LiveQuery) -> RunResult:
        path, args, internal, _ = live.key
        try:
            definition = self._runner.registry.find(path, Kind.QUERY, internal=internal)
            named = self._runner.parse(definition, decode(args))
        except BaseException as error:  # validators of the arguments may raise anything
            transaction = self._engine.begin()
            transaction.finished = True
            return RunResult(transaction.base_ts, error=contained(error), read_set=transaction.read_set)
        return self._runner.query(definition, named, live.identity, journal=live.journal)

    def _result_of(self, live: LiveQuery, run: RunResult) -> tuple[Result, ReadSet]:
        """What is kept of a run: its result, and what has to change for it to run again."""
        lines = tuple(run.log_lines)
        read_set = run.read_set
        assert read_set is not None
        error = run.error
        if error is None:
            try:
                json = encoded_result(run, self._engine.limits)
                if not live.keeps_value:
                    run.forget_value()
                result = Result(json, None, lines, journal=run.journal)
                if live.keeps_value:
                    result = result.with_value(run.value)
                self._check_room(live, result, read_set)
                return result, read_set
            except BaseException as refusal:  # a result that cannot be sent or held fails as any other run
                error, lines = contained(refusal), ()
        # A failed run leaves the ends of the pages where they were.
        result = self._failure(live, error, lines)
        try:
            self._check_room(live, result, read_set)
        except LimitExceededError as refusal:
            # There is no room for knowing what exactly it rests on: any change of these indexes may matter.
            result, read_set = self._failure(live, refusal, ()), read_set.whole_indexes()
        return result, read_set

    def _failure(self, live: LiveQuery, error: BaseException, lines: tuple[str, ...]) -> Result:
        result = Result(None, self._describe(live.path, error), lines, journal=live.journal)
        return result.with_raised(error) if live.keeps_value else result

    def _check_room(self, live: LiveQuery, result: Result, read_set: ReadSet) -> None:
        """Whoever follows the same query shares its result, so this bounds what is really kept."""
        maximum = self._engine.limits.live_results_size_bytes_max
        more_bytes = _kept_size_bytes(result, _size_of_reads(live, read_set)) - live.size_bytes
        asked = self._results_size_bytes + more_bytes
        if asked > maximum and more_bytes > 0:
            raise LimitExceededError(
                f"the results of all live queries may have {maximum} bytes together, with this one they "
                f"would have {asked} - follow fewer or smaller results, or page through them",
                code="TooManyLiveResults",
                limit="live_results_size_bytes_max",
                maximum=maximum,
                asked=asked,
            )

    def _part(self, live: LiveQuery) -> None:
        """The function looked at the identity for the first time: holders of others need their own."""
        for holder in list(live.holders):
            if holder.identity.cache_key != live.identity.cache_key:
                live.holders.pop(holder)
                holder.changed(self._hold(live.key, holder, live.journal))

    def reload(self, runner: Runner) -> None:
        """The application has changed: everything runs again, by path."""
        self._runner = runner
        self.invalidate_all()

    def check(self) -> None:
        """Assert the invariants that hold between calls."""
        self._tracker.check()
        self._stale.check()
        assert all(live in self._live for live in self.tries)
        watched = 0
        for live, places in self._live.items():
            assert live.place in places
            assert set(places) <= set(live.places())
            assert all(self._at[place] is live for place in places)
            assert live.holders or live in self._idle
            assert live.stale == (live in self._stale)
            watched += len(live.watches)
        assert len(self._at) == sum(map(len, self._live.values()))
        assert watched == len(self._tracker)
        assert self._idle_size_bytes == sum(self._idle.values())
        assert self._results_size_bytes == sum(live.size_bytes for live in self._live)


def _kept_size_bytes(result: Result, reads_size_bytes: int) -> int:
    """A result and what it rests on, as far as that is more than any entry takes."""
    return result.size_bytes + max(0, result.beside_size_bytes + reads_size_bytes - _ENTRY_SIZE_BYTES)


def _size_of_reads(live: LiveQuery, read_set: ReadSet) -> int:
    """What watching all of them takes; a predicate may hold on to the arguments in their decoded form."""
    args_bytes = decoded_size_bytes(live.key[1]) if read_set.has_predicates else 0
    return read_set.size_bytes + args_bytes
