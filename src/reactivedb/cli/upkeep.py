"""How does an operator back a database up, restore it, and make its file smaller?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..storage import back_up, compact_file, restore
from .failures import Failures
from .report import result

_File = Annotated[Path, typer.Argument(metavar="FILE", help="The database, such as `.reactivedb/data.db`.")]


def backup_command(
    file: _File, folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the backup is.")]
) -> None:
    """Back up a database, also that of a running server; copies what has changed since the last time."""
    with Failures():
        report = back_up(file, folder)
        kind = "all of it" if report.is_whole else "what has changed"
        result(
            f"backed up {kind}: {report.write_count} writes and {report.file_count} files; "
            f"{report.document_count} documents"
        )
        result(f"can be restored as of {report.oldest_ts} to {report.ts}")


def restore_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the backup is.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The database to make.")],
    *,
    at: Annotated[
        int | None,
        typer.Option(metavar="TIMESTAMP", help="In ns since the epoch.", show_default="the newest"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a database that is there.")] = False,
    without_missing_files: Annotated[
        bool, typer.Option("--without-missing-files", help="Do without files that no backup has.")
    ] = False,
) -> None:
    """Make a database of a backup, as of any timestamp that it holds."""
    with Failures():
        report = restore(folder, file, at=at, overwrite=overwrite, allow_missing_files=without_missing_files)
        result(f"restored as of {report.ts}: {report.document_count} documents, {report.file_count} files")
        for id in report.missing_file_ids:
            result(f"no backup has the bytes of the file `{id}`")


def compact_command(file: _File) -> None:
    """Make a database file that no program has open as small as it can be."""
    with Failures():
        before, after = compact_file(file)
        result(f"{before} bytes before, {after} bytes now")


def add_commands(cli: typer.Typer) -> None:
    cli.command("backup")(backup_command)
    cli.command("restore")(restore_command)
    cli.command("compact")(compact_command)
