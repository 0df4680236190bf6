"""How does a program look at an earlier state of the data, or at the versions of one document?

`with db.at(ts) as past:` holds what can be read at `ts` until the block ends; without the block, a query may
find that the retention has given it up meanwhile. Each query costs time in proportion to what was written
since `ts`. Functions run as they are now, over tables as they are declared now.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar

from ..engine import StoredDocument, check_readable_at, versions_of
from ..functions import ANONYMOUS, FunctionDefinition, Kind, RegisteredQuery, RunResult
from ..schema import Document
from ..values import Value
from .call_queue import CallQueue
from .runtime import Runtime

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
D = TypeVar("D", bound=Document)


class Version(Generic[D]):
    """What the commit at `ts` made of a document."""

    __slots__ = ("_stored", "ts")

    def __init__(self, ts: int, stored: StoredDocument | None) -> None:
        self.ts = ts
        self._stored = stored

    @property
    def is_deleted(self) -> bool:
        return self._stored is None

    @property
    def fields(self) -> dict[str, Value] | None:
        """What was stored, under wire names; None for a deletion. A copy."""
        return None if self._stored is None else dict(self._stored.fields)

    @property
    def document(self) -> D | None:
        """The document as functions see it; None for a deletion.

        Raises:
            ValidationError: it does not fit the table as it is declared now; `fields` shows it all the same.
        """
        if self._stored is None:
            return None
        self._stored.table.definition.check(self._stored.fields)
        document: D = self._stored.object()
        return document

    def __repr__(self) -> str:
        return f"Version(ts={self.ts}, {'deleted' if self._stored is None else self._stored.json.decode()})"


class _View:
    """A timestamp, held while its `with` block lasts."""

    def __init__(self, runtime: Runtime, ts: int, *, calls: CallQueue | None = None) -> None:
        self._runtime = runtime
        self._calls = calls
        self.ts = ts
        self._call(partial(check_readable_at, runtime.engine, ts))

    def _call(self, body: Callable[[], T]) -> T:
        """Run it under the engine's lock, where a synchronous database's calls run."""

        def locked() -> T:
            with self._runtime.engine.lock:
                return body()

        return locked() if self._calls is None else self._calls.run(locked)

    def __enter__(self) -> Self:
        """Raises: ValidationError `TimestampOutOfRange`."""

        def hold() -> None:
            check_readable_at(self._runtime.engine, self.ts)
            self._runtime.engine.retention.pin(self.ts)

        self._call(hold)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(partial(self._runtime.engine.retention.unpin, self.ts))

    def _run(self, function: RegisteredQuery[..., Any], *args: Any, **kwargs: Any) -> RunResult:
        runner = self._runtime.runner
        definition: FunctionDefinition = runner.registry.of(function, Kind.QUERY)
        return runner.query(definition, runner.bind(definition, args, kwargs), ANONYMOUS, at_ts=self.ts)


class Past(_View):
    """The data of a `Database` as of `ts`, for reading only."""

    def query(self, function: RegisteredQuery[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a query as of `ts`. What it raises is raised.

        Raises:
            ValidationError: `TimestampOutOfRange`, outside of a `with` block, when it is no longer kept.
        """

        def run() -> RunResult:
            result = self._run(function, *args, **kwargs)
            self._runtime.engine.make_durable(result.ts)
            return result

        return self._call(run).unwrap()


class AsyncPast(_View):
    """The data of an `AsyncDatabase` as of `ts`, for reading only."""

    async def query(self, function: RegisteredQuery[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a query as of `ts`. What it raises is raised.

        Raises:
            ValidationError: `TimestampOutOfRange`, outside of a `with` block, when it is no longer kept.
        """
        self._runtime.check_loop()
        result = self._run(function, *args, **kwargs)
        await self._runtime.durable(result.ts)
        return result.unwrap()


def history_of(runtime: Runtime, id: str, limit: int) -> list[Version[Any]]:
    """The kept versions of a document, newest first."""
    engine = runtime.engine
    with engine.lock:
        return [Version(ts, stored) for ts, stored in versions_of(engine, id, limit=limit)]
