"""What does the terminal show?

Standard output carries results only: the line that says a server is ready, and what `run` returned. All
else goes to standard error. Nothing shown holds the admin key, a secret of the environment or what looks like
a credential (`values/sensitive`): all are blanked out, whatever text they come in.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.text import Text
from rich.traceback import Traceback

from ..app import RunLog
from ..errors import ReactiveDBError
from ..limits import DEFAULT_LIMITS
from ..text import CUT_MARK, cut
from ..user_code import contained, is_of, name_of, text_of
from ..values.sensitive import BLANK, redacted

# Of one line or error text; callers decide what stands in it.
_LENGTH_MAX: Final = DEFAULT_LIMITS.log_line_length_max
# The terminal's library takes 30 µs for each line, however short it is.
_LINE_COUNT_MAX: Final = 200
# Of all that is shown of one run, where a line counts as so many characters.
_RUN_LENGTH_MAX: Final = 4 * _LENGTH_MAX
_LINE_LENGTH: Final = 100
# A shorter part of a secret tells nothing of it.
_PART_LENGTH_MIN: Final = 4
_KIND_STYLES: Final = {"query": "cyan", "mutation": "magenta", "action": "yellow"}
# Where nobody reads along, long paths stay whole.
_FILE_WIDTH: Final = 200
# Control characters but tabs and newlines, and those that turn the direction of writing.
_STEERING: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Report:
    """The one who writes to the terminal."""

    def __init__(self, *, secrets: tuple[str, ...] = ()) -> None:
        self._secrets = secrets
        width = None if sys.stderr.isatty() else _FILE_WIDTH
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, width=width)

    def keep_secret(self, secret: str | None) -> None:
        """Blank this out too, from now on."""
        if secret and secret not in self._secrets:
            self._secrets = (*self._secrets, secret)

    def install_logging(self) -> None:
        """Show what the server and libraries warn of."""
        logging.getLogger().addHandler(_ReportHandler(self))
        # What functions log becomes lines of their runs, from `info` on; the handler here shows warnings.
        logging.getLogger().setLevel(logging.INFO)

    def note(self, text: str) -> None:
        self._console.print(Text(self.redacted(text), style="dim"))

    def line(self, text: str) -> None:
        self._console.print(Text(self.redacted(text)))

    def failure(self, error: BaseException, *, folder: Path | None = None) -> None:
        """One line for what the library explains itself; a traceback, cut to the folder, for the rest."""
        try:
            self._failure(error, folder)
        except BaseException as broken:  # the error's class is the application's own
            contained(broken)
            self.line(f"{name_of(error)}: {text_of(error)}")

    def _failure(self, error: BaseException, folder: Path | None) -> None:
        if is_of(error, ReactiveDBError):
            self._console.print(
                Text.assemble(
                    (f"{error.code}: ", "bold red"), self.redacted(error.message + _place(error, folder))
                )
            )
            return
        if _is_own_cause(error):
            # Rich would follow the causes for ever.
            self.line("".join(traceback.format_exception(error)).rstrip())
            return
        frames = error.__traceback__ if folder is None else _own_frames(error, folder)
        shown = Traceback.from_exception(type(error), error, frames, show_locals=False, width=None)
        with self._console.capture() as capture:
            self._console.print(shown)
        # Each line for itself: the last one, which says what it was, is not to be cut off.
        lines = map(self.redacted, capture.get().splitlines())
        self._console.print(Text.from_ansi("\n".join(lines)))

    def run(self, log: RunLog) -> None:
        """One line for a function that ran, and why it failed; called on any thread."""
        kind = "call" if log.kind is None else log.kind.value
        line = Text.assemble(
            (f"{kind:<8} ", _KIND_STYLES.get(kind, "dim")),
            self.redacted(_visible(cut(log.path, _LENGTH_MAX))),
            (f"  {log.duration_s * 1e3:.1f} ms", "dim"),
        )
        if log.error is not None:
            line.append("  failed", "bold red")
        room = _RUN_LENGTH_MAX
        for count, text in enumerate(log.log_lines):
            if room <= 0:
                line.append(f"\n  ... {len(log.log_lines) - count} more lines", "dim")
                break
            shown = self.redacted(text)
            line.append(f"\n  {shown}", "dim")
            # What was redacted has been read all the same.
            room -= max(len(shown), min(len(text), _LENGTH_MAX)) + _LINE_LENGTH * shown.count("\n")
        if log.error is not None:
            shown = self.redacted(_visible(cut(_what_failed(log.error.message), _LENGTH_MAX)))
            line.append("\n  " + shown.replace("\n", "\n  "), "red")
        self._console.print(line)

    def failed_run(self, log: RunLog) -> None:
        """As `run`, for a server that logs failures only."""
        if log.error is not None:
            self.run(log)

    def redacted(self, text: str) -> str:
        """The text as it may be shown, cut to a bounded length; linear in what is shown."""
        text = _first_lines(cut(text, _LENGTH_MAX))
        for secret in self._secrets:
            text = text.replace(secret, BLANK)
            if CUT_MARK in text:
                text = _without_part(text, secret)
        return redacted(text)


class _ReportHandler(logging.Handler):
    """Warnings and errors of the server and of libraries, with their tracebacks."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.WARNING)
        self._report = report
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._report.line(self.format(record))
        except Exception:  # as every handler does: a line that cannot be written out fails nobody
            self.handleError(record)


def result(text: str) -> None:
    """Write to standard output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _first_lines(text: str) -> str:
    lines = text.split("\n", _LINE_COUNT_MAX)
    return text if len(lines) <= _LINE_COUNT_MAX else "\n".join(lines[:-1]) + CUT_MARK


def _without_part(text: str, secret: str) -> str:
    """A text that was cut may end in the beginning of a secret."""
    for length in range(len(secret) - 1, _PART_LENGTH_MIN - 1, -1):
        text = text.replace(secret[:length] + CUT_MARK, BLANK + CUT_MARK)
    return text


def _visible(text: str) -> str:
    """A text that a caller may have made, without what would steer the terminal."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)


def _what_failed(message: str) -> str:
    """An error without the line that numbers the request, which only its caller can make use of."""
    head, _, rest = message.partition("\n")
    return rest if head.startswith("[Request ID") and rest else message


def _is_own_cause(error: BaseException) -> bool:
    """Do the errors that led to it lead back to one of them?"""
    seen: set[int] = set()
    here: BaseException | None = error
    while here is not None:
        if id(here) in seen:
            return True
        seen.add(id(here))
        here = here.__cause__ if here.__cause__ is not None else here.__context__
    return False


def _own_frames(error: BaseException, folder: Path) -> TracebackType | None:
    """The traceback from the first frame that lies in the folder on; all of it if none does."""
    here = error.__traceback__
    while here is not None:
        if Path(here.tb_frame.f_code.co_filename).is_relative_to(folder):
            return here
        here = here.tb_next
    # A syntax error shows its own line; the frames are those of the import.
    return None if isinstance(error, SyntaxError) else error.__traceback__


def _place(error: BaseException, folder: Path | None) -> str:
    """Where in the folder an error came from, as ` (file:line)`."""
    if folder is None:
        return ""
    place = ""
    here = error.__traceback__
    while here is not None:
        file = Path(here.tb_frame.f_code.co_filename)
        if file.is_relative_to(folder):
            place = f" ({file.relative_to(folder)}:{here.tb_lineno})"
        here = here.tb_next
    return place
