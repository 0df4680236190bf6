"""When is the rest of a schema change done, and what would a change do?

The first on the loop of the open database, a batch at a time, so that the loop and other threads have their
turn in between. The second on a copy of the file, so that nothing is changed and a server may go on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import anyio

from ..engine import (
    Engine,
    MigrationPreview,
    SchemaProgress,
    SchemaReport,
    Step,
    preview_migrations,
    schema_progress,
    work_step,
)
from ..errors import SchemaError, StorageError
from ..log import Log
from ..storage import CLOSED_FOR_GOOD, MemoryStorage, copy_sqlite, open_sqlite

if TYPE_CHECKING:
    from .declaration import App
    from .tasks import Tasks

# A lock that is let go and taken in one breath is not handed over, so a batch is followed by a rest.
_REST_MAX_S = 0.02
_STORAGE_RETRY_NS = 1_000_000_000
_log = Log(__name__)


class SchemaWorkHost(Protocol):
    """What the work needs from the running database."""

    def committed(self) -> None:
        """A commit was appended: see to it that it becomes durable and is delivered."""
        ...

    def index_completed(self) -> None:
        """Live queries that were refused may be run."""
        ...

    def migration_completed(self) -> None:
        """Who follows the state of the schema is to be told."""
        ...

    def work_ended(self) -> None:
        """Somebody may wait for it."""
        ...


class SchemaWork:
    """The work on one open database."""

    def __init__(self, engine: Engine, host: SchemaWorkHost, tasks: Tasks) -> None:
        self._engine = engine
        self._host = host
        self._tasks = tasks
        self._running = False
        # Why it stopped before its end; the next reload or opening tries again.
        self.failure: SchemaError | None = None

    @property
    def is_idle(self) -> bool:
        return not self._running

    def start(self) -> None:
        """Begin if there may be something to do. Called on the loop."""
        self.failure = None
        if not self._running:
            self._running = True
            self._tasks.start(self._run)

    async def _run(self) -> None:
        try:
            while True:
                began = time.perf_counter()
                if not await self._step():
                    return
                await anyio.sleep(min(time.perf_counter() - began, _REST_MAX_S))
        finally:
            self._running = False
            self._host.work_ended()

    async def _step(self) -> bool:
        try:
            step = work_step(self._engine)
        except SchemaError as error:
            self.failure = error
            _log.error("%s", error)
            return False
        except StorageError as error:
            if error.code in CLOSED_FOR_GOOD:
                return False
            # A full disk may get room again; nothing of the batch was done.
            await self._engine.clock.sleep_ns(_STORAGE_RETRY_NS)
            return True
        if step is Step.NOTHING_LEFT:
            return False
        if step is Step.INDEX_COMPLETE:
            self._host.index_completed()
        if step is Step.MIGRATION_COMPLETE:
            self._host.migration_completed()
        self._host.committed()
        return True


def declare(engine: Engine, app: App) -> SchemaReport:
    """Make the application's tables those of the engine. Raises as `Engine.declare` does."""
    schema = app.schema
    return engine.declare(schema.tables.values(), app.system_tables, schema.migrations)


def migrate(
    app: App, path: Path, on_progress: Callable[[list[SchemaProgress]], None]
) -> list[SchemaProgress]:
    """Make the application's schema that of the file, and do in this thread all that is left of it.

    Gives what was done; `on_progress` is called after each batch with what is being done.

    Raises:
        SchemaError: `SchemaMismatch`, `MigrationFailed`; what was done stays done.
        StorageError: the file is in use, or cannot be read or written.
    """
    storage = open_sqlite(path)
    try:
        engine = Engine(storage, limits=app.limits)
        declare(engine, app)
        left = {(row.kind, row.table, row.name): row for row in schema_progress(engine) if not row.finished}
        on_progress(list(left.values()))
        while work_step(engine) is not Step.NOTHING_LEFT:
            rows = [row for row in schema_progress(engine) if (row.kind, row.table, row.name) in left]
            left.update({(row.kind, row.table, row.name): row for row in rows})
            on_progress(rows)
        engine.make_durable()
    finally:
        storage.close()
    return list(left.values())


def check_schema(app: App, path: Path) -> SchemaReport:
    """What opening the file with this application would change.

    Raises:
        SchemaError: `SchemaMismatch`, if documents do not fit.
        StorageError: the file cannot be read.
    """
    with _copy(app, path) as engine:
        return declare(engine, app)


def dry_run(app: App, path: Path, *, example_count: int = 10) -> list[MigrationPreview]:
    """What the application's migrations would do to the file. Raises as `check_schema` does."""
    with _copy(app, path) as engine:
        declare(engine, app)
        return preview_migrations(engine, example_count=example_count)


@contextmanager
def _copy(app: App, path: Path) -> Generator[Engine]:
    """An engine over a copy of the file, or over nothing if there is none yet."""
    if not path.exists():
        yield Engine(MemoryStorage(), limits=app.limits)
        return
    # Beside the file, where there is room for another of its size.
    with tempfile.TemporaryDirectory(prefix="schema-check-", dir=path.parent) as folder:
        copy = Path(folder) / path.name
        copy_sqlite(path, copy)
        storage = open_sqlite(copy, durability="relaxed")
        try:
            yield Engine(storage, limits=app.limits)
        finally:
            storage.close()
