"""What is an application? Modules, and what goes with them: a declaration that does no I/O.

`open` and `open_async` make it a running database over a file.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from ..auth import CustomJwtProvider, OidcProvider, Provider
from ..clock import Clock, SystemClock
from ..errors import SchemaError
from ..functions import SYSTEM_TABLES, Crons, HttpRouter, Registry, declared_environment
from ..limits import DEFAULT_LIMITS, Limits
from ..schema import Schema
from ..sign_in import SIGN_IN_TABLES, SignIn, add_functions
from ..storage import MemoryStorage, Storage, open_sqlite
from .declared_limits import check_declared
from .runtime import Runtime
from .schema_work import check_schema

if TYPE_CHECKING:
    from ..engine import SchemaReport
    from .database import AsyncDatabase, Database

MEMORY = ":memory:"


class App:
    """An application: its functions and tables are those of the modules.

    A function's path is its module's name relative to the package whose module makes the `App` (or `root`),
    so `App(messages)` in `chat/app.py` answers to `messages:listRecent`. `auth` lists the providers whose
    tokens are accepted, of which the first that fits counts. `static` is a folder beside that module, served
    at `/`. `env` declares environment variables and what they may be, as `{"MODE": Literal["on", "off"]}`.
    `http` has the HTTP actions.
    `crons` says what runs by the clock. With `sign_in`, users have their accounts here.

    Raises:
        SchemaError: the program declares something that cannot work.
    """

    def __init__(
        self,
        *modules: ModuleType,
        root: str | None = None,
        auth: Sequence[Provider] = (),
        static: str | None = None,
        env: Mapping[str, Any] | None = None,
        http: HttpRouter | None = None,
        crons: Crons | None = None,
        sign_in: SignIn | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        caller = _caller_globals()
        self.root = root if root is not None else str(caller.get("__package__") or "")
        self.limits = limits
        self.auth = _checked_providers(auth)
        self.env = declared_environment(env)
        self.static_dir = _static_dir(static, caller.get("__file__"))
        for module in modules:
            if not isinstance(module, ModuleType):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise SchemaError(
                    f"`App` takes modules, got `{module!r}` - import the module and pass it",
                    code="NotAModule",
                )
        self.modules = modules
        self.schema = Schema.from_modules(modules)
        self.http = _checked_router(http)
        self.registry = Registry(modules, root=self.root, http=http)
        self.crons = {} if crons is None else crons.bind(self.registry)
        self.sign_in = _checked_sign_in(sign_in)
        self.system_tables = SYSTEM_TABLES
        if sign_in is not None:
            self.system_tables += SIGN_IN_TABLES
            add_functions(self.registry, sign_in)
        check_declared(self.schema, self.registry, limits)

    def open(
        self,
        path: str | Path = MEMORY,
        *,
        jobs: bool = True,
        durability: Literal["full", "relaxed"] = "full",
        clock: Clock | None = None,
    ) -> Database:
        """Open an embedded, synchronous database; `:memory:` keeps nothing. Use it in a `with` block.

        Raises:
            StorageError: the file is in use, corrupt, of a newer format, or cannot be read or written.
            SchemaError: `SchemaMismatch`, what is stored does not fit the schema.
        """
        from .database import Database

        def start() -> Runtime:
            runtime = self.runtime(self._storage(path, durability), clock=clock)
            runtime.jobs.enabled = jobs
            return runtime

        return Database(start)

    def open_async(
        self,
        path: str | Path = MEMORY,
        *,
        jobs: bool = True,
        durability: Literal["full", "relaxed"] = "full",
        clock: Clock | None = None,
        production: bool = False,
    ) -> AsyncDatabase:
        """A database inside an event loop; it is opened by `async with`. Raises as `open` does."""
        from .database import AsyncDatabase

        def start() -> Runtime:
            runtime = self.runtime(self._storage(path, durability), clock=clock, production=production)
            runtime.jobs.enabled = jobs
            return runtime

        return AsyncDatabase(start)

    def check_schema(self, path: str | Path) -> SchemaReport:
        """What opening that file would change in it; nothing is changed, and a server may be running.

        Raises:
            SchemaError: `SchemaMismatch`, what is stored does not fit the schema; `offenders` are the first.
            StorageError: the file cannot be read.
        """
        return check_schema(self, Path(path))

    def runtime(self, storage: Storage, *, clock: Clock | None = None, production: bool = False) -> Runtime:
        """Put the parts together over a storage, which is closed again if that fails."""
        try:
            return Runtime(self, storage, clock=clock or SystemClock(), production=production)
        except BaseException:
            storage.close()
            raise

    def _storage(self, path: str | Path, durability: Literal["full", "relaxed"]) -> Storage:
        if str(path) == MEMORY:
            return MemoryStorage()
        return open_sqlite(Path(path), durability=durability)


def _caller_globals() -> dict[str, Any]:
    """The globals of the module that makes the `App`."""
    frame = inspect.currentframe()
    for _ in range(2):
        frame = frame.f_back if frame is not None else None
    return {} if frame is None else frame.f_globals


def _checked_providers(auth: Sequence[Provider]) -> tuple[Provider, ...]:
    """Raises: SchemaError, if one of them is something else."""
    for provider in auth:
        if not isinstance(provider, OidcProvider | CustomJwtProvider):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SchemaError(
                f"`auth` lists `OidcProvider` and `CustomJwtProvider`, got `{provider!r}`",
                code="InvalidAuthProvider",
            )
    return tuple(auth)


def _checked_router(http: HttpRouter | None) -> HttpRouter | None:
    """Raises: SchemaError, if it is something else."""
    if http is not None and not isinstance(http, HttpRouter):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SchemaError(f"`http` is an `HttpRouter`, got `{http!r}`", code="NotARouter")
    return http


def _checked_sign_in(sign_in: SignIn | None) -> SignIn | None:
    """Raises: SchemaError, if it is something else."""
    if sign_in is not None and not isinstance(sign_in, SignIn):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SchemaError(f"`sign_in` is a `SignIn`, got `{sign_in!r}`", code="InvalidSignIn")
    return sign_in


def _static_dir(static: str | None, app_file: object) -> Path | None:
    """Raises: SchemaError, if the folder does not exist."""
    if static is None:
        return None
    base = Path(app_file).parent if isinstance(app_file, str) else Path.cwd()
    folder = (base / static).resolve()
    if not folder.is_dir():
        raise SchemaError(
            f"`static` names a folder beside the module that makes the `App`, got `{folder}` which is none",
            code="StaticFolderMissing",
        )
    return folder
