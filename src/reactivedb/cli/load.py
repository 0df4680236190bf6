"""How does a folder become an `App`, and how again after an edit?

`DIR/app.py` defines `app = rdb.App(...)`. A folder with `__init__.py` is imported as a package, with its
parent on `sys.path`; any other folder is on `sys.path` itself. Loading again imports every module below
the folder afresh; until the caller keeps the result, `revert` brings the modules before it back, so that an
application that goes on serving finds its own modules when it imports late.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from ..app import App
from ..errors import ReactiveDBError

_MODULE = "app"
# Modules below these folders are not the application's own and are not imported again.
_FOREIGN_FOLDERS = {"site-packages", "node_modules"}


class AppFolder:
    """The folder of one application."""

    def __init__(self, directory: Path) -> None:
        """Raises: ReactiveDBError, `NoAppFolder`, if there is nothing to import."""
        self.directory = directory.resolve()
        if not self.directory.is_dir():
            raise _unusable(f"expected a folder with `{_MODULE}.py`, got `{directory}`, which is no folder")
        if not (self.directory / f"{_MODULE}.py").is_file():
            raise _unusable(
                f"`{directory}` holds no `{_MODULE}.py` - write one with `app = rdb.App(...)` in it"
            )
        if (self.directory / "__init__.py").is_file():
            if not self.directory.name.isidentifier():
                raise _unusable(
                    f"`{directory}` is a package, but no Python name - rename it, or drop `__init__.py`"
                )
            search_path = self.directory.parent
            self._module_name = f"{self.directory.name}.{_MODULE}"
        else:
            search_path = self.directory
            self._module_name = _MODULE
        if str(search_path) not in sys.path:
            sys.path.insert(0, str(search_path))
        self._replaced: dict[str, ModuleType] = {}

    def load(self) -> App:
        """Import the application afresh.

        Raises:
            ReactiveDBError: `NoApp`, if the module defines none, or what the application declares wrong.
            Exception: whatever its modules raise. The modules before are back in place then.
        """
        self._replaced = self._forget()
        importlib.invalidate_caches()
        writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            # Bytecode is matched by size and second of change, so it would hide a quick edit.
            module = importlib.import_module(self._module_name)
            app = getattr(module, "app", None)
            if not isinstance(app, App):
                raise ReactiveDBError(
                    f"expected `app = rdb.App(...)` in `{module.__file__}`, "
                    + ("got no `app`" if app is None else f"got `{app!r:.80}`"),
                    code="NoApp",
                )
            return app
        except BaseException:
            self.revert()
            raise
        finally:
            sys.dont_write_bytecode = writes_bytecode

    def revert(self) -> None:
        """Undo the last `load`."""
        self._forget()
        sys.modules.update(self._replaced)

    def owns(self, path: Path) -> bool:
        """Whether a file belongs to the application's code."""
        if not path.is_relative_to(self.directory):
            return False
        folders = path.relative_to(self.directory).parts[:-1]
        return not any(folder in _FOREIGN_FOLDERS or folder.startswith(".") for folder in folders)

    def _forget(self) -> dict[str, ModuleType]:
        mine = {name: module for name, module in sys.modules.items() if self._is_mine(name, module)}
        for name in mine:
            del sys.modules[name]
        return mine

    def _is_mine(self, name: str, module: ModuleType) -> bool:
        # A module of that name from elsewhere would be found instead of ours.
        if name == self._module_name:
            return True
        file: str | None = getattr(module, "__file__", None)
        return file is not None and self.owns(Path(file))


def _unusable(message: str) -> ReactiveDBError:
    return ReactiveDBError(message, code="NoAppFolder")
