"""h.67: may a page of any origin call the API, and read why it was refused?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from apps.kinds.app import app
from playwright.sync_api import Page
from server.deployment import Deployment, Urls

from .scripted_server import ScriptedServer

pytestmark = pytest.mark.slow

ASK = """async ([url, body, headers]) => {
  const answer = await fetch(url, { method: "POST", body, headers, credentials: "include" });
  return [answer.status, await answer.json()];
}"""


@pytest.fixture
def urls() -> Iterator[Urls]:
    deployment = Deployment(app)
    yield deployment.start()
    deployment.stop()


def test_h67_a_page_of_another_origin_calls_with_headers_of_its_own(
    page: Page, server: ScriptedServer, urls: Urls
) -> None:
    page.goto(server.url)
    headers = {"content-type": "application/json", "convex-client": "npm-1.48.0", "x-own": "1"}

    def ask(path: str, body: str, **more: str) -> Any:
        return page.evaluate(ASK, [f"{urls.main}{path}", body, headers | more])

    value = ask("/api/query", '{"path": "kinds:string", "args": {"value": "hi"}}')
    assert value == [200, {"status": "success", "value": "hi"}]
    status, refusal = ask("/api/mutation", "{")
    assert (status, refusal["code"]) == (400, "MalformedJson")
    status, refusal = ask("/api/action", "{}", authorization="Bearer not.a.token")
    assert (status, refusal["code"]) == (401, "NoAuthProvider")
    status, refusal = ask("/api/nothing", "{}")
    assert (status, refusal["code"]) == (404, "NotFound")
