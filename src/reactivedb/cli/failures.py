"""With which words and which exit code does a command end that failed?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NoReturn, cast

import typer

from ..errors import ReactiveDBError
from ..values import secrets_in
from .report import Report

FAILED: Final = 1
ADMIN_KEY_VARIABLE: Final = "REACTIVEDB_ADMIN_KEY"
_USAGE: Final = 2
_SECRET_LENGTH_MIN: Final = 6
_USAGE_CODES: Final = {
    "NoAppFolder",
    "BadArguments",
    "NoTarget",
    "BadURL",
    "FileMissing",
    "InvalidAllowedHost",
}


def known_secrets() -> tuple[str, ...]:
    """What the environment of this process holds and no log may."""
    key = os.environ.get(ADMIN_KEY_VARIABLE, "").strip()
    # A shorter one is a part of other words, which would be torn apart; nobody else is served by it.
    return ((key,) if len(key) >= _SECRET_LENGTH_MIN else ()) + secrets_in(os.environ)


class Failures:
    """Shows what goes wrong inside of it and ends the command with its exit code."""

    def __init__(self, app_dir: Path | None = None) -> None:
        self._folder = app_dir.resolve() if app_dir else None
        self._report = Report(secrets=known_secrets())

    def __enter__(self) -> Report:
        return self._report

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        match _reason(error):
            case None | typer.Exit():
                return
            case KeyboardInterrupt():
                raise typer.Exit(0) from None
            case SystemExit():
                return
            case reason:
                self._fail(reason)

    def _fail(self, error: BaseException) -> NoReturn:
        self._report.failure(error, folder=self._folder)
        is_usage = isinstance(error, ReactiveDBError) and error.code in _USAGE_CODES
        raise typer.Exit(_USAGE if is_usage else FAILED) from None


def _reason(error: BaseException | None) -> BaseException | None:
    """The one error inside of a group: a task group wraps what ended it."""
    while isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        if len(group.exceptions) != 1:
            return group
        error = group.exceptions[0]
    return error
