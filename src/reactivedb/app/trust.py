"""Whose tokens does an open database accept?

Those of the application's providers, of whoever serves it (a development server has users of its own), and,
where the application has its users sign in here, its own: verified like anybody's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..auth import Provider, Verifier
from ..sign_in import SignInKeys

if TYPE_CHECKING:
    from ..engine import Engine
    from ..functions import Deployment
    from .declaration import App
    from .tasks import Tasks


class Trust:
    """The providers of one open database."""

    def __init__(
        self, engine: Engine, deployment: Deployment, *, tasks: Tasks, allow_private: Callable[[], bool]
    ) -> None:
        self._engine = engine
        self._deployment = deployment
        self._tasks = tasks
        self._allow_private = allow_private
        self._declared: tuple[Provider, ...] = ()
        self._served: tuple[Provider, ...] = ()
        self._keys: SignInKeys | None = None
        self._signs_in = False
        self.verifier = self._verifier()

    def open_keys(self, app: App) -> None:
        """Have the keys that the application's own users need. Raises: StorageError, as `SignInKeys` does."""
        if app.sign_in is not None and self._keys is None:
            self._keys = SignInKeys(self._engine, on_change=self._change)
            self._tasks.start(self._keys.run)

    def declare(self, app: App) -> None:
        """Accept what an application declares, or another version of it, for which `open_keys` was called."""
        if app.sign_in is not None:
            self._deployment.put(self._keys)
            self._deployment.put(app.sign_in)
        signs_in = app.sign_in is not None
        if (app.auth, signs_in) != (self._declared, self._signs_in):
            self._declared, self._signs_in = app.auth, signs_in
            self._change()

    def serve(self, *providers: Provider) -> None:
        """Accept these too, whatever the application declares."""
        self._served = providers
        self._change()

    def _change(self) -> None:
        self.verifier = self._verifier()

    def _verifier(self) -> Verifier:
        own = (self._keys.provider(),) if self._keys is not None and self._signs_in else ()
        return Verifier(
            (*self._declared, *self._served, *own),
            clock=self._engine.clock,
            limits=self._engine.limits,
            allow_private=self._allow_private,
        )
