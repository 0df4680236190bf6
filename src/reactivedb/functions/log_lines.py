"""Where does a `print` inside a function go?

Into the log lines of its run, which the caller is sent: `print` and `logging` look up the run in a context
variable. Outside of a function both behave as ever. The texts are Convex's: `[LEVEL] text`, the arguments
of `print` shown as an inspector would. Where nobody shows the runs of a database (it is open in a script, a
notebook, a test), they are written out as well.
"""

from __future__ import annotations

import builtins
import contextvars
import logging
from collections.abc import Iterable
from typing import Any, Final

from ..limits import Limits
from ..text import cut
from ..values import watch_logs

_LEVELS: Final = {logging.DEBUG: "DEBUG", logging.INFO: "INFO", logging.WARNING: "WARN"}


class LogLines:
    """The log lines of one run, bounded in number and length."""

    __slots__ = ("_limits", "echo", "lines")

    def __init__(self, limits: Limits, *, echo: bool = False) -> None:
        self._limits = limits
        # Nobody shows the lines of runs, so what is printed goes where it would have gone as well.
        self.echo = echo
        self.lines: list[str] = []

    def add(self, level: str, text: str) -> None:
        if not self._has_room():
            return
        text = cut(text, self._limits.log_line_length_max)
        self.lines.append(f"[{level}] {without_surrogates(text)}")

    def extend(self, lines: Iterable[str]) -> None:
        """Add the lines of a run that this one made."""
        for line in lines:
            if not self._has_room():
                return
            self.lines.append(line)

    def _has_room(self) -> bool:
        """The first line that finds none leaves a notice."""
        count_max = self._limits.log_line_count_max
        if len(self.lines) == count_max:
            self.lines.append(f"[WARN] log truncated: a run may log {count_max} lines")
        return len(self.lines) < count_max


def without_surrogates(text: str) -> str:
    """`text` as UTF-8 can hold it: half a surrogate pair becomes a question mark."""
    return text if text.isascii() else text.encode(errors="replace").decode()


current: contextvars.ContextVar[LogLines | None] = contextvars.ContextVar(
    "reactivedb_log_lines", default=None
)

_print = builtins.print


def _print_to_run(*values: Any, sep: str | None = " ", file: Any = None, **kwargs: Any) -> None:
    lines = current.get()
    if lines is None or file is not None or lines.echo:
        _print(*values, sep=sep, file=file, **kwargs)
    if lines is not None and file is None:
        lines.add(
            "LOG", " ".join(map(repr, values)) if sep == " " else repr((sep or " ").join(map(str, values)))
        )


class _RunHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._emit(record)
        except Exception:  # as every handler does: a line that cannot be written out fails nobody
            self.handleError(record)

    def _emit(self, record: logging.LogRecord) -> None:
        lines = current.get()
        # Being here silences the interpreter's last resort, which warns a program without handlers.
        last = logging.lastResort
        if (lines is None or lines.echo) and last and record.levelno >= last.level and self._is_alone(record):
            last.handle(record)
        if lines is not None:
            lines.add(_LEVELS.get(record.levelno, "ERROR"), record.getMessage())

    def _is_alone(self, record: logging.LogRecord) -> bool:
        """Does no handler of the program's own see the record?"""
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return False
            logger = logger.parent if logger.propagate else None
        return True


_handler = _RunHandler()


def install() -> None:
    """Let `print` and the root logger look for a current run. Harmless to call again."""
    if builtins.print is not _print_to_run:
        builtins.print = _print_to_run
        logging.getLogger().addHandler(_handler)
        watch_logs()
