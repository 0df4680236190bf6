"""How does an operator back a database up, restore it, and make its file smaller?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ReactiveDBError
from ..storage import back_up, compact_file, restore
from .call import ask
from .data_dir import DataDir
from .failures import Failures
from .report import result

_File = Annotated[Path, typer.Argument(metavar="FILE", help="The database, such as `.reactivedb/data.db`.")]
_Url = Annotated[str | None, typer.Option(help="The server.", show_default="from the data folder")]
_Key = Annotated[str | None, typer.Option(help="Its key.", show_default="from the data folder")]
_Data = Annotated[Path | None, typer.Option(metavar="DIR", help="The data folder.")]


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


def compact_command(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="A database that no program has open.", show_default="the server's"
        ),
    ] = None,
    *,
    url: _Url = None,
    admin_key: _Key = None,
    data: _Data = None,
) -> None:
    """Give the room of what was deleted back to the disk, in a running server or of a closed file."""
    with Failures():
        if file is not None:
            before, after = compact_file(file)
        else:
            report = _ask_server("compact", {}, url, admin_key, data)
            before, after = report["size_before_bytes"], report["size_after_bytes"]
        result(f"{before} bytes before, {after} bytes now")


def erase_command(
    id: Annotated[str, typer.Argument(help="The id of the document.")],
    *,
    url: _Url = None,
    admin_key: _Key = None,
    data: _Data = None,
) -> None:
    """Delete a document in a running server and take it out of all that the database remembers."""
    with Failures():
        report = _ask_server("erase_document", {"id": id}, url, admin_key, data)
        result(
            f"erased `{id}`: {report['version_count']} versions, {report['answer_count']} recorded answers, "
            f"{report['job_count']} jobs"
        )
        for other in report["deleted_ids"]:
            if other != id:
                result(f"deleted along with it, not erased: `{other}`")
        for job in report["running_job_ids"]:
            result(f"a job that runs now holds it, erase it when it has ended: `{job}`")
        result(report["backups"])


def _ask_server(
    route: str, question: dict[str, Any], url: str | None, admin_key: str | None, data: Path | None
) -> Any:
    folder = DataDir.of(Path(), data)
    target = url or folder.known_url()
    if target is None:
        raise ReactiveDBError(
            f"`{folder.path}` knows of no server - run this in the application's folder, or pass "
            "`--data APP_DIR/.reactivedb`, or `--url` and `--admin-key`",
            code="NoTarget",
        )
    return ask(target, admin_key or folder.known_key(), route, question)


def add_commands(cli: typer.Typer) -> None:
    cli.command("backup")(backup_command)
    cli.command("restore")(restore_command)
    cli.command("compact")(compact_command)
    cli.command("erase")(erase_command)
