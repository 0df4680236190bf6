"""How does a test declare an application in the test itself?

`app_of` puts functions and tables into a module of its own, as `App` wants them. `FlakyStorage` is a memory
storage that fails at a chosen point.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import reactivedb as rdb
from reactivedb.errors import StorageError
from reactivedb.functions import RegisteredFunction
from reactivedb.storage import Commit, MemoryStorage


def module_of(*members: Any, name: str = "notes") -> ModuleType:
    """A module that holds functions and document classes or tables under their own names."""
    module = ModuleType(name)
    for member in members:
        if isinstance(member, RegisteredFunction):
            member.handler.__module__ = name
        label = member.name if isinstance(member, rdb.Table | rdb.Migration) else member.__name__
        setattr(module, label, member)
    return module


def app_of(*members: Any, name: str = "notes", limits: rdb.Limits | None = None) -> rdb.App:
    return rdb.App(module_of(*members, name=name), root="", limits=limits or rdb.Limits())


class FlakyStorage(MemoryStorage):
    """Fails the calls it is told to fail, and counts syncs. It rolls back first, as the contract says."""

    def __init__(self) -> None:
        super().__init__()
        self.appends_until_failure: int | None = None
        self.failing_flush_count = 0
        self.sync_fails = False
        self.sync_count = 0

    def append(self, commit: Commit) -> None:
        if self.appends_until_failure is not None:
            self.appends_until_failure -= 1
            if self.appends_until_failure < 0:
                self.appends_until_failure = None
                self.rollback()
                raise StorageError("no room", code="DiskFull")
        super().append(commit)

    def flush(self) -> None:
        if self.failing_flush_count:
            self.failing_flush_count -= 1
            self.rollback()
            raise StorageError("no room", code="DiskFull")
        super().flush()

    def sync(self) -> None:
        self.sync_count += 1
        if self.sync_fails:
            self.close()
            raise StorageError("the disk failed", code="SyncFailed")
        super().sync()
