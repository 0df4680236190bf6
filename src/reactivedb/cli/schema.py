"""What does the schema of an application mean for the data there is?

`schema check` says what would not fit and changes nothing; `schema migrate` does now what a server would do
while it serves. Both work on what is stored, not on a server.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ..app import check_schema, dry_run, migrate
from ..engine import MigrationPreview, Offender, SchemaChange, SchemaProgress
from ..errors import SchemaError
from ..values import to_jsonable
from .data_dir import DataDir
from .failures import FAILED, Failures
from .load import AppFolder
from .report import result

_Folder = Annotated[Path, typer.Argument(metavar="APP_DIR", help="The folder with `app.py`.")]
_Data = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The data folder.", show_default="APP_DIR/.reactivedb")
]

schema = typer.Typer(help="Compare the schema with what is stored, and migrate.", no_args_is_help=True)


@schema.command()
def check(app_dir: _Folder, *, data: _Data = None) -> None:
    """List what the schema would change and which documents do not fit; change nothing.

    Exit code 1 if something does not fit. A server may be running.
    """
    with Failures(app_dir):
        app = AppFolder(app_dir).load()
        file = DataDir.of(app_dir, data).database
        try:
            report = check_schema(app, file)
        except SchemaError as error:
            if error.code != "SchemaMismatch":
                raise
            _show_changes(error.fields["changes"])
            _show_offenders(error.fields["offenders"], error.fields["count"])
            raise typer.Exit(FAILED) from None
        _show_changes(list(report.changes))
        for name in report.migrations:
            result(f"migration `{name}` is to run")
        result("every stored document fits")


@schema.command("migrate")
def migrate_command(
    app_dir: _Folder,
    *,
    data: _Data = None,
    only_show: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, change nothing.")
    ] = False,
) -> None:
    """Run the migrations and build the indexes that are left, without a server.

    A server does the same while it serves. What was done when this is interrupted stays done.
    """
    with Failures(app_dir):
        app = AppFolder(app_dir).load()
        file = DataDir.of(app_dir, data).database
        if only_show:
            _show_previews(dry_run(app, file))
        elif not file.exists():
            result("nothing is stored yet")
        else:
            with _Bars() as bars:
                done = migrate(app, file, bars.show)
            for row in done:
                result(f"{row.kind} `{row.name}` of `{row.table}`: {row.total} documents")
            result("nothing is left to do")


def _show_changes(changes: list[SchemaChange]) -> None:
    for change in changes:
        result(str(change))


def _show_offenders(offenders: list[Offender], count: int) -> None:
    result(f"{count} stored document{'s do' if count > 1 else ' does'} not fit:")
    for row in offenders:
        place = row.path or "(the document)"
        result(f"  {row.table} {row.id} {place}: expected {row.expected}, got {row.got}")
    if count > len(offenders):
        result(f"  ... and {count - len(offenders)} more")


def _show_previews(previews: list[MigrationPreview]) -> None:
    for preview in previews:
        names = ", ".join(f"`{name}`" for name in preview.migrations)
        result(
            f"{names} of `{preview.table}`: {preview.changed} of {preview.total} documents would change, "
            f"{preview.deleted} would be deleted"
        )
        for id, before, after in preview.examples:
            result(f"  {id}\n  - {_line(before)}\n  + {'(deleted)' if after is None else _line(after)}")
    if not previews:
        result("no migration is to run")


def _line(value: object) -> str:
    return json.dumps(to_jsonable(value), ensure_ascii=False)  # pyright: ignore[reportArgumentType]


class _Bars:
    """One bar for each thing that is being done, on standard error."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[tuple[str, str, str], TaskID] = {}

    def show(self, rows: list[SchemaProgress]) -> None:
        for row in rows:
            key = (row.kind, row.table, row.name)
            if key not in self._tasks:
                title = f"{row.kind} {row.table}.{row.name}"
                self._tasks[key] = self._progress.add_task(title, total=row.total)
            self._progress.update(self._tasks[key], completed=row.done)

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
