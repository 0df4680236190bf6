"""What does the terminal show of texts that callers have made?"""

from __future__ import annotations

import pytest

from reactivedb.app import RunLog
from reactivedb.cli.report import Report
from reactivedb.functions import CallError, Kind
from reactivedb.limits import DEFAULT_LIMITS
from reactivedb.text import CUT_MARK

KEY = "name|0123456789abcdef0123456789abcdef"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"
LINE_MAX = DEFAULT_LIMITS.log_line_length_max


@pytest.mark.parametrize("before", ["", "x", "eyJ", "eyJa", "eyJhbGciOiJ9.", "a.b.", "\\n", "=" * 50])
def test_a_token_is_not_shown_whatever_stands_around_it(before: str) -> None:
    shown = Report().redacted(f"{before}{TOKEN} and {before}{TOKEN}")
    assert "[redacted]" in shown
    assert "c2lnbmF0dXJl" not in shown
    assert "eyJzdWIi" not in shown


@pytest.mark.parametrize("text", ["eyJeyJeyJ", "eyJhbGciOiJSUzI1NiJ9", "eyJ.a.b", "a.b.c"])
def test_what_is_no_token_is_shown(text: str) -> None:
    assert Report().redacted(text) == text


@pytest.mark.parametrize("kept", range(6, len(TOKEN), 5))
def test_of_a_token_that_was_cut_off_nothing_behind_its_header_is_shown(kept: int) -> None:
    room = LINE_MAX - kept
    shown = Report().redacted(" " * room + TOKEN + " " * 10)
    assert shown.endswith(CUT_MARK)
    assert "eyJz" not in shown
    assert len(shown.strip()) <= len(TOKEN.partition(".")[0] + ".e" + CUT_MARK)


@pytest.mark.parametrize("kept", range(4, len(KEY)))
def test_a_key_that_was_cut_off_is_not_shown(kept: int) -> None:
    shown = Report(secrets=(KEY,)).redacted(" " * (LINE_MAX - kept) + KEY + " " * 10)
    assert shown.strip() == "[redacted]" + CUT_MARK


def run_of(text: str, count: int = 1) -> RunLog:
    return RunLog(Kind.MUTATION, text, 0.0, CallError(text), [text] * count)


@pytest.mark.parametrize("text", ["x", "eyJ", "\n", "\x1b", "a b", "ä"])
def test_a_run_takes_a_bounded_place_whatever_it_says(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Report().run(run_of(text * (2 * LINE_MAX), count=256))
    shown = capsys.readouterr().err
    # Path, error (each escape has four characters) and some lines.
    assert len(shown) < 12 * LINE_MAX
    assert shown.count("\n") < 3_000
    assert "failed" in shown


def test_a_warning_is_one_bounded_line(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    report.line("x" * 10 * LINE_MAX)
    report.line("\n" * LINE_MAX)
    assert len(capsys.readouterr().err) < LINE_MAX + 1_000


def test_an_error_of_the_program_is_shown_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("x" * 5_000 + " end of it")
    except ValueError as error:
        Report().failure(error)
    assert "end of it" in capsys.readouterr().err
