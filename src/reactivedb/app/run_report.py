"""Who is told that a function has run, and in which words?

Every run is counted (`meters`); whoever listens to `on_run` is told of it in full.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..functions import CallError, FunctionDefinition, Kind, RunResult, describe, request_id_of
from ..log import Log
from ..protocol import PATH_LENGTH_MAX
from ..subscriptions import LiveQuery
from ..text import cut
from ..user_code import contained
from .calls import RunLog
from .meters import Meters

_logger = Log("reactivedb")
# What is wrong with a call has other words, and is for its caller to know.
_OURS = "[Request ID: "


class RunReport:
    """The server's log of runs; `on_run` is called on whatever thread the run was made."""

    def __init__(self, is_production: Callable[[], bool], canonical: Callable[[str], str | None]) -> None:
        self._is_production = is_production
        # The one path of the query that answers to a spelling; None: there is no such query.
        self._canonical = canonical
        self.meters = Meters()
        self.on_run: Callable[[RunLog], None] | None = None
        # Whether failures go to the log where nobody listens: a caller on the other side of a socket is told
        # little of them, and none of those of jobs.
        self.logs_failures = False

    def _is_told(self, error: BaseException | None) -> bool:
        return self.on_run is not None or (self.logs_failures and error is not None)

    def describe_query_error(self, path: str, error: BaseException) -> CallError:
        """What the holders of a live query are told."""
        # One id per query, not per run: a query that fails again in the same way has no new result.
        return describe(error, request_id=request_id_of(path, 0), production=self._is_production())

    def live_run(self, live: LiveQuery, run: RunResult, duration_s: float) -> None:
        path = self._canonical(live.path)
        if path is not None:
            self.meters.ran("query", path, duration_s, failed=run.error is not None)
        if self._is_told(run.error):
            error = None
            if run.error is not None:
                error = describe(run.error, request_id=request_id_of(live.path, 0), production=False)
            self.tell(RunLog(Kind.QUERY, live.path, duration_s, error, run.log_lines))

    def timed(
        self, definition: FunctionDefinition, request_id: str, run: Callable[[], RunResult]
    ) -> RunResult:
        """Run a query or mutation and report it."""
        began = time.perf_counter()
        result = run()
        self.run(definition, time.perf_counter() - began, result, request_id)
        return result

    def run(
        self, definition: FunctionDefinition, duration_s: float, result: RunResult, request_id: str
    ) -> None:
        self.meters.ran(definition.kind.value, definition.path, duration_s, failed=result.error is not None)
        if self._is_told(result.error):
            error = None
            if result.error is not None:
                error = describe(result.error, request_id=request_id, production=False)
            self.tell(RunLog(definition.kind, definition.path, duration_s, error, result.log_lines))

    def refused(self, kind: Kind | None, path: str, error: BaseException, request_id: str) -> None:
        """A call was refused before its function ran. Not counted: its path is what the caller made up."""
        if self._is_told(error):
            told = describe(error, request_id=request_id, production=False)
            self.tell(RunLog(kind, cut(path, PATH_LENGTH_MAX), 0.0, told))

    def http_run(self, log: RunLog) -> None:
        """An HTTP action has ended; its path is that of its route."""
        self.meters.ran("http action", log.path, log.duration_s, failed=log.error is not None)
        self.tell(log)

    def tell(self, log: RunLog) -> None:
        """Hand a finished run to whoever listens; it cannot fail."""
        try:
            if self.on_run is not None:
                self.on_run(log)
            elif self.logs_failures and log.error is not None and log.error.message.startswith(_OURS):
                _logger.error("`%s` failed: %s", log.path, log.error.message)
        except BaseException as error:  # what was committed is answered, whatever becomes of its line
            contained(error)
            _logger.exception("the log of `%s` could not be written", log.path)
