"""Which commands are there, and with which exit code do they end?

0: done. 1: it was tried and failed (the function, the application, the data, a port). 2: the command line
itself is wrong.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ReactiveDBError
from ..server.admin import Addresses
from ..server.asgi import ReactiveASGI
from ..server.serving import DEFAULT_PORT, DEFAULT_SITE_PORT, Listeners, serve_on
from ..server.serving import run as run_loop
from ..storage import examine
from .call import call, parse_args
from .data_dir import DataDir
from .dev import Settings, announce
from .dev import dev as serve_and_reload
from .failures import ADMIN_KEY_VARIABLE, FAILED, Failures
from .load import AppFolder
from .report import result
from .schema import schema
from .upkeep import add_commands

Folder = Annotated[Path, typer.Argument(metavar="APP_DIR", help="The folder with `app.py`.")]
Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port of clients; 0 takes a free one.")]
SitePort = Annotated[
    int, typer.Option(min=0, max=65535, help="The port of HTTP actions; 0 takes a free one.")
]
Data = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The data folder.", show_default="APP_DIR/.reactivedb")
]
TrustedProxies = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESSES",
        help="Whose `X-Forwarded-For` says who is asking: addresses and networks, with commas between.",
        show_default="FORWARDED_ALLOW_IPS, or this machine",
    ),
]
AllowedHosts = Annotated[
    list[str] | None,
    typer.Option(
        "--allowed-host",
        metavar="NAME",
        help="A name that admin requests may come by, or `*.NAME`; may be given again.",
        show_default="addresses, localhost, and the hosts of CONVEX_CLOUD_URL and CONVEX_SITE_URL",
    ),
]
Compression = Annotated[bool, typer.Option("--compression", help="Offer permessage-deflate.")]

_WAY_OUT = "restore a copy, or read what is left with `sqlite3 FILE .recover` into a new file"

# Locals in a traceback could be keys.
cli = typer.Typer(
    help="A reactive document database for Python.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
cli.add_typer(schema, name="schema")
add_commands(cli)


@cli.command()
def dev(
    app_dir: Folder,
    *,
    port: Port = DEFAULT_PORT,
    site_port: SitePort = DEFAULT_SITE_PORT,
    host: Host = "127.0.0.1",
    data: Data = None,
    compression: Compression = False,
    allowed_host: AllowedHosts = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
) -> None:
    """Serve an application for development: reload on change, log each run."""
    settings = Settings(
        folder=app_dir,
        host=host,
        port=port,
        site_port=site_port,
        data=data,
        compression=compression,
        allowed_hosts=tuple(allowed_host or ()),
    )
    with Failures(app_dir):
        serve_and_reload(settings, open_browser=not no_open)


@cli.command()
def serve(
    app_dir: Folder,
    *,
    port: Port = DEFAULT_PORT,
    site_port: SitePort = DEFAULT_SITE_PORT,
    host: Host = "127.0.0.1",
    data: Data = None,
    compression: Compression = False,
    trusted_proxies: TrustedProxies = None,
    allowed_host: AllowedHosts = None,
) -> None:
    """Serve an application in production. The admin key comes from the variable REACTIVEDB_ADMIN_KEY."""
    with Failures(app_dir) as report:
        report.install_logging()
        app = AppFolder(app_dir).load()
        folder = DataDir.of(app_dir, data)
        folder.create()
        key = folder.production_key(os.environ.get(ADMIN_KEY_VARIABLE))
        if key is None:
            report.note(f"nobody is an administrator: no key was given yet in {ADMIN_KEY_VARIABLE}")
        live = ReactiveASGI(
            app, folder.database, admin_key=key, production=True, allowed_hosts=allowed_host or ()
        )
        listeners = Listeners.bind(host, port, site_port)

        def on_ready(addresses: Addresses) -> None:
            if key is not None:
                folder.remember_key(key)
            live.database.runtime.report.on_run = report.failed_run
            announce(addresses, folder)

        run_loop(
            lambda: serve_on(
                listeners,
                live,
                compression=compression,
                trusted_proxies=trusted_proxies,
                on_ready=on_ready,
            )
        )


@cli.command()
def run(
    path: Annotated[str, typer.Argument(help="The function, such as `messages:send`.")],
    args: Annotated[str, typer.Argument(help="Its arguments, as one JSON object.")] = "{}",
    *,
    url: Annotated[str | None, typer.Option(help="The server.", show_default="from the data folder")] = None,
    admin_key: Annotated[
        str | None,
        typer.Option(help="Its key.", show_default="from the data folder, or REACTIVEDB_ADMIN_KEY"),
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="The data folder.")] = None,
) -> None:
    """Call a function of a running server and print what it returns as JSON."""
    with Failures() as report:
        folder = DataDir.of(Path(), data)
        target = url or folder.known_url()
        if target is None:
            raise ReactiveDBError(
                f"`{folder.path}` knows of no server - run this in the application's folder, "
                "or pass `--data APP_DIR/.reactivedb`, or `--url` and `--admin-key`",
                code="NoTarget",
            )
        given, known = os.environ.get(ADMIN_KEY_VARIABLE, "").strip(), folder.known_key()
        # The key in the folder is that of its own server; another one is asked with the key that was given.
        key = admin_key or ((known or given) if url is None else (given or known))
        report.keep_secret(key)
        outcome = call(target, key, path, parse_args(args))
        for line in outcome.log_lines:
            report.line(line)
        if outcome.succeeded:
            result(_pretty(outcome.value))
            return
        report.line(outcome.error)
        if outcome.error_data is not None:
            report.line(_pretty(outcome.error_data))
        raise typer.Exit(FAILED)


@cli.command()
def doctor(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The database, such as `data.db`.")],
) -> None:
    """Read a whole database file and say what is damaged or does not fit together; change nothing.

    Exit code 1 if something is wrong. A server may be running.
    """
    with Failures() as report:
        found = examine(file)
        for fact in found.facts:
            result(fact)
        for problem in found.problems:
            result(f"PROBLEM {problem}")
        if found.problems:
            report.line(f"{file}: {len(found.problems)} problems - {_WAY_OUT}")
            raise typer.Exit(FAILED)
        result("no problem was found")


@cli.command()
def token(
    subject: Annotated[str, typer.Argument(help="Who it is for: the `sub` of the token.")],
    claims: Annotated[str, typer.Argument(help="What else it says, as one JSON object.")] = "{}",
    *,
    expires_in: Annotated[float, typer.Option(metavar="SECONDS", min=1, help="How long it is good.")] = 86400,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="The data folder.")] = None,
) -> None:
    """Print a user's token that the development server of this data folder accepts."""
    from .users import development_token

    with Failures():
        folder = DataDir.of(Path(), data)
        folder.create()
        result(development_token(folder, subject, parse_args(claims), expires_in_s=expires_in))


def main() -> None:
    """The console script."""
    cli()


def _pretty(tree: object) -> str:
    return json.dumps(tree, indent=2, ensure_ascii=False)
