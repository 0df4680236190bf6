"""What would Convex's `usePaginatedQuery` hold, if it stood directly over the query cache?

A `Hook` follows one query per page, loads more with the cursor of its last page, splits a page that has
grown to more than twice its first size, and begins anew when a cursor turns out invalid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import reactivedb as rdb
from reactivedb.engine import Engine
from reactivedb.functions import ANONYMOUS, SYSTEM_TABLES, Runner, RunResult, describe
from reactivedb.storage import MemoryStorage
from reactivedb.subscriptions import LiveQuery, QueryCache, QuerySet, Result
from reactivedb.testing import FakeClock
from reactivedb.values import decode


class World:
    """A query cache over an engine in memory, without an event loop."""

    def __init__(self, app: rdb.App) -> None:
        self.engine = Engine(MemoryStorage(), clock=FakeClock())
        self.engine.declare(app.schema.tables.values(), SYSTEM_TABLES)
        self.runner = Runner(self.engine, app.registry)
        self.runs: list[str] = []
        self.cache = QueryCache(
            self.engine,
            self.runner,
            describe=lambda path, error: describe(error, request_id=path, production=False),
            on_run=self._ran,
        )

    def _ran(self, live: LiveQuery, run: RunResult, duration_s: float) -> None:
        self.runs.append(live.path)

    def client(self) -> QuerySet:
        return QuerySet(self.cache, on_change=lambda: None)

    def write(self, *steps: Any) -> list[Any]:
        """Commit the steps, each a function of `ctx.db`; gives what they return."""

        def body(run: Any) -> tuple[Any, Any]:
            return [step(run.writer) for step in steps], None

        return self.runner.transact(body, ANONYMOUS).unwrap()


@dataclass(slots=True)
class Page:
    query_id: int
    opts: dict[str, Any]
    result: dict[str, Any] | None = None
    journal: str | None = None
    parts: tuple[Page, Page] | None = None


class Hook:
    """One mounted `usePaginatedQuery`."""

    def __init__(self, world: World, path: str, size: int, args: dict[str, Any] | None = None) -> None:
        self._world = world
        self._path = path
        self._size = size
        self._args = args or {}
        self._client = world.client()
        self._next_id = 0
        self.pages: list[Page] = []
        self.reset_count = -1
        self.reset()

    def reset(self) -> None:
        self._client.clear()
        self.reset_count += 1
        self.pages = [self._follow({"numItems": float(self._size), "cursor": None})]

    def _follow(self, opts: dict[str, Any]) -> Page:
        page = Page(self._next_id, opts)
        self._next_id += 1
        self._add(page)
        return page

    def _add(self, page: Page) -> None:
        args: Any = {**self._args, "paginationOpts": page.opts}
        self._client.add(page.query_id, self._path, args, ANONYMOUS, journal=page.journal)

    def _all(self) -> list[Page]:
        return [known for page in self.pages for known in (page, *(page.parts or ()))]

    def update(self) -> None:
        """Take what has changed, and split or begin anew until nothing is left to do."""
        while True:
            self._world.cache.refresh()
            changes = {change.query_id: change.result for change in self._client.take_changes()}
            if not changes:
                return
            if any(result.error is not None for result in changes.values()):
                assert all("InvalidCursor" in r.error.message for r in changes.values() if r.error)
                self.reset()
                continue
            for page in self._all():
                if page.query_id in changes:
                    self._take(page, changes[page.query_id])
            self.pages = [part for page in self.pages for part in self._split(page)]

    def _take(self, page: Page, result: Result) -> None:
        assert result.json is not None
        page.result = decode(result.json)  # pyright: ignore[reportAttributeAccessIssue]
        page.journal = result.journal

    def _split(self, page: Page) -> list[Page]:
        if page.parts is not None:
            if all(part.result is not None for part in page.parts):
                self._client.remove(page.query_id)
                return list(page.parts)
        elif page.result is not None and page.result["splitCursor"]:
            result = page.result
            if result["pageStatus"] is not None or len(result["page"]) > 2 * self._size:
                middle, end = result["splitCursor"], result["continueCursor"]
                page.parts = (
                    self._follow({**page.opts, "endCursor": middle}),
                    self._follow({**page.opts, "cursor": middle, "endCursor": end}),
                )
        return [page]

    @property
    def is_done(self) -> bool:
        last = self.pages[-1].result
        return last is not None and last["isDone"]

    def load_more(self, count: int) -> None:
        last = self.pages[-1].result
        if last is not None and not last["isDone"]:
            opts = {"numItems": float(count), "cursor": last["continueCursor"]}
            self.pages.append(self._follow(opts))

    def reconnect(self) -> None:
        """A new connection: every page is asked for again with the newest journal."""
        self._client.clear()
        self._client = self._world.client()
        for page in self._all():
            self._add(page)

    @property
    def shown(self) -> list[Any]:
        return [item for page in self.pages if page.result is not None for item in page.result["page"]]

    @property
    def sizes(self) -> list[int]:
        return [len(page.result["page"]) for page in self.pages if page.result is not None]

    def close(self) -> None:
        self._client.clear()
