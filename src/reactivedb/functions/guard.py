"""Does a query or mutation keep its hands off the outside world?

A transaction may run again, and its result is shared: what it does besides the database must not exist. In
development an audit hook turns network, file and subprocess calls inside of one into a clear error. What
an import or a debugger does is let through, and so are reads of the interpreter's and the libraries' own
files.
"""

from __future__ import annotations

import contextvars
import inspect
import os
import sys
import sysconfig
from types import FrameType
from typing import Any, Final

from ..errors import ReactiveDBError
from .own_time import is_debugger, is_import

_FORBIDDEN: Final = frozenset(
    {
        "open",
        "os.remove",
        "os.rename",
        "os.mkdir",
        "os.rmdir",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.fork",
        "shutil.rmtree",
        "socket.connect",
        "socket.bind",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "subprocess.Popen",
    }
)
_OWN_FILES: Final = tuple(
    sorted(
        {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, *sysconfig.get_paths().values())}
    )
)  # Holds the hook once it is installed: a thing of the process, like the interpreter's own list.
_hooks: list[object] = []

# The path of the function whose transaction runs in this context.
_transaction: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "reactivedb_transaction", default=None
)


def enter(path: str) -> contextvars.Token[str | None]:
    """Forbid side effects in this context until `leave`; without `install`, nothing is forbidden."""
    return _transaction.set(path)


def leave(token: contextvars.Token[str | None]) -> None:
    _transaction.reset(token)


def install() -> None:
    """Watch this process from now on. An audit hook cannot be taken away again."""
    if not _hooks:
        _hooks.append(_audit)
        sys.addaudithook(_audit)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event not in _FORBIDDEN:
        return
    path = _transaction.get()
    if path is None or (event == "open" and _is_own_read(args)) or _is_let_through(inspect.currentframe()):
        return
    what = args[0] if args and isinstance(args[0], str | bytes) else ""
    raise ReactiveDBError(
        f"`{path}` runs in a transaction, which may be repeated, and did `{event}` {what!r} - "
        "do it in an action, and pass the result to a mutation",
        code="SideEffectInTransaction",
        event=event,
    )


def _is_own_read(args: tuple[Any, ...]) -> bool:
    file, mode, flags = (*args, None, None, None)[:3]
    writes = (isinstance(mode, str) and any(letter in mode for letter in "wax+")) or (
        mode is None and isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) != 0
    )
    if writes or not isinstance(file, str):
        return not writes and isinstance(file, int)
    # Tracebacks and `inspect` look at source files, wherever they are.
    return file.endswith(".py") or os.path.realpath(file).startswith(_OWN_FILES)


def _is_let_through(frame: FrameType | None) -> bool:
    while frame is not None:
        if is_import(frame) or is_debugger(frame):
            return True
        frame = frame.f_back
    return False
