"""Do users of an application's own sign in with the official clients?"""

from __future__ import annotations

from pathlib import Path

from .conftest import JS, JsRun, StartsScript
from .server import APPS, DevServer

GUIDE = Path(__file__).parents[2] / "docs" / "auth.md"


APP = APPS / "accounts"


def test_npms_client_signs_up_refreshes_survives_a_restart_and_signs_out(
    node: StartsScript, server: DevServer
) -> None:
    script = node("signIn", "lifetime", server.url)
    script.hear("refreshed", timeout_s=30)
    server.stop()
    server.start()
    script.tell("restarted")
    script.finish(timeout_s=30)


def test_tabs_that_refresh_at_once_all_stay_signed_in(node: StartsScript, server: DevServer) -> None:
    script = node("signIn", "tabs", server.url)
    script.hear("open")
    server.kill()
    server.start()
    script.tell("restarted")
    script.finish()


def test_pypis_client_signs_up_refreshes_and_signs_out_and_no_secret_is_logged(
    py: JsRun, server: DevServer
) -> None:
    py("sign_in", "lifetime")
    assert "signIn:signUp" in server.log
    assert "correct horse" not in server.log
    assert "eyJ" not in server.log


def test_the_guide_shows_the_code_that_these_tests_run() -> None:
    assert (JS / "session.mjs").read_text() in GUIDE.read_text()
