"""User code that nobody calls: crons, pending jobs at a start, reloads, migrations, handlers of the log."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.cli.dev import reload
from reactivedb.cli.load import AppFolder
from reactivedb.cli.report import Report
from reactivedb.functions import log_lines
from reactivedb.testing import FakeClock

from . import places
from .raising import KINDS, Panic, fail


@pytest.fixture(autouse=True)
def disarmed() -> Any:
    places.armed.clear()
    yield
    places.armed.clear()


@pytest.mark.parametrize("kind", KINDS)
def test_a_cron_job_that_raises_has_failed_and_runs_again(kind: str) -> None:
    clock = FakeClock()
    with places.make_app(with_crons=True).open(clock=clock) as db:
        places.armed[:] = [kind]
        for _ in range(2):
            db.run_until_idle()
            clock.advance(1)
        db.run_until_idle()
        errors = [error for error in db.query(places.job_errors) if error]
        assert len(errors) >= 4
        assert all(KINDS[kind].told in error for error in errors)
        places.armed.clear()
        clock.advance(1)
        db.run_until_idle()
        # Those that succeed are deleted; the next ones wait.
        assert db.query(places.job_states).count("pending") == 2
        assert db.mutation(places.add, "others go on") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_pending_job_whose_arguments_cannot_be_read_at_a_start_is_set_aside(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = places.make_app()
    with app.open(tmp_path / "data.db", jobs=False) as db:
        db.mutation(places.schedule_armed)
    places.armed[:] = [kind]
    for _ in range(2):
        with app.open(tmp_path / "data.db") as db:
            db.run_until_idle()
            assert db.query(places.job_states) == ["failed"]
            assert KINDS[kind].told in db.query(places.job_errors)[0]
    assert "cannot run and has failed" in caplog.text


def test_a_cron_job_that_cannot_be_scheduled_does_not_keep_the_others_from_running(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @rdb.mutation
    def tick(ctx: rdb.MutationCtx, text: str) -> None:
        ctx.db.insert(places.Note(text=text))

    @rdb.query
    def texts(ctx: rdb.QueryCtx) -> list[str]:
        return [note.text for note in ctx.db.query(places.Note)]

    app = app_of(tick, texts, places.Note, limits=rdb.Limits(scheduled_call_size_bytes_max=100))
    crons = rdb.Crons()
    crons.interval("too large", tick, seconds=1, args={"text": "x" * 1000})
    crons.interval("fits", tick, seconds=1, args={"text": "fits"})
    app.crons = crons.bind(app.registry)
    clock = FakeClock()
    with app.open(clock=clock) as db:
        db.run_until_idle()
        clock.advance(1)
        db.run_until_idle()
        assert set(db.query(texts)) == {"fits"}
    assert "the cron job `too large` cannot be scheduled" in caplog.text


APP = """
import reactivedb as rdb
import notes

app = rdb.App(notes)
"""
NOTES = """
import reactivedb as rdb


@rdb.query
def version(ctx: rdb.QueryCtx) -> int:
    return {version}
"""


# A traceback of a thousand frames takes a second to be made pretty.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "recursion"])
def test_an_import_that_raises_at_a_reload_leaves_the_application_before(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"app_{abs(hash(kind))}"
    directory = tmp_path / name
    directory.mkdir()
    (directory / "__init__.py").touch()
    (directory / "app.py").write_text(APP.replace("import notes", f"from {name} import notes"))
    (directory / "notes.py").write_text(NOTES.format(version=1))
    folder = AppFolder(directory)

    async def main() -> None:
        async with folder.load().open_async() as db:
            (directory / "notes.py").write_text(
                NOTES.format(version=2) + f"\n\nfrom user_code.raising import fail\nfail({kind!r})\n"
            )
            assert not reload(folder, db.runtime, Report())
            assert (await db.runtime.call("query", "notes:version", {})).value == b"1"
            (directory / "notes.py").write_text(NOTES.format(version=3))
            assert reload(folder, db.runtime, Report())
            assert (await db.runtime.call("query", "notes:version", {})).value == b"3"

    anyio.run(main)
    shown = capsys.readouterr().err
    assert "not reloaded" in shown
    assert {"system exit": "SystemExit", "data raises": "ada"}.get(kind, KINDS[kind].told) in shown


@pytest.mark.parametrize("kind", KINDS)
def test_a_migration_that_raises_refuses_the_new_schema_alone(kind: str) -> None:
    @rdb.migration(places.Note)
    def broken(document: dict[str, Any]) -> dict[str, Any]:
        fail(kind)

    async def main() -> None:
        app = app_of(places.Note, places.add, places.count, name=places.__name__)
        async with app.open_async() as db:
            await db.mutation(places.add, "one")
            changed = app_of(places.Note, places.add, places.count, broken, name=places.__name__)
            with pytest.raises(rdb.SchemaError) as caught:
                db.runtime.reload(changed)
            told = "SystemExit: 3" if kind == "system exit" else KINDS[kind].told
            assert told in str(caught.value)
            assert await db.query(places.count) == 1

    anyio.run(main)


class _Refuses(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise Panic


def test_a_log_handler_of_the_program_that_raises_fails_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("reactivedb")
    handler = _Refuses()
    logger.addHandler(handler)
    try:
        with places.make_app().open() as db:
            db.runtime.report.logs_failures = True
            db.mutation(places.schedule, "exception")
            db.run_until_idle()
            assert db.query(places.job_states) == ["failed", "failed"]
    finally:
        logger.removeHandler(handler)
    assert "a handler of the program's log raised `Panic`" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["exception", "str raises"])
def test_a_line_that_cannot_be_logged_does_not_fail_the_function(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest's own handler raises on purpose.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logging.getLogger().addHandler(log_lines._handler)  # pyright: ignore[reportPrivateUsage]
    with places.make_app().open() as db:
        assert db.mutation(places.log_badly, kind) == "logged"
